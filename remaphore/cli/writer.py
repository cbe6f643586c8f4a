"""Writing to a stream that may not be read: a full pipe, a terminal that has been stopped.

Such a write blocks until the reader reads, and would block the event loop: replies that arrive meanwhile would be
checked too late and their senders reported as missing, and neither --timeout nor Ctrl-C would have an effect. A daemon
would handle nothing, and a lock would be lost, because their log is not read. So a thread does the writes that may
block, in order, while the loop continues. All others, which is nearly every write, are done at once: handing one to the
thread costs as much as checking a signature.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TextIO, cast

from remaphore.logs import LibraryLogger

# Bytes that wait for a reader, and beyond which notices, log lines and the progress line are dropped, and results are
# not added before the reader has read.
MAX_BEHIND = 8 * 1024 * 1024

# How long the end of the process waits for a reader that does not read.
END_SECONDS = 1.0

_PIECE = 4096  # bytes that the thread writes at a time
_NO_MEMORY_SECONDS = 0.01  # after which the thread tries again


class _Write(NamedTuple):
    """Bytes for a stream. result: part of the result, whose loss is an error."""

    descriptor: int
    data: bytes
    result: bool


class Writer:
    """Writes to stdout and stderr, in the order of the calls, without making the event loop wait.

    gathers: results are kept, as many as a pipe with room takes at once, until the caller of this writer waits for
    `drained`, or until there is a notice. A write for each reply would cost a tenth of its signature.
    """

    def __init__(self, *, gathers: bool = False, on_lost: Callable[[int], None] = lambda _lines: None) -> None:
        """*on_lost*: gets the number of lines for stderr that were dropped, before the next one that is written."""
        self._gathers = gathers
        self._on_lost = on_lost
        self._lost = 0  # lines
        self._gathered = bytearray()
        self._stdout: TextIO | None = None  # the stream of what was gathered
        self._waiting: deque[_Write] = deque()
        self._accepted = 0  # bytes handed to the thread so far
        self._done = 0  # of these, bytes that it has written or given up
        self._error: OSError | MemoryError | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._written = asyncio.Event()

    @property
    def behind(self) -> int:
        """The bytes that wait for a reader."""
        return self._accepted - self._done

    @contextlib.contextmanager
    def streams(self) -> Iterator[None]:
        """Let this writer write stdout and stderr during a block."""
        stdout, stderr = sys.stdout, sys.stderr
        sys.stdout = cast("TextIO", _Stdout(stdout, self))
        sys.stderr = cast("TextIO", _Stderr(stderr, self))
        try:
            yield
        finally:
            sys.stdout, sys.stderr = stdout, stderr
            with contextlib.suppress(OSError):  # there is something only after an error, which is reported
                self._write_gathered()

    async def drained(self) -> None:
        """Return once all that was written before is written. Raise OSError or MemoryError of a failed result."""
        self._write_gathered()
        goal = self._accepted  # not what is added meanwhile: notices may arrive without end
        while self._done < goal and self._error is None:
            self._written.clear()
            await self._written.wait()
        if self._error is not None:
            raise self._error

    def write_result(self, stream: TextIO, data: bytes) -> None:
        """Write *data* to stdout. Raise OSError, also of an earlier write."""
        if self._error is not None:
            raise self._error
        if len(self._gathered) + len(data) > select.PIPE_BUF:
            self._write_gathered()
        self._stdout = stream
        self._gathered += data
        if not self._gathers or len(data) > select.PIPE_BUF:
            self._write_gathered()

    def _write_gathered(self) -> None:
        data, self._gathered = bytes(self._gathered), bytearray()
        if data and self._stdout and not self._hand_over(self._stdout, data, result=True):
            try:
                self._stdout.buffer.write(data)
                self._stdout.buffer.flush()
            except OSError as error:
                self._error = error
                raise

    def write_notice(self, stream: TextIO, text: str) -> None:
        """Write *text* to stderr, or drop it if too much waits or the result could not be written.

        Raise OSError if it is written at once.
        """
        with contextlib.suppress(OSError):
            self._write_gathered()
        if self._error is not None:
            return  # `drained` raises it; a summary of lost output would be wrong
        if self.behind >= MAX_BEHIND:
            self._lost += text.count("\n")
            return
        if self._lost:
            lost, self._lost = self._lost, 0
            self._on_lost(lost)
        data = text.encode(stream.encoding or "utf-8", "backslashreplace")
        if not self._hand_over(stream, data, result=False):
            stream.write(text)
            stream.flush()

    def _hand_over(self, stream: TextIO, data: bytes, *, result: bool) -> bool:
        """Hand *data* to the thread if the write may block; return whether it was handed over."""
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:  # no event loop that must not be blocked
            return not self.finish()  # what is not read until then is lost
        if not data or not (self.behind or may_wait(stream, len(data))) or not self._started():
            return False
        with self._changed:
            self._waiting.append(_Write(stream.fileno(), data, result))
            self._accepted += len(data)
            self._changed.notify()
        return True

    def finish(self) -> bool:
        """Wait until the thread has written all; return False if nothing is read for END_SECONDS."""
        with self._changed:
            done = -1
            while self.behind and done != self._done:
                done = self._done
                self._changed.wait(END_SECONDS)
            return not self.behind

    def _started(self) -> bool:
        if self._thread is None:
            # A daemon thread: one that waits for a reader does not keep the process from ending.
            thread = threading.Thread(target=self._run, name="writer", daemon=True)
            try:
                thread.start()
            except (RuntimeError, MemoryError):  # no more threads on this machine
                return False
            self._thread = thread
        return True

    def _run(self) -> None:
        while True:
            try:
                self._write_next()
            except MemoryError:  # the thread must not end: what waits would wait forever
                time.sleep(_NO_MEMORY_SECONDS)

    def _write_next(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            write = self._waiting[0]
        try:
            if self._error is None:
                _write_all(write.descriptor, write.data)
        except (OSError, MemoryError) as error:
            if write.result:
                self._error = error
        with self._changed:
            self._done += len(write.data)
            self._waiting.popleft()
        self._wake()

    def _wake(self) -> None:
        """Let `finish` and `drained` look at what is written."""
        assert self._loop is not None  # set before anything is handed over
        while True:
            try:
                with self._changed:
                    self._changed.notify_all()
                self._loop.call_soon_threadsafe(self._written.set)
            except MemoryError:
                time.sleep(_NO_MEMORY_SECONDS)
                continue
            except RuntimeError:  # the loop is closed, so nothing waits there
                pass
            return


def continue_unread() -> None:
    """Let this process continue while its stderr is not read, until it ends: for one that others depend on.

    Up to MAX_BEHIND bytes wait for a reader. What is dropped beyond that is logged as `log_lines_lost`.
    """
    if sys.stderr is not None:
        sys.stderr = cast("TextIO", _Stderr(sys.stderr, Writer(on_lost=_log_lost)))


def _log_lost(lines: int) -> None:
    LibraryLogger().warning("log_lines_lost", count=lines, cause="stderr was not read")


class _StandIn:
    """Replaces a text stream; what it does not define is that of the stream."""

    def __init__(self, stream: TextIO, writer: Writer) -> None:
        self._stream = stream
        self._writer = writer

    def flush(self) -> None:
        """Do nothing: what can be written at once is written already."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Stderr(_StandIn):
    def flush(self) -> None:
        """Once there is no event loop any more, wait for the reader of what was written, as long as it reads."""
        if asyncio._get_running_loop() is None:  # noqa: SLF001 - documented, despite its name
            self._writer.finish()

    def write(self, text: str) -> int:
        self._writer.write_notice(self._stream, text)
        return len(text)


class _Stdout(_StandIn):
    def __init__(self, stream: TextIO, writer: Writer) -> None:
        super().__init__(stream, writer)
        self.buffer = _Buffer(stream, writer)

    def write(self, text: str) -> int:
        self.buffer.write(text.encode(self._stream.encoding or "utf-8", self._stream.errors or "strict"))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))


class _Buffer(_StandIn):
    def write(self, data: bytes) -> int:
        self._writer.write_result(self._stream, data)
        return len(data)


def may_wait(stream: TextIO, size: int) -> bool:
    """Return whether a write of *size* bytes may block until a reader reads.

    A file on a disk does not block, nor a pipe with room for it: poll(2) reports room for PIPE_BUF bytes. The room of a
    terminal is unknown.
    """
    try:
        descriptor = stream.fileno()
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        if size > select.PIPE_BUF or os.isatty(descriptor):
            return True
    except (OSError, ValueError):  # not a file of the system, or closed: the write raises the error
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return not poll.poll(0)


def _write_all(descriptor: int, data: bytes) -> None:
    # Not through the stream, whose lock the main thread would wait for at exit; and in pieces, so that progress is
    # visible (`remaphore.tasks`).
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left[:_PIECE]) :]
        except BlockingIOError:  # the caller has made the descriptor non-blocking
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
