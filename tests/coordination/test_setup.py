"""The streams are made with the settings on which locks depend, corrected, and made again with higher tokens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from remaphore.coordination import streams
from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.setup import make_streams
from remaphore.errors import CoordinationUnavailableError
from remaphore.transport.nats_client import NatsBus

StreamsOf = Callable[..., AbstractAsyncContextManager[tuple[JetStream, NatsBus, str]]]


def wanted(root: str) -> dict[str, dict[str, object]]:
    return {each["name"]: each for each in streams.definitions(root, replicas=1, first_sequence=0)}


async def found_differences(js: JetStream, root: str) -> list[str]:
    return [
        difference
        for name, settings in wanted(root).items()
        for difference in streams.differences((await js.info(name))["config"], settings)
    ]


async def test_the_streams_are_made_once_and_then_left_as_they_are(streams_of: StreamsOf) -> None:
    async with streams_of(made=False) as (js, _, root):
        assert await make_streams(js, root, replicas=1) == [
            f"{root}-coord: made, replicas 1",
            f"{root}-queue: made, replicas 1",
        ]
        await js.check()
        assert await found_differences(js, root) == []
        token = await js.publish(f"{root}.coord.lock.a.0", b"x", after=0)
        before = await js.info(js.records)
        assert await make_streams(js, root, replicas=1) == [
            f"{root}-coord: unchanged, replicas 1",
            f"{root}-queue: unchanged, replicas 1",
        ]
        assert (await js.info(js.records))["config"] == before["config"]
        assert (await js.at(token)) is not None


async def test_made_again_all_locks_are_free_and_the_tokens_higher(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, root):
        token = await js.publish(f"{root}.coord.lock.a.0", b"x", after=0)
        for _ in range(2):  # also at once after the last: the clock of the administrator may be behind
            lines = await make_streams(js, root, replicas=1, recreate=True)
            assert lines == [f"{root}-coord: made again, replicas 1", f"{root}-queue: made again, replicas 1"]
            assert await js.last(f"{root}.coord.lock.a.0") is None
            last, token = token, await js.publish(f"{root}.coord.lock.a.0", b"x", after=0)
            assert token > last


async def test_tokens_grow_also_if_the_clock_was_set_back(
    streams_of: StreamsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with streams_of() as (js, _, root):
        token = await js.publish(f"{root}.coord.lock.a.0", b"x", after=0)
        monkeypatch.setattr("remaphore.coordination.setup.time.time_ns", lambda: streams.LEAST_FIRST_SEQUENCE * 1000)
        await make_streams(js, root, replicas=1, recreate=True)
        assert await js.publish(f"{root}.coord.lock.a.0", b"x", after=0) > token


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"max_msgs_per_subject": 1}, "max_msgs_per_subject is 1, not 16"),
        ({"republish": None}, "republish is None"),
        ({"max_msg_size": 65536, "discard": "old"}, "discard is old, not new"),
    ],
)
async def test_other_settings_are_corrected(changed: dict[str, object], said: str, streams_of: StreamsOf) -> None:
    async with streams_of(made=False) as (js, _, root):
        settings, _ = streams.definitions(root, replicas=1, first_sequence=streams.LEAST_FIRST_SEQUENCE)
        settings.update(changed)
        await js.api(f"STREAM.CREATE.{js.records}", {name: each for name, each in settings.items() if each is not None})
        assert any(said in difference for difference in await found_differences_of_records(js, root))
        line, _ = await make_streams(js, root, replicas=1)
        assert line.startswith(f"{root}-coord: corrected (")
        assert said in line
        assert await found_differences(js, root) == []


async def found_differences_of_records(js: JetStream, root: str) -> list[str]:
    return list(streams.differences((await js.info(js.records))["config"], wanted(root)[js.records]))


async def test_what_cannot_be_corrected_needs_to_be_made_again(streams_of: StreamsOf) -> None:
    async with streams_of(made=False) as (js, _, root):
        settings, _ = streams.definitions(root, replicas=1, first_sequence=1)
        await js.api(f"STREAM.CREATE.{js.records}", settings)
        with pytest.raises(CoordinationUnavailableError, match="first_seq is not a time") as caught:
            await make_streams(js, root, replicas=1)
        assert "--recreate" in caught.value.hint
        await make_streams(js, root, replicas=1, recreate=True)
        assert await found_differences(js, root) == []


@pytest.mark.parametrize("storage", ["memory"])
async def test_records_in_memory_need_to_be_made_again(storage: str, streams_of: StreamsOf) -> None:
    async with streams_of(made=False) as (js, _, root):
        settings, _ = streams.definitions(root, replicas=1, first_sequence=streams.LEAST_FIRST_SEQUENCE)
        await js.api(f"STREAM.CREATE.{js.records}", {**settings, "storage": storage})
        with pytest.raises(CoordinationUnavailableError, match="storage is memory, not file") as caught:
            await make_streams(js, root, replicas=1)
        assert "--recreate" in caught.value.hint


@pytest.mark.parametrize("captures", ["{}.>", "{}.coord.>", "{}.*.lock.>"])
async def test_another_stream_that_stores_our_subjects_is_named(captures: str, streams_of: StreamsOf) -> None:
    async with streams_of(made=False) as (js, _, root):
        name = f"CAPTURE-{root}"
        await js.api(f"STREAM.CREATE.{name}", {"name": name, "subjects": [captures.format(root)]})
        with pytest.raises(CoordinationUnavailableError, match=f"another stream stores .*: {name}") as caught:
            await make_streams(js, root, replicas=1)
        assert "delete it" in caught.value.hint


async def test_replicas_need_a_cluster(streams_of: StreamsOf) -> None:
    async with streams_of(made=False) as (js, _, root):
        with pytest.raises(CoordinationUnavailableError, match="too few servers for 3 replicas") as caught:
            await make_streams(js, root, replicas=3)
        assert "cluster" in caught.value.hint


@pytest.mark.parametrize(
    ("verbs", "locks"),
    [
        ({"ping"}, []),
        ({"lock:deploy", "ping"}, ["deploy"]),
        ({"lock:deploy", "evict:backup"}, ["backup", "deploy"]),
        ({"lock:*", "lock:deploy"}, ["*"]),
        ({"*"}, ["*"]),
    ],
)
def test_a_login_may_write_to_its_locks_alone(verbs: set[str], locks: list[str]) -> None:
    granted = streams.permissions("r", frozenset(verbs))
    records = [each for each in granted["publish"]["allow"] if each.startswith("r.coord")]
    assert records == [f"r.coord.lock.{name}.*" for name in locks]
    assert bool(locks) is any(each.startswith("$JS") for each in granted["publish"]["allow"])
    assert granted["publish"]["deny"] == ["r.inbox.>", "r.happened.>"]
