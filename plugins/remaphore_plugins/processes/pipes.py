"""The two pipes of a program, read and written by the event loop.

Each is made before the program is started, which gets its `program_end`; `give` closes that end here afterwards.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import termios

_CHUNK = 65_536  # the default capacity of a pipe
_SPARE = bytearray(4096)  # takes what there is no memory for


class _Pipe:
    """What both have. program_end: a descriptor, -1 once it is closed."""

    program_end: int

    def give(self) -> None:
        """Close the program's end here, once."""
        if self.program_end >= 0:
            os.close(self.program_end)
            self.program_end = -1


class Output(_Pipe):
    """The one pipe for stdout and stderr. The first *cap* bytes are kept if there is memory; all bytes are counted."""

    def __init__(self, cap: int) -> None:
        """Make the pipe. Raise OSError."""
        self.kept = bytearray()
        self.total = 0
        self._cap = cap
        self._loop = asyncio.get_running_loop()
        self._watched = False
        self._pipe, self.program_end = os.pipe()
        os.set_blocking(self._pipe, False)

    def watch(self) -> None:
        """Read from now on, as the program writes. Raise OSError if that cannot be watched."""
        if not self._watched:
            self._loop.add_reader(self._pipe, self._read)
            self._watched = True

    def close(self) -> None:
        """Read what is in the pipe now, and close it.

        Not until the end of the file: a background process may keep the pipe open forever (`sleep 600 &`), or write to
        it without end (`yes &`). What the program itself wrote before it exited is in the pipe by now.
        """
        try:
            waiting = int.from_bytes(fcntl.ioctl(self._pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
            while waiting > 0 and (got := self._read()):
                waiting -= got
        finally:
            self._unwatch()
            os.close(self._pipe)

    def _unwatch(self) -> None:
        if self._watched:
            self._loop.remove_reader(self._pipe)
            self._watched = False

    def _read(self) -> int:
        size = 0
        try:
            try:
                chunk = os.read(self._pipe, _CHUNK)
                size = len(chunk)
                self.kept += chunk[: self._cap - len(self.kept)]
            except MemoryError:  # what comes from here on is as what is beyond the cap
                self._cap = len(self.kept)
                size = size or os.readv(self._pipe, [_SPARE])
        except BlockingIOError:
            return 0
        if not size:
            self._unwatch()
        self.total += size
        return size


class Input(_Pipe):
    """The pipe for stdin: written as the program reads; closed at the end of *data*, or when it stops reading."""

    def __init__(self, data: bytes) -> None:
        """Make the pipe, and write to it what it can hold: all of most payloads. Raise OSError."""
        self._left = memoryview(data)
        self._loop = asyncio.get_running_loop()
        self._watched = False
        self.program_end, self._pipe = os.pipe()
        os.set_blocking(self._pipe, False)
        self._write()

    def watch(self) -> None:
        """Write the rest, if there is any, from now on. Raise OSError if that cannot be watched."""
        if self._pipe >= 0:
            self._loop.add_writer(self._pipe, self._write)
            self._watched = True

    def close(self) -> None:
        """Close the pipe, whether or not all was written."""
        if self._watched:
            self._loop.remove_writer(self._pipe)
            self._watched = False
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def _write(self) -> None:
        try:
            self._left = self._left[os.write(self._pipe, self._left) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._left = self._left[:0]
        if not self._left:
            self.close()
