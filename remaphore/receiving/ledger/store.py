"""The ledger on disk: SQLite, in one file, written in transactions that are durable when they return.

Tables: `senders` (key, low-water mark), `messages` (sender, hash of the signed bytes, digest, signed time, state, and
the reply once there is one), `meta` (the low-water mark of senders without their own: when this ledger
began). The columns have different names, which stay until the schema changes: `floor` is the low-water mark,
`identity` the hash of the signed bytes, the state `refused` means rejected. The schema's version is in
`PRAGMA user_version`. A `Store` is used in the ledger's one thread.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from remaphore.errors import LedgerError

VERSION = 1

ENTERED, STARTED, DONE, REJECTED = "entered", "started", "done", "refused"

# The integrity check at startup evaluates the CHECKs too. SQLite has no checksums, so they are what detects a damaged
# value. STRICT tables would do the same, but need SQLite 3.37, and Python 3.11 runs with older ones.
# Rows are stored in the order in which they were written, so that one transaction touches few pages. The only index is
# on the last column, because a row that is cut off loses its last column first: the check then finds them different.
_SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL CHECK (typeof(value) = 'integer'));
CREATE TABLE senders (
    sender TEXT PRIMARY KEY CHECK (typeof(sender) = 'text'), floor INTEGER NOT NULL CHECK (typeof(floor) = 'integer')
) WITHOUT ROWID;
CREATE TABLE messages (
    sender TEXT NOT NULL CHECK (typeof(sender) = 'text'),
    identity BLOB NOT NULL CHECK (typeof(identity) = 'blob' AND length(identity) = 32),
    time_ns INTEGER NOT NULL CHECK (typeof(time_ns) = 'integer'),
    state TEXT NOT NULL CHECK (state IN ('{ENTERED}', '{STARTED}', '{DONE}', '{REJECTED}')),
    verb TEXT NOT NULL DEFAULT '' CHECK (typeof(verb) = 'text'),
    wants_reply INTEGER NOT NULL DEFAULT 0 CHECK (wants_reply IN (0, 1)),
    exit_code INTEGER, output BLOB, resent INTEGER NOT NULL DEFAULT 0 CHECK (typeof(resent) = 'integer'),
    digest BLOB NOT NULL UNIQUE CHECK (typeof(digest) = 'blob' AND length(digest) = 32)
);
"""

ENTER = f"INSERT OR IGNORE INTO messages (sender, identity, digest, time_ns, state) VALUES (?, ?, ?, ?, '{ENTERED}')"
# The file decides: START changes no row unless the message was entered and was neither started nor rejected since.
START = f"UPDATE messages SET state = '{STARTED}', verb = ?, wants_reply = ? WHERE digest = ? AND state = '{ENTERED}'"
FINISH = f"UPDATE messages SET state = '{DONE}', exit_code = ?, output = ? WHERE digest = ? AND state = '{STARTED}'"
REJECT = f"UPDATE messages SET state = '{REJECTED}' WHERE digest = ? AND state <> '{DONE}'"
RESEND = "UPDATE messages SET resent = resent + 1 WHERE digest = ?"
RAISE_LOW_WATER_MARK = (
    "INSERT INTO senders VALUES (?, ?) ON CONFLICT (sender) DO UPDATE SET floor = max(floor, excluded.floor)"
)
# Only rows in a final state are deleted. The row of a message that is still being handled is deleted by a later sweep,
# once its state is final: by then its sender's low-water mark rejects the message.
EVICT = f"DELETE FROM messages WHERE digest = ? AND state IN ('{DONE}', '{REJECTED}')"
ABANDON = f"UPDATE messages SET state = '{REJECTED}' WHERE state = '{ENTERED}'"
SWEEP = f"""DELETE FROM messages WHERE state IN ('{DONE}', '{REJECTED}')
            AND time_ns <= (SELECT floor FROM senders WHERE senders.sender = messages.sender)"""

Statement = tuple[str, Sequence[object]]


class Row(NamedTuple):
    """A remembered message."""

    sender: str
    signed_hash: bytes  # SHA-256 of the signed bytes; the column is `identity`
    digest: bytes
    time_ns: int
    state: str
    verb: str
    wants_reply: bool


class Recorded(NamedTuple):
    """The reply of a message that is done, and how often it was sent again."""

    exit_code: int | None
    output: bytes
    resent: int


class Inspection(NamedTuple):
    """The state of a ledger file, as read without a daemon.

    version: of its schema, 0 if it has none; damage: why it cannot be used, empty if it is intact (a newer schema is
    not examined); low_water_mark: the latest time, in Unix nanoseconds, at or before which messages of some sender are
    rejected.
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

        Raises LedgerError if the file is damaged, newer than this program, or cannot be opened.
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
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            if version == 0:
                # One transaction: a ledger without the time of its beginning would accept what was handled before it.
                self._database.executescript(
                    f"BEGIN;{_SCHEMA}INSERT INTO meta VALUES ('began', {now:d});PRAGMA user_version = {VERSION};COMMIT"
                )
            if version in (0, VERSION):
                damage = self._database.execute("PRAGMA integrity_check(1)").fetchone()[0]
                if damage != "ok":
                    raise sqlite3.DatabaseError(damage)
        except sqlite3.Error as error:
            self.close()
            raise self._error(error) from error
        if version not in (0, VERSION):
            self.close()
            raise LedgerError(
                f"ledger {path}: created by a newer remaphore (schema {version}, ours is {VERSION})",
                hint="install that version, or stop the daemon and move the file away",
            )

    @staticmethod
    def inspect(path: Path) -> Inspection:
        """Return the state of the ledger file *path*; it is opened read-only, also while a daemon uses it."""
        try:
            with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
                (version,) = database.execute("PRAGMA user_version").fetchone()
                if version != VERSION:
                    return Inspection(version, "" if version > VERSION else "it has no schema", 0)
                (damage,) = database.execute("PRAGMA integrity_check(1)").fetchone()
                (began,) = database.execute("SELECT value FROM meta WHERE name = 'began'").fetchone()
                (latest,) = database.execute("SELECT max(floor) FROM senders").fetchone()
                return Inspection(version, "" if damage == "ok" else damage, max(began, latest or began))
        except (sqlite3.Error, OSError, TypeError) as error:
            return Inspection(0, f"cannot be read: {error}", 0)

    def load(self) -> tuple[int, dict[str, int], list[Row]]:
        """Return the low-water mark of unknown senders, those of known ones, and every row. Raises LedgerError."""
        try:
            (began,) = self._database.execute("SELECT value FROM meta WHERE name = 'began'").fetchone()
            marks = dict(self._database.execute("SELECT sender, floor FROM senders"))
            columns = "sender, identity, digest, time_ns, state, verb, wants_reply"  # in the order of Row's fields
            rows = [Row(*row) for row in self._database.execute(f"SELECT {columns} FROM messages")]
        except (sqlite3.Error, TypeError) as error:
            raise self._error(error) from error
        return began, marks, rows

    def apply(self, statements: Iterable[Statement]) -> list[int]:
        """Execute all of *statements* durably, or none of them; return how many rows each changed.

        Raises LedgerError. Whatever it raises, no transaction is left open: the next one would fail for it.
        """
        try:
            self._database.execute("BEGIN IMMEDIATE")
            execute = self._database.cursor().execute
            changed = [execute(statement, values).rowcount for statement, values in statements]
            self._database.execute("COMMIT")
        except (sqlite3.Error, OverflowError) as error:  # SQLite's integers have 64 bits
            raise self._error(error) from error
        finally:
            # Whether or not the rollback works: what was not committed is not in the file, which is what matters.
            with suppress(sqlite3.Error):
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
        return changed

    def recorded(self, digest: bytes) -> Recorded | None:
        """Return the recorded reply of a message, or None if the message is not done. Raises LedgerError."""
        query = f"SELECT exit_code, output, resent FROM messages WHERE digest = ? AND state = '{DONE}'"
        try:
            row = self._database.execute(query, (digest,)).fetchone()
        except sqlite3.Error as error:
            raise self._error(error) from error
        return None if row is None or row[1] is None else Recorded(*row)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _error(self, error: Exception) -> LedgerError:
        return LedgerError(
            f"ledger {self.path}: {error}", hint="free space on the disk, or stop the daemon and move the file away"
        )
