"""Ledgers for the tests: what a killed daemon leaves behind, and a full disk."""

from __future__ import annotations

import resource
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from remaphore.protocol.message import Message
from remaphore.receiving.ledger.ledger import FILE, Ledger
from tests.harness.factories import NOW, SKEW

WAL = FILE + "-wal"


def make_ledger(folder: Path, *, now: int = NOW - 1, allow_skew_ns: int = SKEW) -> Ledger:
    """Return the ledger in *folder*, which was created just before the time of the tests' clock."""
    return Ledger(folder, allow_skew_ns=allow_skew_ns, now=now)


def crashed(ledger: Ledger, folder: Path, into: Path) -> Path:
    """Return *into*, with what the file system would hold if the process of *ledger* were killed now."""
    idle = threading.Event()  # a file that is being written cannot be copied as it is at one moment
    ledger._thread.submit(idle.set)
    idle.wait()
    into.mkdir()
    for name in (FILE, WAL):
        if (folder / name).exists():
            shutil.copy(folder / name, into / name)
    return into


@contextmanager
def no_room(folder: Path, size: int | None = None) -> Iterator[None]:
    """Let this process write no file beyond *size* bytes, or beyond where the next commit of the ledger would begin."""
    size = end_of_commits(folder) if size is None else size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def states(folder: Path) -> dict[bytes, str]:
    """Return what another process finds in the file: digest and state of every message."""
    with closing(sqlite3.connect(folder / FILE)) as database:
        return dict(database.execute("SELECT digest, state FROM messages"))


def state(folder: Path, message: Message) -> str | None:
    """Return the state of *message* in the file."""
    return states(folder).get(message.digest)


def end_of_commits(folder: Path) -> int:
    """Return where the last frame of the write-ahead log ends. What follows are zeros, or frames with another salt."""
    log = (folder / WAL).read_bytes()  # sqlite.org/fileformat2.html, "WAL File Format"
    frames = range(32, len(log), 24 + 4096)
    return next((frame for frame in frames if log[frame + 8 : frame + 16] != log[16:24]), len(log))
