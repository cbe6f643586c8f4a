"""A broker whose store was restored from a backup is recognized by the nodes that have seen more; nothing else is."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import resource
import shutil
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from remaphore.coordination import high_water
from remaphore.coordination.high_water import (
    FILE,
    MAX_MARKS,
    HighWaterMarks,
    Mark,
    MarksError,
    SetBack,
    StreamWatch,
    read,
    write,
)
from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.setup import make_streams
from remaphore.errors import NoResponseError, RemaphoreError
from remaphore.node import Node
from remaphore.protocol.record import Entry
from remaphore.trust import UnsafeError
from tests.coordination.test_jetstream import StreamsOf
from tests.harness.locks import lock_config
from tests.harness.nats_server import NatsServer, connected, jetstream_config
from tests.harness.waiting import until

SERVERS = ("nats://here",)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(high_water, "CONFIRM_AFTER", 0.01)


class Store:
    """A server whose data can be saved, and copied back."""

    def __init__(self, folder: Path) -> None:
        self.server = NatsServer(folder / "server", jetstream_config(folder / "data"))
        self._folder = folder

    async def save(self, name: str) -> None:
        await self.server.stop()
        shutil.copytree(self._folder / "data", self._folder / name)
        await self.server.start()

    async def restore(self, name: str) -> None:
        await self.server.stop()
        shutil.rmtree(self._folder / "data")
        shutil.copytree(self._folder / name, self._folder / "data")
        await self.server.start()


@asynccontextmanager
async def store(folder: Path) -> AsyncIterator[Store]:
    found = Store(folder)
    await found.server.start()
    try:
        async with connected(found.server) as bus:
            await make_streams(JetStream(bus, "remaphore"), "remaphore")
        yield found
    finally:
        found.server.kill()


async def take(store: Store, folder: Path, *, times: int = 1) -> SetBack | None:
    """Write so many records, and remember the last; return what was found before that."""
    async with connected(store.server) as bus:
        js = JetStream(bus, "remaphore")
        marks = HighWaterMarks(folder, js, SERVERS)
        found = await marks.check()
        for _ in range(times):
            await js.publish("remaphore.coord.lock.a.0", os.urandom(16))
        await marks.note_last()
        return found


async def look(store: Store, folder: Path, servers: tuple[str, ...] = SERVERS) -> SetBack | None:
    async with connected(store.server) as bus:
        return await HighWaterMarks(folder, JetStream(bus, "remaphore"), servers).check()


async def test_a_restored_store_is_found_until_the_streams_are_made_again(tmp_path: Path) -> None:
    seen, other, late = tmp_path / "seen", tmp_path / "other", tmp_path / "late"
    async with store(tmp_path) as site:
        assert await take(site, seen) is None
        await site.save("first")
        for folder in (seen, late):
            assert await take(site, folder, times=2) is None
        await site.restore("first")
        found = await look(site, seen)
        assert found is not None
        assert found.known > found.last
        assert f"this node has seen the record {found.known}, it ends at {found.last}" in str(found)
        assert await look(site, other) is None  # it has seen nothing, and cannot know
        assert await take(site, other, times=5) is None
        assert (await look(site, seen)) is not None  # although the stream has passed what it had seen
        found = await look(site, late)  # it looks only now: the record that it has seen is another one
        assert found is not None
        assert found.known <= found.last
        assert await take(site, other, times=20) is None  # which pushes out what they had seen
        for folder in (seen, late):
            assert (await look(site, folder)) is not None
        async with connected(site.server) as bus:
            await make_streams(JetStream(bus, "remaphore"), "remaphore", recreate=True)
        for folder in (seen, other, late):
            assert await look(site, folder) is None
            assert await take(site, folder) is None
            assert await look(site, folder) is None

        # A backup from before the streams were made again has a stream that is known, and ends where it did.
        await site.restore("first")
        assert (await look(site, seen)) is not None
        assert await look(site, other, ("nats://elsewhere",)) is not None  # flagged, or higher: whatever the address
        assert await look(site, tmp_path / "new") is None


async def test_a_node_that_takes_a_lock_logs_that_the_store_was_restored(tmp_path: Path, state_root: Path) -> None:
    async with store(tmp_path) as site:
        await site.save("first")
        config = lock_config(1)
        with capture_logs() as logs:
            async with connected(site.server) as bus, Node(bus, config).lock("a"):
                await until(lambda: marks_of(state_root))
            assert "stream_set_back" not in names(logs)
            await site.restore("first")
            async with connected(site.server) as bus, Node(bus, config).lock("a") as lease:
                await until(lambda: "stream_set_back" in names(logs))
                assert not lease.lost.is_set()
        assert names(logs).count("stream_set_back") == 1
        (found,) = (each for each in logs if each["event"] == "stream_set_back")
        assert (found["log_level"], found["stream"]) == ("warning", "remaphore-coord")
        assert "coordination init --recreate" in found["hint"]


def names(logs: list[object]) -> list[str]:
    return [each["event"] for each in logs]  # type: ignore[index]


def marks_of(root: Path) -> list[Mark]:
    return read(root / "_coordination")


async def test_other_roots_brokers_and_states_are_no_reason_for_an_alarm(
    tmp_path: Path, streams_of: StreamsOf, state_root: Path
) -> None:
    async with streams_of() as (js, _, root):
        marks = HighWaterMarks(tmp_path / "marks", js, SERVERS)
        assert await marks.check() is None
        await marks.note_last()
        (mark,) = read(tmp_path / "marks")
        assert mark.root == root
        for other in (
            Mark("other", mark.created, mark.servers, 2**53),
            Mark(root, "2001-01-01", "other servers", 2**53),
        ):
            write(tmp_path / "marks", other)
            assert await HighWaterMarks(tmp_path / "marks", js, SERVERS).check() is None
        await js.publish(f"{root}.coord.lock.a.0", b"x")
        for _ in range(20):  # the record of the mark is pushed out
            await js.publish(f"{root}.coord.lock.a.0", b"y")
        await marks.note_last()
        for _ in range(20):
            await js.publish(f"{root}.coord.lock.a.0", b"z")
        assert await HighWaterMarks(tmp_path / "marks", js, SERVERS).check() is None
        write(tmp_path / "marks", Mark(root, "2001-01-01", mark.servers, 2**53))  # the same servers had a higher one
        assert await HighWaterMarks(tmp_path / "marks", js, SERVERS).check() is not None


async def test_a_leader_that_is_behind_for_a_moment_is_asked_again(tmp_path: Path, streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, _root):
        marks = HighWaterMarks(tmp_path / "marks", js, SERVERS)
        await marks.check()
        await marks.note_last()
        created, last = await marks._state()
        answers = [(created, last - 1), (created, last)]

        async def state() -> tuple[str, int]:
            return answers.pop(0)

        marks._state = state  # type: ignore[method-assign]
        assert await marks.check() is None
        assert answers == []


def _full(folder: Path) -> None:
    (folder / f".{FILE}").symlink_to("/dev/full")


def _other_owner(folder: Path) -> None:
    (folder / FILE).write_text("[]")
    os.chown(folder / FILE, 65534, 65534)


UNUSABLE: dict[str, Callable[[Path], object]] = {
    "a file in its place": lambda folder: folder.rmdir() or folder.write_text(""),  # type: ignore[func-returns-value]
    "a link": lambda folder: folder.rmdir() or folder.symlink_to("/tmp"),  # type: ignore[func-returns-value]
    "a directory for all": lambda folder: folder.chmod(0o1777),
    "a link in place of the new file": _full,
    "another user's file": _other_owner,
}


@pytest.mark.parametrize("how", UNUSABLE)
async def test_a_directory_that_cannot_be_used_fails_no_lock(how: str, state_root: Path, streams_of: StreamsOf) -> None:
    folder = state_root / "_coordination"
    folder.mkdir(mode=0o700, parents=True)
    if how == "another user's file" and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    UNUSABLE[how](folder)
    async with streams_of() as (js, bus, root):
        node = Node(bus, lock_config(1, root=root))
        with capture_logs() as logs:
            async with node.lock("a"):
                assert node._locks is not None
                assert node._locks._watch is not None
                await node._locks._watch.finish(30)
        assert "high_water_mark_failed" in names(logs)
        marks = HighWaterMarks(folder, js, SERVERS)
        with pytest.raises(MarksError):  # which doctor reports
            await check_and_note(marks)


async def test_a_watch_that_fails_tries_once_a_second_and_once_for_each_connection() -> None:
    failures: list[RemaphoreError] = []

    class Disconnected:
        root, records, reconnects = "r", "r-coord", 0

        async def info(self, _stream: str) -> dict[str, object]:
            raise NoResponseError("no answer")

    js = cast("JetStream", Disconnected())
    marks = HighWaterMarks(None, js, SERVERS)
    watch = StreamWatch(marks, js, on_set_back=lambda _found: None, on_failure=failures.append)
    began = time.monotonic()
    for _ in range(100):
        watch.see(Entry(1, "r", b""))
        await watch.finish(10)
    assert len(failures) <= 1 + (time.monotonic() - began) / high_water.NOTE_EVERY
    before, Disconnected.reconnects = len(failures), 1
    watch.see(Entry(1, "r", b""))
    await watch.finish(10)
    assert len(failures) == before + 1


def test_without_room_the_marks_stay_as_they_are(tmp_path: Path) -> None:
    write(tmp_path, Mark("r", "c", "s", 7))
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))
        with pytest.raises(OSError, match="File too large"):
            write(tmp_path, Mark("r", "c", "s", 8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    assert [mark.sequence for mark in read(tmp_path)] == [7]
    write(tmp_path, Mark("r", "c", "s", 8))
    assert [mark.sequence for mark in read(tmp_path)] == [8]


def test_where_no_directory_can_be_made_there_is_no_mark() -> None:
    with pytest.raises((UnsafeError, OSError)):
        write(Path("/proc/self/state/_coordination"), Mark("r", "c", "s", 7))
    assert read(Path("/proc/self/state/_coordination")) == []


async def check_and_note(marks: HighWaterMarks) -> None:
    await marks.check()
    await marks.note_last()


async def test_without_a_home_there_are_no_marks(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, _, _root):
        with pytest.raises(MarksError, match="no home"):
            await HighWaterMarks(None, js, SERVERS).check()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[",
        b"{}",
        b"[1]",
        b'[{"root": "r"}]',
        b"[" * 100_000,
        b'[{"root": 1, "created": "", "servers": ""}]',
    ],
)
def test_what_is_no_mark_counts_as_none_and_is_replaced(content: bytes, tmp_path: Path) -> None:
    mark = Mark("r", "c", "s", 7, "d")
    write(tmp_path / "m", mark)
    assert stat.S_IMODE((tmp_path / "m" / FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o700
    (tmp_path / "m" / FILE).write_bytes(content)
    assert read(tmp_path / "m") == []
    write(tmp_path / "m", mark)
    assert [each.sequence for each in read(tmp_path / "m")] == [7]


def test_a_mark_only_grows_and_a_set_back_stays(tmp_path: Path) -> None:
    for mark in (Mark("r", "c", "s", 7, "d"), Mark("r", "c", "s", 8, "f"), Mark("r", "c", "s", 5, "e", set_back=9)):
        write(tmp_path, mark)
    (found,) = read(tmp_path)
    assert (found.sequence, found.digest, found.set_back) == (8, "f", 9)
    for number in range(2 * MAX_MARKS):
        write(tmp_path, Mark("r", f"c{number}", "s", number))
    assert len(read(tmp_path)) == MAX_MARKS
    assert len(json.loads((tmp_path / FILE).read_text())) == MAX_MARKS


def _write_many(folder: Path, first: int) -> None:
    for number in range(first, first + 100, 2):
        while True:
            with suppress(BlockingIOError):  # the other one had it for a second
                write(folder, Mark("r", f"c{number % 4}", "s", number))
                break


def test_processes_of_one_user_write_at_a_time(tmp_path: Path) -> None:
    write(tmp_path, Mark("r", "c", "s"))
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_write_many, args=(tmp_path, first)) for first in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted(mark.sequence for mark in read(tmp_path)) == [0, 96, 97, 98, 99]


async def test_a_file_system_that_hangs_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streams_of: StreamsOf
) -> None:
    monkeypatch.setattr(high_water, "FILE_SECONDS", 0.05)
    os.mkfifo(tmp_path / "pipe")  # whose opening blocks

    def hang(_folder: Path) -> list[Mark]:
        (tmp_path / "pipe").read_bytes()
        return []

    monkeypatch.setattr(high_water, "read", hang)
    async with streams_of() as (js, _, _root):
        with pytest.raises(MarksError, match=r"did not answer within 0\.05 s"):
            await HighWaterMarks(tmp_path, js, SERVERS).check()
    (tmp_path / "pipe").write_bytes(b"")  # which ends the thread
    await asyncio.sleep(0)
