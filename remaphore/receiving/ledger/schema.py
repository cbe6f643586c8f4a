"""The schema of the ledger's file, and the conversion of a file that an older version of this program wrote.

Tables: `senders` (key, low-water mark), `messages` (a row for each message that the replay window remembers: its verb,
whether it requests a reply, its uuid, its state, and the reply once there is one), `meta` (the low-water mark of
senders without their own: when this ledger began). The schema's version is in `PRAGMA user_version`.

Schema 3 had no numbers and no proofs, but an index by digest, which cost more than all the rest of a transaction.

Schema 2 had no uuid: it is empty for the messages of that time.

Schema 1 had other names (`floor`, `identity`, the state `refused`), and recorded verb and wants_reply at the start of a
message only: those of a message that waited when a daemon of that version was killed are unknown.
"""

from __future__ import annotations

import sqlite3
from collections import deque

from remaphore.receiving.ledger import rows
from remaphore.receiving.ledger.rows import FIXED, REJECTED

VERSION = 4

_SENDERS = """
CREATE TABLE senders (
    sender TEXT PRIMARY KEY CHECK (typeof(sender) = 'text'),
    low_water_mark INTEGER NOT NULL CHECK (typeof(low_water_mark) = 'integer')
) WITHOUT ROWID;
"""
# Rows are stored by number, in the order in which they were written, so that one transaction touches few pages. There
# is no index, in which each row of a transaction would touch a page of its own. A damaged value is detected by the
# proof of its row (see `rows`) and not by CHECKs, which SQLite would evaluate at each change of a row.
_MESSAGES = """
CREATE TABLE messages (
    number INTEGER PRIMARY KEY,
    sender TEXT NOT NULL, signed_hash BLOB NOT NULL, digest BLOB NOT NULL, time_ns INTEGER NOT NULL,
    verb TEXT NOT NULL, wants_reply INTEGER NOT NULL, uuid BLOB NOT NULL, state TEXT NOT NULL,
    exit_code INTEGER, output BLOB, resent INTEGER NOT NULL DEFAULT 0,
    proof INTEGER NOT NULL
);
"""
_META = "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL CHECK (typeof(value) = 'integer'));"

_SENDERS_FROM_1 = f"""
ALTER TABLE senders RENAME TO senders_1;
{_SENDERS}
INSERT INTO senders SELECT sender, floor FROM senders_1;
DROP TABLE senders_1;
"""
# The rows of older versions, with the names of today.
_OLD_ROWS = {
    1: f"""SELECT rowid AS number, sender, identity AS signed_hash, digest, time_ns, verb, wants_reply, x'' AS uuid,
               CASE state WHEN 'refused' THEN '{REJECTED}' ELSE state END AS state, exit_code, output, resent
           FROM old_messages""",
    2: "SELECT *, rowid AS number, x'' AS uuid FROM old_messages",
    3: "SELECT *, rowid AS number FROM old_messages",
}


def version_of(database: sqlite3.Connection) -> int:
    """Return the version of the schema in *database*, 0 if it has none. Raise sqlite3.Error."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    return int(version)


def prepare(database: sqlite3.Connection, *, now: int) -> None:
    """Create or convert the tables, unless they are there, or are those of a newer version. Raise sqlite3.Error.

    *now*: when a new ledger begins. Each is one transaction, so a daemon that is killed meanwhile leaves the file as it
    was: a ledger without the time of its beginning, or without some rows, would accept what was handled before.

    Of our own version, the rows are not examined: `rows.read` does that.
    """
    version = version_of(database)
    if version == 0:
        _execute(database, f"{_META}{_SENDERS}{_MESSAGES}INSERT INTO meta VALUES ('began', {now:d});")
        _check_pages(database)  # what there was before may be the rest of a damaged file
    elif version <= VERSION:
        _check_pages(database)
        if version < VERSION:
            database.create_function("prove", len(FIXED), rows.prove)
            _execute(database, conversion(version))


def conversion(version: int) -> str:
    """Return the statements that convert the tables of *version*. They use the function `prove`."""
    columns = ", ".join(FIXED)
    return f"""{_SENDERS_FROM_1 if version == 1 else ""}
ALTER TABLE messages RENAME TO old_messages;
{_MESSAGES}
INSERT INTO messages SELECT {columns}, state, exit_code, output, resent, prove({columns})
    FROM ({_OLD_ROWS[version]} ORDER BY rowid);
DROP TABLE old_messages;
"""


def check(database: sqlite3.Connection) -> None:
    """Raise sqlite3.Error if *database* is damaged, which has the schema of our version or of an older one."""
    _check_pages(database)
    # The integrity check of a connection that is read-only evaluates no CHECKs.
    for table, column in (("meta", "value"), ("senders", _mark_column(database))):
        (damaged,) = database.execute(f"SELECT count(*) FROM {table} WHERE typeof({column}) <> 'integer'").fetchone()
        if damaged:
            raise sqlite3.DatabaseError(f"{damaged} values of {table} are damaged")
    if version_of(database) == VERSION:
        deque(rows.read(database), maxlen=0)


def _check_pages(database: sqlite3.Connection) -> None:
    (damage,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    if damage != "ok":
        raise sqlite3.DatabaseError(damage)


def beginning(database: sqlite3.Connection) -> int:
    """Return the low-water mark of unknown senders, in Unix nanoseconds. Raise sqlite3.Error."""
    row = database.execute("SELECT value FROM meta WHERE name = 'began'").fetchone()
    if row is None:
        raise sqlite3.DatabaseError("the time of its beginning is missing")
    return int(row[0])


def latest_low_water_mark(database: sqlite3.Connection) -> int:
    """Return the highest of all low-water marks, in Unix nanoseconds. Raise sqlite3.Error."""
    (latest,) = database.execute(f"SELECT max({_mark_column(database)}) FROM senders").fetchone()
    began = beginning(database)
    return began if latest is None else max(began, int(latest))


def _mark_column(database: sqlite3.Connection) -> str:
    return "floor" if version_of(database) == 1 else "low_water_mark"


def _execute(database: sqlite3.Connection, script: str) -> None:
    database.executescript(f"BEGIN IMMEDIATE;{script}PRAGMA user_version = {VERSION};COMMIT")
