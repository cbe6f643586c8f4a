"""Writing to a stream that may not be read: a full pipe, a terminal that has been stopped.

Such a write waits until someone reads, and the event loop would wait with it: replies that arrive meanwhile would be
judged too late and their senders named as missing, and neither --timeout nor Ctrl-C would do anything. So what may have
to wait is written by a thread, in order, and the loop goes on. What cannot wait, which is nearly everything, is written
at once: handing it over would cost as much as checking a signature.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import stat
import threading
from collections import deque
from typing import Any, TextIO

# Bytes of notices, log lines and progress that wait for a stderr that nobody reads; what comes then is dropped.
MAX_BEHIND = 1024 * 1024


class Output:
    """Writes to stdout and stderr, in the order of the calls, without ever making the event loop wait."""

    def __init__(self) -> None:
        self.failed = False  # a write of a result did not succeed, or is under way
        self._error: OSError | None = None
        self._waiting: deque[tuple[TextIO, bytes, bool]] = deque()
        self._bytes = 0  # of what waits, and of what the thread is writing
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None
        self._written = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def busy(self) -> bool:
        """Whether something waits to be written."""
        return self.behind > 0

    @property
    def behind(self) -> int:
        """How many bytes wait to be written."""
        return self._bytes

    def write(self, stream: TextIO, data: bytes) -> None:
        """Write *data*, which is part of the result. Raises OSError, for an earlier write too."""
        if self._error is not None:
            raise self._error
        if not self._hand_over(stream, data, result=True):
            self.failed = True  # until it is written
            stream.buffer.write(data)
            stream.buffer.flush()
            self.failed = False

    def write_notice(self, stream: TextIO, text: str) -> None:
        """Write *text* for people. Raises OSError if it is written at once and cannot be."""
        data = text.encode(stream.encoding or "utf-8", "backslashreplace")
        if not self._hand_over(stream, data, result=False):
            stream.write(text)
            stream.flush()

    async def drained(self, limit: float | None = None) -> None:
        """Return once all is written, or after *limit* seconds. Raises the OSError of a result that cannot be."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                while self.busy and self._error is None:
                    self._written.clear()
                    await self._written.wait()
        if self._error is not None:
            raise self._error

    def _hand_over(self, stream: TextIO, data: bytes, *, result: bool) -> bool:
        """Let the thread write *data* if that may have to wait; return whether it will."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False  # there is nothing that could not wait
        if not data or not (self.busy or may_wait(stream, len(data))) or not self._started(loop):
            return False
        with self._news:
            self._waiting.append((stream, data, result))
            self._bytes += len(data)
            self._news.notify()
        return True

    def _started(self, loop: asyncio.AbstractEventLoop) -> bool:
        self._loop = loop
        if self._thread is None:
            # A daemon: a thread that waits for a reader must not keep the process from ending.
            thread = threading.Thread(target=self._run, name="output", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the machine gives us no thread
                return False
            self._thread = thread
        return True

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting)
                stream, data, result = self._waiting.popleft()
            try:
                if self._error is None:
                    _write_all(stream.fileno(), data)
            except OSError as error:
                if result:
                    self._error, self.failed = error, True
            with self._news:
                self._bytes -= len(data)
            assert self._loop is not None  # set before anything is handed over
            with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._written.set)


class Queued:
    """Stands in for a stream such as stderr: what is written to it goes through *output*, and so never waits."""

    def __init__(self, stream: TextIO, output: Output) -> None:
        self._stream = stream
        self._output = output

    def write(self, text: str) -> int:
        """Write *text*, or drop it if too much waits."""
        if self._output.behind < MAX_BEHIND:
            self._output.write_notice(self._stream, text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: what can be written at once has been."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def may_wait(stream: TextIO, size: int) -> bool:
    """Return whether a write of *size* bytes may have to wait for a reader.

    It does not for a file on a disk, and for a pipe that has room: poll(2) says so of PIPE_BUF bytes. How much room a
    terminal has cannot be asked.
    """
    try:
        descriptor = stream.fileno()
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        if size > select.PIPE_BUF or os.isatty(descriptor):
            return True
    except (OSError, ValueError):  # not a file of the system, or closed: the write itself says so
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return not poll.poll(0)


def _write_all(descriptor: int, data: bytes) -> None:
    # Past the stream, whose lock the main thread would wait for at the end.
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
