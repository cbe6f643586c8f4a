"""A command on a terminal of a given size, and what its user sees there."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pyte

SECONDS = 30
SILENT = 0.05  # a wait between two looks at the screen, not a limit


class Terminal:
    """The terminal in which `remaphore WORDS...` runs. raw: all bytes that were written to it.

    shell: a line of bash that runs it as `"$@"`, in a pipe for example.
    """

    def __init__(self, *words, columns=80, lines=24, stdout=None, shell="", **environment):
        self._screen = pyte.HistoryScreen(columns, lines, history=1000)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""
        self._own, end = pty.openpty()
        self._resize(end, columns)
        self.process = subprocess.Popen(
            [*(("bash", "-c", shell, "bash") if shell else ()), sys.executable, "-m", "remaphore", *map(str, words)],
            stdin=end,
            stdout=end if stdout is None else stdout,
            stderr=end,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", **environment},
        )
        os.close(end)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.process.kill()
        self.process.wait()
        os.close(self._own)

    @property
    def text(self):
        """All lines that were ever written and not erased."""
        gone = [
            "".join(line[column].data for column in range(self._screen.columns)) for line in self._screen.history.top
        ]
        return "\n".join(line.rstrip() for line in (*gone, *self._screen.display)).rstrip("\n")

    @property
    def shown(self):
        """The lines that the user sees now."""
        return [line.rstrip() for line in self._screen.display]

    def resize(self, columns):
        """Change the width of the window; the program in it is notified."""
        self._resize(self._own, columns)
        self._screen.resize(columns=columns)

    def type(self, text):
        """Type *text*, which is bytes."""
        os.write(self._own, text)

    def interrupt(self):
        """Send SIGINT to the command alone."""
        self.process.send_signal(signal.SIGINT)

    def wait_for(self, condition):
        """Read until *condition*, a text or a function of this terminal, holds."""
        deadline = time.monotonic() + SECONDS
        while not (condition in self.text if isinstance(condition, str) else condition(self)):
            assert time.monotonic() < deadline, f"no {condition!r} in\n{self.text}"
            assert self._read(), f"ended without {condition!r}:\n{self.text}"

    async def read_line(self, text):
        """Return all bytes that were written, once *text* (bytes) and the rest of its line are among them."""
        await asyncio.to_thread(self.wait_for, lambda own: b"\n" in own.raw.partition(text)[2])
        return self.raw

    def finish(self):
        """Read to the end, and return the exit code."""
        deadline = time.monotonic() + SECONDS
        while self._read():
            assert time.monotonic() < deadline, f"does not end:\n{self.text}"
        return self.process.wait(SECONDS)

    def _read(self):
        if select.select([self._own], [], [], SILENT)[0]:
            try:
                data = os.read(self._own, 65_536)
            except OSError:  # EIO: the other end is closed
                return False
            self.raw += data
            self._stream.feed(data)
        return True

    @staticmethod
    def _resize(terminal, columns):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
