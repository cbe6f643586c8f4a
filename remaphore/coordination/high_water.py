"""What a node remembers of the streams of records that it has seen: the highest sequence number, and its record.

A broker whose store was restored from a backup gives sequence numbers, and so fencing tokens, a second time. It cannot
tell, so the nodes remember. A mark is about one stream: it has the time at which the stream was made, which a backup
keeps and `coordination init --recreate` changes, and a digest of the addresses of its servers.

Example. We have seen the record 1005. A backup that ends at 1000 is restored. Until others have written five records,
the stream ends before our mark. After that, the record 1005 is another one than ours. Once it is found, that is
remembered until the stream is made again, since the stream will grow beyond all marks.

A mark is a help: without a directory that can be used, or room in it, everything works as before.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self, TypeVar

from remaphore.config import files
from remaphore.coordination.jetstream import JetStream
from remaphore.errors import RemaphoreError
from remaphore.logs import LibraryLogger
from remaphore.protocol.record import Entry
from remaphore.tasks import spawn
from remaphore.trust import UnsafeError

T = TypeVar("T")

FILE = "high-water-marks.json"
MAX_MARKS = 32  # streams that are remembered; the one that was not seen for longest is forgotten
MAX_FILE_BYTES = 64 * 1024
# Seconds. A leader of a cluster that was just elected may not have applied all records yet: so it is asked again.
CONFIRM_AFTER = 1.0
FILE_SECONDS = 2.0  # for the file system; a lock must not wait for one that hangs
NOTE_EVERY = 1.0  # seconds between two marks of one process
_MAX_CREATED = 64  # characters of a time
_LOCK_TRIES = 100
_LOCK_AGAIN = 0.01  # seconds

HINT = (
    "end the commands that hold locks, then run: remaphore coordination init --recreate, with the login of an"
    " administrator of the broker; every lock is free then, and holders that run notice it at their next renewal only"
)


@dataclass(frozen=True, slots=True)
class Mark:
    """The highest record that was seen of a stream.

    created: when the stream was made, as JetStream says it. sequence, digest: of the record; the digest is empty if
    the record was not seen. set_back: the highest sequence number that was known when the stream was found to be set
    back, 0 if it was not. seen: Unix seconds.
    """

    root: str
    created: str
    servers: str
    sequence: int = 0
    digest: str = ""
    set_back: int = 0
    seen: int = 0


@dataclass(frozen=True, slots=True)
class SetBack:
    """The finding that the data of a stream was set back. known: the highest sequence number that was seen."""

    stream: str
    known: int
    last: int

    def __str__(self) -> str:
        return (
            f"the data of stream {self.stream} was set back, as by a restored backup: this node has seen the record"
            f" {self.known}, {'it ends at' if self.last < self.known else 'it now ends at'} {self.last};"
            " fencing tokens are given a second time"
        )


class HighWaterMarks:
    """The marks of the streams below the root of *jetstream*, in the file of *folder*, if there is one.

    servers: the addresses in the configuration.
    """

    def __init__(self, folder: Path | None, jetstream: JetStream, servers: Sequence[str]) -> None:
        self._folder = folder
        self._jetstream = jetstream
        self._servers = digest_of("\n".join(sorted(servers)).encode())
        self._stream: Mark | None = None  # of the stream as it was checked last

    async def check(self) -> SetBack | None:
        """Return whether the stream was set back. Raise RemaphoreError, also if the marks cannot be read or written."""
        root = self._jetstream.root
        created, last = await self._state()
        known = [
            mark
            for mark in await _in_thread(read, self._folder)
            if mark.root == root and (mark.created == created or mark.servers == self._servers)
        ]
        own = next((mark for mark in known if mark.created == created), Mark(root, created, self._servers))
        self._stream = own
        highest = max([own.set_back, *(mark.sequence for mark in known)])
        if last < highest and not own.set_back:
            await asyncio.sleep(CONFIRM_AFTER)
            created, last = await self._state()
        if created == own.created and (own.set_back or last < highest or await self._is_replaced(own, last)):
            if not own.set_back:
                await _in_thread(write, self._folder, replace(own, set_back=highest))
            return SetBack(self._jetstream.records, highest, last)
        return None

    async def note_last(self) -> None:
        """Remember the last record of the stream, after `check`. Raise RemaphoreError."""
        _, last = await self._state()
        entry = await self._jetstream.at(last) if last else None
        await self._write(last, digest_of(entry.raw) if entry else "")

    async def note(self, entry: Entry) -> None:
        """Remember a record that the stream has, after `check`. Raise RemaphoreError."""
        await self._write(entry.sequence, digest_of(entry.raw))

    async def _write(self, sequence: int, digest: str) -> None:
        if self._stream is not None and sequence > self._stream.sequence:
            self._stream = replace(self._stream, sequence=sequence, digest=digest, servers=self._servers)
            await _in_thread(write, self._folder, self._stream)

    async def _state(self) -> tuple[str, int]:
        info = await self._jetstream.info(self._jetstream.records)
        return str(info.get("created", ""))[:_MAX_CREATED], int(info["state"]["last_seq"])

    async def _is_replaced(self, own: Mark, last: int) -> bool:
        """Return whether the record of our mark is another one now; one that was pushed out says nothing."""
        if not own.digest or own.sequence > last:
            return False
        entry = await self._jetstream.at(own.sequence)
        return entry is not None and digest_of(entry.raw) != own.digest


class StreamWatch:
    """Checks and notes the records of locks in the background; it delays no lock, and none fails because of it.

    on_set_back, on_failure: called with what was found, and why nothing can be said.
    """

    def __init__(
        self,
        marks: HighWaterMarks,
        jetstream: JetStream,
        *,
        on_set_back: Callable[[SetBack], None],
        on_failure: Callable[[RemaphoreError], None],
    ) -> None:
        self._marks = marks
        self._jetstream = jetstream
        self._on_set_back = on_set_back
        self._on_failure = on_failure
        self._tried = self._checked = -1  # the connection whose stream was checked: a store is restored without one
        self._due = float("-inf")
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def reporting(
        cls,
        folder: Path | None,
        jetstream: JetStream,
        servers: Sequence[str],
        *,
        log: LibraryLogger | None,
        say: Callable[[SetBack], None] = lambda _found: None,
    ) -> Self:
        """Return a watch that logs what it finds, and passes it on to *say*."""

        def on_set_back(found: SetBack) -> None:
            say(found)
            if log is not None:
                log.warning("stream_set_back", stream=found.stream, known=found.known, last=found.last, hint=HINT)

        def on_failure(error: RemaphoreError) -> None:
            if log is not None:
                log.debug("high_water_mark_failed", error=str(error))

        marks = HighWaterMarks(folder, jetstream, servers)
        return cls(marks, jetstream, on_set_back=on_set_back, on_failure=on_failure)

    def see(self, entry: Entry) -> None:
        """Take note of a record that the stream has."""
        if self._task is not None and not self._task.done():
            return
        if time.monotonic() >= self._due or self._tried != self._jetstream.reconnects:
            self._due, self._tried = time.monotonic() + NOTE_EVERY, self._jetstream.reconnects
            self._task = spawn(self._see(entry), name="watch the stream")

    async def finish(self, seconds: float) -> None:
        """Return when what was begun has ended, and after so many *seconds* at the latest."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=seconds)
            self._task.cancel()

    async def _see(self, entry: Entry) -> None:
        reconnects = self._jetstream.reconnects
        try:
            if self._checked != reconnects:
                if (found := await self._marks.check()) is not None:
                    self._on_set_back(found)
                self._checked = reconnects
            await self._marks.note(entry)
        except RemaphoreError as error:
            self._on_failure(error)


def digest_of(raw: bytes) -> str:
    """Return what stands for *raw* in a mark."""
    return hashlib.sha256(raw).hexdigest()[:32]


async def _in_thread(call: Callable[..., T], folder: Path | None, *arguments: object) -> T:
    if folder is None:
        raise MarksError("no state directory: this user has no home")
    try:
        async with asyncio.timeout(FILE_SECONDS):
            return await asyncio.to_thread(call, folder, *arguments)
    except UnsafeError as error:
        raise MarksError(str(error), hint=error.hint) from None
    except TimeoutError:
        raise MarksError(f"the file system did not answer within {FILE_SECONDS:g} s") from None
    except OSError as error:
        raise MarksError(f"{folder}: {error.strerror}") from None
    except RuntimeError as error:  # no thread can be started
        raise MarksError(str(error)) from None


class MarksError(RemaphoreError):
    """The marks cannot be read or written. Nothing but the search for restored backups depends on them."""

    default_hint = "set state_dir to a directory that this user can write to"


def read(folder: Path) -> list[Mark]:
    """Return the marks in *folder*, none if there are none, or what is there is none. Raise UnsafeError or OSError."""
    files.check_private(folder)
    try:
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        return _read(directory)
    finally:
        os.close(directory)


def write(folder: Path, mark: Mark) -> None:
    """Write *mark*, unless a higher one of its stream is in *folder*. Raise UnsafeError or OSError."""
    directory = files.open_private(folder)
    try:
        with _locked(directory):
            marks = {(each.root, each.created): each for each in _read(directory)}
            before = marks.get((mark.root, mark.created), mark)
            higher = max(mark, before, key=lambda each: each.sequence)
            set_back = max(before.set_back, mark.set_back)
            marks[mark.root, mark.created] = replace(higher, set_back=set_back, seen=int(time.time()))
            kept = sorted(marks.values(), key=lambda each: each.seen)[-MAX_MARKS:]
            # Not synced: what a power failure of this machine costs is a mark, and a lock shall not wait for a disk.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            new = os.open(f".{FILE}", flags, 0o600, dir_fd=directory)
            with os.fdopen(new, "w", encoding="utf-8") as file:
                json.dump([asdict(each) for each in kept], file)
            os.replace(f".{FILE}", FILE, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        os.close(directory)


def _read(directory: int) -> list[Mark]:
    try:
        descriptor = os.open(FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return []
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return []
        text = file.read(MAX_FILE_BYTES)
    try:
        marks = [Mark(**each) for each in json.loads(text)]
    except (ValueError, TypeError, RecursionError):
        return []
    return [mark for mark in marks if all(type(getattr(mark, name)) is kind for name, kind in _TYPES.items())]


_TYPES = {"root": str, "created": str, "servers": str, "sequence": int, "digest": str, "set_back": int, "seen": int}


@contextlib.contextmanager
def _locked(directory: int) -> Iterator[None]:
    """Let no other process write meanwhile. Raise BlockingIOError if one does for a second: it hangs, or is stopped."""
    for attempt in range(_LOCK_TRIES):
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if attempt == _LOCK_TRIES - 1:
                raise
            time.sleep(_LOCK_AGAIN)
        except OSError:  # a file system without locks: a mark may be lost
            break
    yield
