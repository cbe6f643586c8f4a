"""The schema of the ledger's file, and the conversion of a file that an older version of this program wrote.

Tables: `senders` (key, low-water mark), `messages` (a row for each message that the replay window remembers: its verb,
whether it requests a reply, its uuid, its state, and the reply once there is one), `meta` (the low-water mark of
senders without their own: when this ledger began). The schema's version is in `PRAGMA user_version`.

Schema 2 had no uuid: it is empty for the messages of that time.

Schema 1 had other names (`floor`, `identity`, the state `refused`), and recorded verb and wants_reply at the start of a
message only: those of a message that waited when a daemon of that version was killed are unknown.
"""

from __future__ import annotations

import sqlite3

VERSION = 3

ENTERED, STARTED, DONE, REJECTED = "entered", "started", "done", "rejected"

# The integrity check at startup evaluates the CHECKs too. SQLite has no checksums, so they are what detects a damaged
# value. STRICT tables would do the same, but need SQLite 3.37, and Python 3.11 runs with older ones.
# Rows are stored in the order in which they were written, so that one transaction touches few pages. The only index is
# on the last column, because a row that is cut off loses its last column first: the check then finds them different.
_SENDERS = """
CREATE TABLE senders (
    sender TEXT PRIMARY KEY CHECK (typeof(sender) = 'text'),
    low_water_mark INTEGER NOT NULL CHECK (typeof(low_water_mark) = 'integer')
) WITHOUT ROWID;
"""
_MESSAGES = f"""
CREATE TABLE messages (
    sender TEXT NOT NULL CHECK (typeof(sender) = 'text'),
    signed_hash BLOB NOT NULL CHECK (typeof(signed_hash) = 'blob' AND length(signed_hash) = 32),
    time_ns INTEGER NOT NULL CHECK (typeof(time_ns) = 'integer'),
    state TEXT NOT NULL CHECK (state IN ('{ENTERED}', '{STARTED}', '{DONE}', '{REJECTED}')),
    verb TEXT NOT NULL CHECK (typeof(verb) = 'text'),
    wants_reply INTEGER NOT NULL CHECK (wants_reply IN (0, 1)),
    uuid BLOB NOT NULL CHECK (typeof(uuid) = 'blob'),
    exit_code INTEGER, output BLOB, resent INTEGER NOT NULL DEFAULT 0 CHECK (typeof(resent) = 'integer'),
    digest BLOB NOT NULL UNIQUE CHECK (typeof(digest) = 'blob' AND length(digest) = 32)
);
"""
_META = "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL CHECK (typeof(value) = 'integer'));"

_FROM_1 = f"""
ALTER TABLE senders RENAME TO senders_1;
ALTER TABLE messages RENAME TO messages_1;
{_SENDERS}{_MESSAGES}
INSERT INTO senders SELECT sender, floor FROM senders_1;
INSERT INTO messages SELECT sender, identity, time_ns, CASE state WHEN 'refused' THEN '{REJECTED}' ELSE state END,
    verb, wants_reply, x'', exit_code, output, resent, digest FROM messages_1 ORDER BY rowid;
DROP TABLE senders_1;
DROP TABLE messages_1;
"""
_FROM_2 = f"""
ALTER TABLE messages RENAME TO messages_2;
{_MESSAGES}
INSERT INTO messages SELECT sender, signed_hash, time_ns, state, verb, wants_reply, x'', exit_code, output, resent,
    digest FROM messages_2 ORDER BY rowid;
DROP TABLE messages_2;
"""


def version_of(database: sqlite3.Connection) -> int:
    """Return the version of the schema in *database*, 0 if it has none. Raise sqlite3.Error."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    return int(version)


def prepare(database: sqlite3.Connection, *, now: int) -> None:
    """Create or convert the tables, unless they are there, or are those of a newer version. Raise sqlite3.Error.

    *now*: when a new ledger begins. Each is one transaction, so a daemon that is killed meanwhile leaves the file as it
    was: a ledger without the time of its beginning, or without some rows, would accept what was handled before.
    """
    version = version_of(database)
    if version == 0:
        _execute(database, f"{_META}{_SENDERS}{_MESSAGES}INSERT INTO meta VALUES ('began', {now:d});")
        check(database)  # what there was before may be the rest of a damaged file
    elif version <= VERSION:
        check(database)
        if version < VERSION:
            _execute(database, _FROM_1 if version == 1 else _FROM_2)


def check(database: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError if SQLite finds *database* damaged."""
    (damage,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    if damage != "ok":
        raise sqlite3.DatabaseError(damage)


def latest_low_water_mark(database: sqlite3.Connection) -> int:
    """Return the highest of all low-water marks, in Unix nanoseconds. Raise sqlite3.Error."""
    query = "SELECT max(low_water_mark) FROM senders"
    if version_of(database) == 1:
        query = "SELECT max(floor) FROM senders"
    (began,) = database.execute("SELECT value FROM meta WHERE name = 'began'").fetchone()
    (latest,) = database.execute(query).fetchone()
    return max(int(began), int(began) if latest is None else int(latest))


def _execute(database: sqlite3.Connection, script: str) -> None:
    database.executescript(f"BEGIN IMMEDIATE;{script}PRAGMA user_version = {VERSION};COMMIT")
