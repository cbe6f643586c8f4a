"""The status file of a daemon: written for `remaphore status` on the same machine, at most once a second.

A thread writes it, which nothing waits for: a disk that is full, slow or hangs delays no message. Another process
trusts it only while a daemon holds the lock of the state directory, and by the pid in it; the daemon deletes it when it
ends. It is written again every HEARTBEAT_SECONDS, so that a daemon whose event loop is blocked can be told from an idle
one.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import structlog

from remaphore.errors import DecodeError, RemaphoreError, describe, hint_of
from remaphore.protocol import status
from remaphore.receiving.ledger import locks
from remaphore.receiving.threads import start_threads
from remaphore.tasks import spawn
from remaphore.text import to_json
from remaphore.transport.bus import Bus

FILE = "status.json"
_TEMPORARY = f"{FILE}.tmp"
MODE = 0o600
MAX_BYTES = 1024 * 1024  # that are read

INTERVAL_SECONDS = 1.0
HEARTBEAT_SECONDS = 10.0
# After which a file is out of date, and a write hangs: three heartbeats, as for pings of the broker.
STALE_SECONDS = 3 * HEARTBEAT_SECONDS
# How long the end of the daemon waits for the file to be deleted.
END_SECONDS = 1.0

_DELETED = "restart the daemon: its state directory was deleted"

_log = structlog.get_logger()


class Source(Protocol):
    """What a status file is made from: a daemon."""

    @property
    def changes(self) -> object:
        """What differs whenever `status` reports something else than ages."""

    def status(self) -> status.Status:
        """Return the present status."""


class LocalStatus(NamedTuple):
    """The content of a status file. connection_ns: since when *connected* is as it is. monotonic: when it was written.

    written_ns: the same by the clock, in Unix nanoseconds.
    """

    pid: int
    connected: bool
    connection_ns: int
    written_ns: int
    monotonic: float
    status: status.Status


class StatusFile:
    """Keeps the status file in *folder*, the state directory, for the length of a block."""

    def __init__(
        self,
        folder: Path,
        source: Source,
        bus: Bus,
        *,
        clock: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._source = source
        self._bus = bus
        self._clock = clock
        self._monotonic = monotonic
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="status")
        self._directory = -1
        self._connection = bus.connected, clock()
        self._written: tuple[object, float] = None, -HEARTBEAT_SECONDS  # what `changes` was, and when
        self._writing: asyncio.Future[Exception | None] | None = None
        self._begun: tuple[object, float] = self._written
        self._failed = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            start_threads(self._thread, 1)
            # This directory, whose lock the daemon holds, and no other that takes its name later.
            self._directory = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (RemaphoreError, OSError) as error:
            self._fail(error, effect="remaphore status does not work on this machine until the daemon is restarted")
        else:
            self._thread.submit(self._delete)  # that of a daemon that was killed, in case ours cannot be written
            self._task = spawn(self._keep(), name="status file", vital=True)
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._task is not None:
            self._task.cancel()
            # Behind a write that is in progress, in the same thread.
            deleting = asyncio.get_running_loop().run_in_executor(self._thread, _attempt, self._end)
            await asyncio.wait({deleting}, timeout=END_SECONDS)
        self._thread.shutdown(wait=False)

    async def _keep(self) -> None:
        while True:
            try:
                self.update()
            except Exception as error:  # noqa: BLE001 - whatever it is, the daemon continues, and it is tried again
                self._fail(error)
            await asyncio.sleep(INTERVAL_SECONDS)

    def update(self) -> None:
        """Begin to write the file if something has changed or a heartbeat is due, and the last write has ended."""
        now = self._monotonic()
        if self._connection[0] != self._bus.connected:
            self._connection = self._bus.connected, self._clock()
        if self._writing is not None:
            if not self._writing.done():
                if now - self._begun[1] > STALE_SECONDS:
                    what = f"a write has not ended after {STALE_SECONDS:g} s"
                    self._fail(
                        RemaphoreError(what, hint="check the disk: dmesg shows what the kernel reports about it")
                    )
                return
            ended, self._writing = self._writing, None
            if error := ended.result():
                self._fail(error)
            else:
                self._written = self._begun
                self._recover()
        changes = self._source.changes, self._connection
        if changes != self._written[0] or now - self._written[1] >= HEARTBEAT_SECONDS:
            self._begun = changes, now
            text = self._make(now)
            self._writing = asyncio.get_running_loop().run_in_executor(self._thread, _attempt, self._write, text)

    def _make(self, now: float) -> str:
        connected, connection_ns = self._connection
        document = {
            "pid": os.getpid(),
            "connected": connected,
            "connection_ns": connection_ns,
            "written_ns": self._clock(),
            "monotonic": now,
            "status": status.to_document(status.cut(self._source.status())),
        }
        return to_json(document) + "\n"

    def _write(self, text: str) -> None:
        """Replace the file, or at least delete the old one: it would show as present what has passed.

        On a full disk, on which nothing can run, the room of the old file is often enough for the new one.
        """
        try:
            self._replace(text)
        except OSError:
            self._delete()
            self._replace(text)

    def _replace(self, text: str) -> None:
        """Replace the file. It is not synced: after a crash of the machine no daemon runs that it could describe."""
        self._delete(_TEMPORARY)  # what a daemon that was killed has left
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(_TEMPORARY, flags, MODE, dir_fd=self._directory)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                os.fchmod(descriptor, MODE)
                file.write(text)
            os.replace(_TEMPORARY, FILE, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except BaseException:
            self._delete(_TEMPORARY)
            raise

    def _delete(self, name: str = FILE) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._directory)

    def _end(self) -> None:
        try:
            self._delete()
        finally:
            os.close(self._directory)

    def _fail(
        self,
        error: BaseException,
        *,
        effect: str = "remaphore status shows nothing, or what has passed, on this machine",
    ) -> None:
        if not self._failed:
            self._failed = True
            what, hint = describe(error, str), hint_of(error)
            if isinstance(error, OSError):
                what = error.strerror or what
                hint = _DELETED if error.errno == errno.ENOENT else locks.hint(error)
            file = str(self._folder / FILE)
            _log.warning("status_file_failed", file=file, error=what, effect=effect, hint=hint or None)

    def _recover(self) -> None:
        if self._failed:
            self._failed = False
            _log.info("status_file_recovered", file=str(self._folder / FILE))


def _attempt(function: Callable[..., None], *arguments: str) -> Exception | None:
    """Call *function*, in the thread; return its exception: one of a future that is not read later would be logged."""
    try:
        function(*arguments)
    except Exception as error:  # noqa: BLE001 - it is returned
        return error
    return None


def load(folder: Path) -> LocalStatus:
    """Return the status that a daemon has written to *folder*. Raise OSError or DecodeError."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with os.fdopen(os.open(folder / FILE, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise DecodeError("not a regular file")
        raw = file.read(MAX_BYTES)
    fields = status.Fields(status.load_json(raw), "status file")
    return LocalStatus(
        pid=fields.number("pid"),
        connected=fields.flag("connected"),
        connection_ns=fields.number("connection_ns"),
        written_ns=fields.number("written_ns"),
        monotonic=fields.seconds("monotonic"),
        status=status.read(fields.value("status")),
    )
