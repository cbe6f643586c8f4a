"""Records in a real JetStream: what is stored, what is read, and which error says what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import nats
import pytest
from nats.aio.msg import Msg

from remaphore.coordination import streams
from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.lock_states import evict, states
from remaphore.coordination.setup import make_streams
from remaphore.errors import (
    CoordinationUnavailableError,
    NoResponseError,
    SequenceConflictError,
)
from remaphore.transport.nats_client import NatsBus
from tests.harness.locks import lock_config, lock_of
from tests.harness.nats_server import NatsServer, connected, running

StreamsOf = Callable[..., AbstractAsyncContextManager[tuple[JetStream, NatsBus, str]]]


async def test_what_is_stored_is_read_back(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, root):
        where, other = f"{root}.coord.lock.a.0", f"{root}.coord.lock.a.1"
        assert await js.last(where) is None
        assert await js.history(where) == []
        first = await js.publish(where, b"one", after=0)
        assert first >= streams.LEAST_FIRST_SEQUENCE
        await js.publish(other, b"\0\r\n")
        second = await js.publish(where, b"two", after=first)
        assert await js.history(where) == [(first, where, b"one"), (second, where, b"two")]
        assert await js.history(where, first=first + 1) == [(second, where, b"two")]
        assert await js.last(where) == await js.at(second) == (second, where, b"two")
        assert await js.at(second + 5) is None
        assert await js.latest(js.records, f"{root}.coord.lock.*.*") == [
            (first + 1, other, b"\0\r\n"),
            (second, where, b"two"),
        ]


@pytest.mark.parametrize("what", ["make the streams", "take", "list", "release"])
async def test_a_server_that_is_too_old_is_the_one_error_of_all_that_uses_locks(
    what: str, streams_of: StreamsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = lock_config(1, root="r")
    async with streams_of(made=False) as (js, _, root):
        uses = {
            "make the streams": lambda: make_streams(js, root),
            "take": lambda: lock_of(js, 1).take(wait=0),
            "list": lambda: states(js, config),
            "release": lambda: evict(js, config, "a"),
        }
        monkeypatch.setattr(streams, "OLDEST_SERVER", (99, 1, 0))
        with pytest.raises(
            CoordinationUnavailableError, match=r"^nats-server \d+\.\d+\.\d+: locks need 99\.1\.0 or newer$"
        ):
            await uses[what]()
        monkeypatch.undo()
        with pytest.raises(CoordinationUnavailableError, match="no stream"):  # nothing was made
            await js.check()


@pytest.mark.parametrize(
    ("version", "too_old"),
    [
        *[(version, True) for version in ("2.9.10", "2.10.29", "1.4.1", "0.9", "2.10.0-beta.1", "2", "2.10.9.9")],
        *[(version, False) for version in ("2.11.0", "2.11.0-RC.1", "2.12", "3", "10.0.0", "2.111.0")],
        *[(version, False) for version in ("", "unknown", "v2", "2.x.1", "2.9.", "\N{SUPERSCRIPT TWO}.1", "\n")],
    ],
)
def test_the_version_decides_and_an_unknown_one_does_not(version: str, too_old: bool) -> None:
    assert bool(streams.version_problem(version)) is too_old


async def test_a_record_is_stored_only_after_the_one_that_it_follows(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, root):
        where = f"{root}.coord.lock.a.0"
        first = await js.publish(where, b"one", after=0)
        for after in (0, first - 1, first + 1):
            with pytest.raises(SequenceConflictError):
                await js.publish(where, b"two", after=after)
        results = await asyncio.gather(
            *(js.publish(where, b"%d" % number, after=first) for number in range(20)), return_exceptions=True
        )
        assert sum(isinstance(result, int) for result in results) == 1
        assert sum(isinstance(result, SequenceConflictError) for result in results) == 19


async def test_nothing_in_the_stream_can_be_deleted(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, bus, root):
        where = f"{root}.coord.lock.a.0"
        first = await js.publish(where, b"one")
        for name, body in (
            (f"STREAM.PURGE.{js.records}", {}),
            (f"STREAM.MSG.DELETE.{js.records}", {"seq": first}),
        ):
            with pytest.raises(CoordinationUnavailableError, match="not permitted"):
                await js.api(name, body)
        (answer,) = await bus.request(
            where, b"", inbox="i", timeout=5, headers={"Nats-Rollup": "sub", "Nats-Msg-Id": "x"}
        )
        assert b"rollup not permitted" in answer.data
        with pytest.raises(CoordinationUnavailableError, match="maximum"):
            await js.publish(where, b"x" * (streams.MAX_STORED_BYTES + 1))
        assert await js.history(where) == [(first, where, b"one")]


async def test_old_records_make_room_for_new_ones_of_the_same_subject(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, root):
        where = f"{root}.coord.lock.a.0"
        stored = [await js.publish(where, b"%d" % number) for number in range(streams.HISTORY + 3)]
        assert [entry.sequence for entry in await js.history(where)] == stored[3:]


async def test_what_is_stored_is_announced(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, bus, root):
        heard: asyncio.Queue[bytes] = asyncio.Queue()
        await bus.subscribe(f"{root}.happened.lock.a.0", heard.put_nowait)
        await js.publish(f"{root}.coord.lock.a.0", b"one")
        assert await asyncio.wait_for(heard.get(), 10) == b"one"


async def test_a_waiter_disappears_when_it_is_not_renewed(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, root):
        where = f"{root}.queue.lock.a.session"
        await js.publish(where, b"ticket", ttl=1)
        assert [entry.raw for entry in await js.latest(js.queue, f"{root}.queue.lock.a.*")] == [b"ticket"]
        async with asyncio.timeout(20):
            while await js.latest(js.queue, f"{root}.queue.lock.a.*"):
                await asyncio.sleep(0.1)


async def test_missing_streams_are_an_error_that_names_the_command(streams_of: StreamsOf) -> None:
    async with streams_of(made=False) as (js, _, root):
        with pytest.raises(CoordinationUnavailableError, match=f"no stream {root}-coord") as caught:
            await js.check()
        assert "coordination init" in caught.value.hint
        with pytest.raises(CoordinationUnavailableError, match="no stream"):
            await js.last("x")
        for attempt in (js.publish(f"{root}.coord.lock.a.0", b""), js.history("x")):
            with pytest.raises(NoResponseError, match="now"):  # as while a cluster has no leader
                await attempt


async def test_jetstream_that_is_off_is_an_error(tmp_path: Path) -> None:
    async with running(tmp_path) as server, connected(server) as bus:
        js = JetStream(bus, "remaphore")
        for attempt in (js.check(), js.last("x"), make_streams(js, "remaphore", replicas=1)):
            with pytest.raises(CoordinationUnavailableError, match="JetStream is off"):
                await attempt


PERMISSIONS = """
accounts: {{ A: {{ jetstream: enabled, users: [
  {{ user: node, password: x, permissions: {{ publish: {{ allow: [{publish}] }}, subscribe: {{ allow: ["r.>"] }} }} }},
  {{ user: admin, password: x }} ] }} }}
"""


@pytest.mark.parametrize("denied", ["STREAM.INFO", "STREAM.MSG.GET", "DIRECT.GET", "coord"])
async def test_a_missing_permission_is_named(denied: str, tmp_path: Path) -> None:
    allowed = [subject for subject in (*streams.reads("r"), "r.coord.>") if denied not in subject]
    if denied != "coord":
        allowed.append("r.coord.>")
    else:
        allowed = list(streams.reads("r"))
    config = PERMISSIONS.format(publish=", ".join(f'"{subject}"' for subject in allowed))
    async with running(tmp_path, f'jetstream {{ store_dir: "{tmp_path}/data" }}\n{config}') as server:
        async with connected(server.url.replace("//", "//admin:x@")) as bus:
            await make_streams(JetStream(bus, "r"), "r", replicas=1)
        async with connected(server.url.replace("//", "//node:x@")) as bus:
            js = JetStream(bus, "r")
            uses = {
                "STREAM.INFO": js.check(),
                "STREAM.MSG.GET": js.last("x"),
                "DIRECT.GET": js.history("x"),
                "coord": js.publish("r.coord.lock.a.0", b""),
            }
            for name, use in uses.items():
                if name == denied:
                    with pytest.raises(
                        CoordinationUnavailableError, match=f"no permission for publish to .*{denied}"
                    ) as e:
                        await use
                    assert "--print" in e.value.hint
                else:
                    await use


@pytest.mark.parametrize("answer", [b"", b"{", b"[]", b'{"seq": "1"}', b'{"error": 1}', b'{"a":1,"a":2}', b"[" * 9999])
async def test_an_answer_that_is_not_of_jetstream_is_an_error(answer: bytes, server: NatsServer) -> None:
    client = await nats.connect(server.url)

    async def respond(message: Msg) -> None:
        await message.respond(answer)

    try:
        await client.subscribe("fake.coord.>", cb=respond)
        await client.flush()
        async with connected(server) as bus:
            with pytest.raises(NoResponseError, match=r"fake\.coord\.a: the response is"):
                await JetStream(bus, "fake").publish("fake.coord.a", b"")
    finally:
        await client.close()
