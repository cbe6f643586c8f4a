"""The ledger on disk: SQLite, in one file, written in transactions that are durable when they return.

The tables are those of `schema`. A `Store` is used in the ledger's one thread.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from remaphore.errors import LedgerError
from remaphore.receiving.ledger import locks, rows, schema
from remaphore.receiving.ledger.batch import Batch
from remaphore.receiving.ledger.merge import Execution, merged, one_by_one
from remaphore.receiving.ledger.rows import DONE, Row
from remaphore.receiving.ledger.schema import VERSION

# Bytes that the write-ahead log keeps on the disk after a large transaction has been copied into the file.
WAL_BYTES = 16 * 1024 * 1024
# Bytes that it has from the start, zeros at first: about as many as it uses until SQLite begins again at its front. A
# commit that makes the file longer takes half as long again, as the file system records its new length as well.
WAL_FIRST_BYTES = 4 * 1024 * 1024
# Free pages (of 4 KiB) that stay in the file to be used again.
MAX_FREE_PAGES = 4096

_PIECE = 64 * 1024  # bytes of zeros in one buffer

# By the primary result code of SQLite. Anything else is damage.
_HINTS = {
    sqlite3.SQLITE_BUSY: "end the program that uses the file (fuser names it), such as a backup or sqlite3",
    sqlite3.SQLITE_FULL: "free space on the disk",
    sqlite3.SQLITE_IOERR: "free space on the disk (df, quota), or check it: dmesg shows what the kernel reports",
    sqlite3.SQLITE_CANTOPEN: "let the daemon's user write to the file and to its directory",
    sqlite3.SQLITE_READONLY: "let the daemon's user write to the file and to its directory",
    sqlite3.SQLITE_NOMEM: "free some memory, or raise its limit (MemoryMax of the unit)",
}


class Recorded(NamedTuple):
    """The reply of a message that is done, and how often it was sent again."""

    exit_code: int | None
    output: bytes
    resent: int


class Inspection(NamedTuple):
    """The state of a ledger file, as read without a daemon.

    version: of its schema, 0 if it has none; an older one is converted when a daemon starts. damage: why it cannot be
    used, empty if it is intact (a newer schema is not examined). low_water_mark: the latest time, in Unix nanoseconds,
    at or before which messages of some sender are rejected.
    """

    version: int
    damage: str
    low_water_mark: int

    @property
    def newer(self) -> bool:
        """Whether a newer version of this program wrote the file."""
        return self.version > VERSION


class Store:
    """One open ledger file."""

    def __init__(self, path: Path, *, now: int) -> None:
        """Open *path*; if it does not exist, create it, and all that was signed at or before *now* is rejected.

        Raise LedgerError if the file is damaged, newer than this program, or cannot be opened.
        """
        self.path = path
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise self._error(error) from error
        try:
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
            version = schema.version_of(self._database)
            schema.prepare(self._database, now=now)
        except sqlite3.Error as error:
            self.close()
            raise self._error(error) from error
        if version > VERSION:
            self.close()
            raise LedgerError(
                f"ledger {path}: created by a newer remaphore (schema {version}, ours is {VERSION})",
                hint="install that version, or stop the daemon and move the file away",
            )
        self._shrink()
        self._extend_log()

    @staticmethod
    def inspect(path: Path) -> Inspection:
        """Return the state of the ledger file *path*; it is opened read-only, also while a daemon uses it."""
        try:
            with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
                version = schema.version_of(database)
                if version > VERSION or version == 0:
                    return Inspection(version, "" if version else "it has no schema", 0)
                try:
                    schema.check(database)  # before anything is read as a number
                    return Inspection(version, "", schema.latest_low_water_mark(database))
                except sqlite3.Error as error:
                    return Inspection(version, str(error), 0)
        except (sqlite3.Error, OSError) as error:
            return Inspection(0, f"cannot be read: {error}", 0)

    def load(self) -> tuple[int, dict[str, int], list[Row]]:
        """Return the low-water mark of unknown senders, those of known ones, and every row. Raise LedgerError."""
        try:
            began = schema.beginning(self._database)
            marks = dict(self._database.execute("SELECT sender, low_water_mark FROM senders"))
            messages = list(rows.read(self._database))
        except sqlite3.Error as error:
            raise self._error(error) from error
        return began, marks, messages

    def apply(self, batch: Batch) -> list[bool]:
        """Write *batch* durably, or nothing of it; return whether each of its statements changed a row.

        Raise LedgerError. Whatever it raises, no transaction is left open: the next one would fail for it.
        """
        executions = merged(batch) if len(batch) > 1 else None
        if executions is not None and self._execute(executions) is not None:
            return [True] * len(batch.writes)
        changed = self._execute(one_by_one(batch)) or []
        return [count > 0 for count in changed[len(changed) - len(batch.writes) :]]

    def _execute(self, executions: Iterable[Execution]) -> list[int] | None:
        """Execute all of *executions* in one transaction, and return how many rows each changed.

        None, and nothing is changed, if one changed another number of rows than it states. Raise LedgerError.
        """
        changed = []
        try:
            self._database.execute("BEGIN IMMEDIATE")
            execute = self._database.cursor().execute
            for sql, values, expected in executions:
                count = execute(sql, values).rowcount
                if expected is not None and count != expected:
                    return None
                changed.append(count)
            self._database.execute("COMMIT")
        except (sqlite3.Error, OverflowError) as error:  # SQLite's integers have 64 bits
            raise self._error(error) from error
        finally:
            # Whether or not the rollback works: what was not committed is not in the file, which is what matters.
            with suppress(sqlite3.Error):
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
        return changed

    def recorded(self, number: int) -> Recorded | None:
        """Return the recorded reply of a message, or None if the message is not done. Raise LedgerError."""
        query = f"SELECT exit_code, output, resent FROM messages WHERE number = ? AND state = '{DONE}'"
        try:
            row = self._database.execute(query, (number,)).fetchone()
        except sqlite3.Error as error:
            raise self._error(error) from error
        return None if row is None or row[1] is None else Recorded(*row)

    def _shrink(self) -> None:
        """Rewrite the file without its free pages if these are most of it, such as after a flood."""
        # What cannot be shrunk, such as for lack of room for the copy, can be used as it is.
        with suppress(sqlite3.Error):
            size, free = (
                self._database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count")
            )
            if free > MAX_FREE_PAGES and free > size // 2:
                self._database.execute("VACUUM")
                self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _extend_log(self) -> None:
        """Make the write-ahead log WAL_FIRST_BYTES long, if there is room for that.

        What follows its last valid frame is not read: each frame has the salt of the header and a checksum, as the log
        is written again from its front after each checkpoint (sqlite.org/fileformat2.html, "The Write-Ahead Log").
        """
        with suppress(sqlite3.Error, OSError):
            self._database.execute("BEGIN IMMEDIATE")  # no other process, such as sqlite3, writes to it meanwhile
            try:
                _extend(Path(f"{self.path}-wal"), WAL_FIRST_BYTES)
            finally:
                self._database.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _error(self, error: Exception) -> LedgerError:
        if isinstance(error, OSError):
            return LedgerError(f"ledger {self.path}: {error.strerror}", hint=locks.hint(error))
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # only errors that SQLite itself found have one
        hint = _HINTS.get(code, "stop the daemon and move the file away")
        return LedgerError(f"ledger {self.path}: {error}", hint=hint)


def _extend(path: Path, size: int) -> None:
    """Append zeros to the file *path* until it has *size* bytes, or nothing if they do not fit. Raise OSError."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        before = os.fstat(file).st_size
        zeros = memoryview(bytes(_PIECE))
        pieces = [zeros[: size - start] for start in range(before, size, _PIECE)]
        fits = not pieces
        try:
            fits = fits or os.pwritev(file, pieces, before) == size - before
            os.fsync(file)
        finally:
            if not fits:
                os.ftruncate(file, before)
    finally:
        os.close(file)
