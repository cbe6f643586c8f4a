"""What the attacks on real processes share: their memory, floods through the broker, and a terminal to watch."""

import asyncio
import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

from remaphore.config.settings import Auth
from remaphore.transport.nats_client import NatsBus

MIB = 1024 * 1024


def resident_mib(pid):
    """Return the resident memory of a process."""
    return _status(pid, "VmRSS:")


def peak_mib(pid):
    """Return the most resident memory that a process ever had."""
    return _status(pid, "VmHWM:")


def _status(pid, name):
    return int(Path(f"/proc/{pid}/status").read_text().partition(name)[2].split()[0]) / 1024


@contextlib.asynccontextmanager
async def bus_of(fleet):
    """The bus of an attacker: somebody with the same login at the broker, or the broker itself."""
    auth = Auth(kind="credentials", file=Path(fleet.credentials))
    bus = await NatsBus.connect([fleet.server], auth=auth, limit=10.0, on_notice=lambda _line: None)
    try:
        yield bus
    finally:
        await bus.close()


async def flood(bus, make, *, seconds, least=1, where="remaphore.all", at_once=8):
    """Publish `make(0)`, `make(1)` and so on for *seconds*, and on until *least* were sent."""
    numbers = count()
    end = time.monotonic() + seconds

    async def publish():
        while (number := next(numbers)) < least or time.monotonic() < end:
            await bus.publish(where, make(number))

    await asyncio.gather(*(publish() for _ in range(at_once)))


class Terminal:
    """A terminal with one command in it, and this test as its user."""

    def __init__(self, *words):
        self._words = [sys.executable, "-m", "remaphore", *map(str, words)]
        self._seen = b""

    def __enter__(self):
        self._own, end = pty.openpty()
        self.process = subprocess.Popen(self._words, stdin=end, stdout=end, stderr=end, start_new_session=True)
        os.close(end)
        return self

    def __exit__(self, *_error):
        self.process.kill()
        self.process.wait()
        os.close(self._own)

    async def read(self, until):
        """Return all that was written, once *until* and the rest of its line are in it."""
        return await asyncio.to_thread(self._read, until)

    def _read(self, until, seconds=30):
        deadline = time.monotonic() + seconds
        while b"\n" not in self._seen.partition(until)[2]:
            ready, _, _ = select.select([self._own], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no {until!r} in {self._seen!r}"
            try:
                self._seen += os.read(self._own, 65_536)
            except OSError:  # EIO: the command has ended, and all that it wrote was read
                raise AssertionError(f"ended without {until!r}: {self._seen!r}") from None
        return self._seen
