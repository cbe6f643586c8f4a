"""The two pipes of a running program, read and written by the event loop."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import termios
from typing import IO

_CHUNK = 65_536  # the default capacity of a pipe


class Output:
    """The read end of the one pipe for stdout and stderr. The first *cap* bytes are kept, all bytes are counted."""

    def __init__(self, pipe: IO[bytes], cap: int) -> None:
        self.kept = bytearray()
        self.total = 0
        self._pipe = pipe
        self._cap = cap
        self._loop = asyncio.get_running_loop()
        os.set_blocking(pipe.fileno(), False)
        self._loop.add_reader(pipe.fileno(), self._read)

    def close(self) -> None:
        """Read what is in the pipe now, and close it.

        Not until the end of the file: a background process may keep the pipe open forever (`sleep 600 &`), or write to
        it without end (`yes &`). What the program itself wrote before it exited is in the pipe by now.
        """
        waiting = int.from_bytes(fcntl.ioctl(self._pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
        while waiting > 0 and (got := self._read()):
            waiting -= got
        self._loop.remove_reader(self._pipe.fileno())
        self._pipe.close()

    def _read(self) -> int:
        try:
            chunk = os.read(self._pipe.fileno(), _CHUNK)
        except BlockingIOError:
            return 0
        if not chunk:
            self._loop.remove_reader(self._pipe.fileno())
        self.kept += chunk[: self._cap - len(self.kept)]
        self.total += len(chunk)
        return len(chunk)


class Input:
    """The write end of a pipe for stdin: written as the program reads; closed at the end or when it stops reading."""

    def __init__(self, pipe: IO[bytes], data: bytes) -> None:
        self._pipe = pipe
        self._left = memoryview(data)
        self._loop = asyncio.get_running_loop()
        os.set_blocking(pipe.fileno(), False)
        self._write()  # most payloads fit into the pipe
        if not pipe.closed:
            self._loop.add_writer(pipe.fileno(), self._write)

    def close(self) -> None:
        """Close the pipe, whether or not all was written."""
        if not self._pipe.closed:
            self._loop.remove_writer(self._pipe.fileno())
            self._pipe.close()

    def _write(self) -> None:
        try:
            self._left = self._left[os.write(self._pipe.fileno(), self._left) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._left = self._left[:0]
        if not self._left:
            self.close()
