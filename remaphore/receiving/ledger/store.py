"""The ledger on disk: SQLite, in one file, written in transactions that are durable when they return.

Tables: `senders` (key, floor), `messages` (sender, identity, digest, signed time, state, and the reply once there is
one), `meta` (the floor of senders that have none of their own: when this ledger began). The version of the schema is in
`PRAGMA user_version`. All of it runs in the ledger's one thread.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from remaphore.errors import LedgerError

VERSION = 1

ENTERED, STARTED, DONE, REJECTED = "entered", "started", "done", "refused"

# The integrity check at the start looks at the CHECKs too. SQLite has no checksums, so this is what tells a damaged
# value from a sound one; tables that are STRICT would need SQLite 3.37, and Python 3.11 runs with older ones.
# Rows lie in the order in which they came, so that the writes of one transaction touch few pages; the one index proves
# the last column, which is where a row that is cut off loses something first.
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
# The file has the last word: it changes no row unless the message was entered, and neither started nor rejected.
START = f"UPDATE messages SET state = '{STARTED}', verb = ?, wants_reply = ? WHERE digest = ? AND state = '{ENTERED}'"
FINISH = f"UPDATE messages SET state = '{DONE}', exit_code = ?, output = ? WHERE digest = ? AND state = '{STARTED}'"
REFUSE = f"UPDATE messages SET state = '{REJECTED}' WHERE digest = ? AND state <> '{DONE}'"
RESEND = "UPDATE messages SET resent = resent + 1 WHERE digest = ?"
RAISE = "INSERT INTO senders VALUES (?, ?) ON CONFLICT (sender) DO UPDATE SET floor = max(floor, excluded.floor)"
# Only what is final goes. What is under way goes with a sweep, once it is final: by then the floor rejects it.
DROP = f"DELETE FROM messages WHERE digest = ? AND state IN ('{DONE}', '{REJECTED}')"
ABANDON = f"UPDATE messages SET state = '{REJECTED}' WHERE state = '{ENTERED}'"
SWEEP = f"""DELETE FROM messages WHERE state IN ('{DONE}', '{REJECTED}')
            AND time_ns <= (SELECT floor FROM senders WHERE senders.sender = messages.sender)"""

Statement = tuple[str, Sequence[object]]


class Row(NamedTuple):
    """A message that is remembered."""

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


class Store:
    """One open ledger file."""

    def __init__(self, path: Path, *, now: int) -> None:
        """Open *path*, made new and empty if it is not there: then all that was signed until *now* will be rejected.

        Raises LedgerError if it is damaged, newer than this program, or cannot be opened.
        """
        self.path = path
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise self._error(error) from error
        try:
            self._prepare(now)
        except sqlite3.Error as error:
            self.close()
            raise self._error(error) from error
        except LedgerError:
            self.close()
            raise

    def load(self) -> tuple[int, dict[str, int], list[Row]]:
        """Return the low-water mark of unknown senders, those of known ones, and every row."""
        try:
            (began,) = self._database.execute("SELECT value FROM meta WHERE name = 'began'").fetchone()
            low_water_marks = dict(self._database.execute("SELECT sender, floor FROM senders"))
            columns = "sender, identity, digest, time_ns, state, verb, wants_reply"  # in the order of Row's fields
            rows = [Row(*row) for row in self._database.execute(f"SELECT {columns} FROM messages")]
        except (sqlite3.Error, TypeError) as error:
            raise self._error(error) from error
        return began, low_water_marks, rows

    def apply(self, statements: Iterable[Statement]) -> list[int]:
        """Do all of *statements*, durably, or none of them; return how many rows each changed. Raises LedgerError."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            execute = self._database.cursor().execute
            changed = [execute(statement, values).rowcount for statement, values in statements]
            self._database.execute("COMMIT")
        except (sqlite3.Error, OverflowError) as error:  # SQLite's integers have 64 bits
            self._roll_back()
            raise self._error(error) from error
        return changed

    def recorded(self, digest: bytes) -> Recorded | None:
        """Return the reply that was recorded for a message, if it is done."""
        query = f"SELECT exit_code, output, resent FROM messages WHERE digest = ? AND state = '{DONE}'"
        try:
            row = self._database.execute(query, (digest,)).fetchone()
        except sqlite3.Error as error:
            raise self._error(error) from error
        return None if row is None or row[1] is None else Recorded(*row)

    def close(self) -> None:
        """Close the file; what was applied is in it."""
        self._database.close()

    def _prepare(self, now: int) -> None:
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise LedgerError(
                f"ledger {self.path}: made by a newer remaphore (schema {version}, ours is {VERSION}); install that"
                " one, or stop the daemon and move the file away"
            )
        if version == 0:
            # One transaction: a ledger without its beginning would open the window again.
            self._database.executescript(
                f"BEGIN;{_SCHEMA}INSERT INTO meta VALUES ('began', {now:d});PRAGMA user_version = {VERSION};COMMIT"
            )
        damage = self._database.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if damage != "ok":
            raise sqlite3.DatabaseError(damage)

    def _roll_back(self) -> None:
        try:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
        except sqlite3.Error:
            return  # the transaction is not in the file, which is what matters

    def _error(self, error: Exception) -> LedgerError:
        return LedgerError(f"ledger {self.path}: {error}; free the disk, or stop the daemon and move the file away")
