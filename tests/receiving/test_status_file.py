"""The status file: written when something has changed, once a second at most; no fault of its disk costs more."""

import asyncio
import errno
import os
import shutil
import stat
import threading
from dataclasses import replace

import pytest
import structlog

from remaphore.errors import DecodeError, RemaphoreError
from remaphore.receiving import status_file as module
from remaphore.receiving.ledger import state
from remaphore.receiving.status_file import FILE, HEARTBEAT_SECONDS, MAX_BYTES, STALE_SECONDS, StatusFile, load
from remaphore.transport.memory import MemoryBroker
from tests.harness.factories import NOW
from tests.harness.waiting import until
from tests.protocol.test_status import STATUS


class Source:
    """A daemon whose status a test changes."""

    def __init__(self):
        self.now = STATUS
        self.error = None

    @property
    def changes(self):
        return self.now

    def status(self):
        if self.error is not None:
            raise self.error
        return self.now


class World:
    """A status file whose steps and clock a test controls."""

    def __init__(self, folder):
        self.folder, self.seconds = folder, 1000.0
        self.source, self.bus = Source(), MemoryBroker().connect()
        self.file = StatusFile(folder, self.source, self.bus, clock=lambda: NOW, monotonic=lambda: self.seconds)

    async def update(self, seconds=1.0):
        """Let *seconds* pass, and return whether that wrote the file."""
        self.seconds += seconds
        before = self.file._begun
        self.file.update()
        if self.file._writing is not None:
            await asyncio.wait({self.file._writing})
        return self.file._begun is not before

    def write(self, **changes):
        """Change the status."""
        self.source.now = replace(self.source.now, **changes)


@pytest.fixture
async def world(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "INTERVAL_SECONDS", 3600.0)  # a test makes the steps
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    world = World(folder)
    with structlog.testing.capture_logs() as world.logged:
        async with world.file:
            await until((folder / FILE).exists)
            await world.update(0.0)
            yield world


def events(world):
    return [line["event"] for line in world.logged]


async def test_it_is_written_when_something_changes_and_for_each_heartbeat(world):
    assert load(world.folder).status == STATUS
    assert stat.S_IMODE((world.folder / FILE).stat().st_mode) == 0o600
    assert not await world.update()
    world.write(state="stopping")
    assert await world.update()
    assert load(world.folder).status.state == "stopping"
    assert not await world.update(HEARTBEAT_SECONDS - 1)
    assert await world.update()
    found = load(world.folder)
    assert (found.pid, found.connected, found.monotonic) == (os.getpid(), True, world.seconds)
    await world.bus.close()
    assert await world.update()
    assert (load(world.folder).connected, load(world.folder).connection_ns) == (False, NOW)
    assert sorted(path.name for path in world.folder.iterdir()) == [FILE]


async def test_it_is_deleted_at_the_end_and_that_of_a_killed_daemon_at_the_start(tmp_path):
    (tmp_path / FILE).write_text("left")
    (tmp_path / f"{FILE}.tmp").write_text("left")
    source = Source()
    source.error = RuntimeError("no status yet")
    with structlog.testing.capture_logs():
        async with StatusFile(tmp_path, source, MemoryBroker().connect()):
            await until(lambda: not (tmp_path / FILE).exists())
            source.error = None
            await until((tmp_path / FILE).exists)
            assert not (tmp_path / f"{FILE}.tmp").exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
async def test_a_disk_that_cannot_be_written_is_logged_once_and_tried_again(world, monkeypatch, number):
    def fail(*_arguments, **_keywords):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        world.write(state="stopping")
        for _ in range(3):
            assert await world.update()
    assert events(world) == ["status_file_failed"]
    assert world.logged[0]["error"] == os.strerror(number)
    assert world.logged[0]["hint"]
    assert os.listdir(world.folder) == []  # noqa: PTH208 - the old one would show what has passed
    assert await world.update()
    assert load(world.folder).status.state == "stopping"
    await world.update()
    assert events(world) == ["status_file_failed", "status_file_recovered"]


async def test_on_a_full_disk_it_uses_the_room_of_the_old_one(world, monkeypatch):
    real = os.fdopen

    def full(*arguments, **keywords):
        if (world.folder / FILE).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", full)
        world.write(problem="ledger: database or disk is full")
        assert await world.update()
    assert load(world.folder).status.problem == "ledger: database or disk is full"
    assert events(world) == []


async def test_a_directory_in_the_place_of_the_temporary_file_is_a_fault_like_others(world):
    (world.folder / f"{FILE}.tmp").mkdir()
    world.write(state="stopping")
    await world.update()
    await world.update()
    assert events(world) == ["status_file_failed"]
    (world.folder / f"{FILE}.tmp").rmdir()
    await world.update()
    assert load(world.folder).status.state == "stopping"


async def test_a_link_in_its_place_is_replaced_and_never_followed(world, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    for name in (FILE, f"{FILE}.tmp"):
        (world.folder / name).unlink(missing_ok=True)
        (world.folder / name).symlink_to(victim)
    world.write(state="stopping")
    await world.update()
    assert (victim.read_text(), (world.folder / FILE).is_symlink()) == ("untouched", False)


async def test_another_directory_of_the_same_name_is_not_written(world, tmp_path):
    """Its lock is not held, so a second daemon may use it."""
    shutil.move(world.folder, tmp_path / "moved")
    world.folder.mkdir()
    world.write(state="stopping")
    await world.update()
    assert list(world.folder.iterdir()) == []
    assert load(tmp_path / "moved").status.state == "stopping"
    shutil.rmtree(tmp_path / "moved")
    world.write(state="receiving")
    await world.update()
    await world.update()
    assert events(world) == ["status_file_failed"]
    assert "restart the daemon" in world.logged[0]["hint"]
    assert list(world.folder.iterdir()) == []


async def test_a_write_that_hangs_holds_nothing_up_and_is_logged_once(world, monkeypatch):
    go = threading.Event()
    original = StatusFile._write

    def hang(self, text):
        go.wait(5)
        original(self, text)

    monkeypatch.setattr(StatusFile, "_write", hang)
    world.write(state="stopping")
    world.seconds += 1
    world.file.update()
    assert not world.file._writing.done()  # and it has returned
    for _ in range(5):
        world.seconds += STALE_SECONDS / 4 + 1
        world.file.update()
    assert events(world) == ["status_file_failed"]
    go.set()
    await world.update()
    assert load(world.folder).status.state == "stopping"
    await world.update()
    assert events(world) == ["status_file_failed", "status_file_recovered"]


async def test_the_end_does_not_wait_for_a_write_that_hangs(tmp_path, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(module, "END_SECONDS", 0.01)
    monkeypatch.setattr(StatusFile, "_write", lambda _self, _text: go.wait(30))
    async with asyncio.timeout(10):
        async with StatusFile(tmp_path, Source(), MemoryBroker().connect()):
            await asyncio.sleep(0.01)
    go.set()


async def test_a_status_that_cannot_be_made_costs_that_write(world):
    world.source.error = MemoryError()
    world.write(state="stopping")
    with pytest.raises(MemoryError):
        world.file.update()
    world.source.error = None
    assert await world.update()
    assert load(world.folder).status.state == "stopping"


async def test_without_a_thread_or_a_directory_the_daemon_runs_without_a_status_file(tmp_path, monkeypatch):
    with structlog.testing.capture_logs() as logged:
        async with StatusFile(tmp_path / "missing", Source(), MemoryBroker().connect()):
            pass

        def none(_executor, _number):
            raise RemaphoreError("cannot start a thread", hint="raise the limit")

        monkeypatch.setattr(module, "start_threads", none)
        async with StatusFile(tmp_path, Source(), MemoryBroker().connect()):
            pass
    assert [line["event"] for line in logged] == ["status_file_failed"] * 2


def test_what_is_no_status_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path)
    for raw in (b"", b"{}", b"[1]", b'{"pid": 1, "connected": 1}', b"x" * (MAX_BYTES + 1)):
        (tmp_path / FILE).write_bytes(raw)
        with pytest.raises(DecodeError):
            load(tmp_path)
    (tmp_path / FILE).unlink()
    os.mkfifo(tmp_path / FILE)
    with pytest.raises(DecodeError, match="not a regular file"):
        load(tmp_path)
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).symlink_to("/dev/zero")
    with pytest.raises(OSError, match="symbolic link"):
        load(tmp_path)


async def test_the_state_directory_can_be_used_by_the_next_daemon_with_a_file_left_in_it(tmp_path):
    folder = tmp_path / "state"
    with state.locked(folder):
        (folder / FILE).write_text("left")
        (folder / FILE).chmod(0o600)
    with state.locked(folder):
        assert state.holder(folder) == str(os.getpid())
