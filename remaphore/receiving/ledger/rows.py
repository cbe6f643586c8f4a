"""A row of the ledger's table of messages, and the proof that it is intact."""

from __future__ import annotations

import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import structlog

ENTERED, STARTED, DONE, REJECTED = "entered", "started", "done", "rejected"
STATES = frozenset((ENTERED, STARTED, DONE, REJECTED))

# The columns of a row that never change, in the order of `Row` and of `prove`.
FIXED = ("number", "sender", "signed_hash", "digest", "time_ns", "verb", "wants_reply", "uuid")
Fixed = tuple[int, str, bytes, bytes, int, str, bool, bytes]

# Verbs with a log line of their own when the last daemon was killed; a peer can invent verbs without end.
MAX_VERBS = 100

_log = structlog.get_logger()


class Row(NamedTuple):
    """A remembered message. number: that of its row; a later message has a higher one."""

    number: int
    sender: str
    signed_hash: bytes  # SHA-256 of the signed bytes
    digest: bytes
    time_ns: int
    verb: str
    wants_reply: bool
    uuid: bytes
    state: str
    recorded: int = 0  # bytes of its recorded output


def prove(  # noqa: PLR0917 - they are columns
    number: int,
    sender: str,
    signed_hash: bytes,
    digest: bytes,
    time_ns: int,
    verb: str,
    wants_reply: bool,  # noqa: FBT001
    uuid: bytes,
) -> int:
    """Return the proof of a row: the CRC-32 of its columns that never change.

    SQLite has no checksums. This detects each change of up to four adjacent bytes. It is the last column, and so the
    first to be lost from a row that is cut off. No other column needs it: one changed byte makes no state of another,
    and a recorded reply starts nothing.
    """
    fixed = f"{number},{sender},{time_ns},{verb},{wants_reply:d},".encode()
    return zlib.crc32(b"".join((fixed, signed_hash, digest, uuid)))


def read(database: sqlite3.Connection) -> Iterator[Row]:
    """Yield all rows in the order of their numbers. Raise sqlite3.Error, also for the first that is damaged."""
    columns = f"{', '.join(FIXED)}, state, coalesce(length(output), 0), proof"
    for *values, proof in database.execute(f"SELECT {columns} FROM messages ORDER BY number"):
        row = Row(*values)
        try:
            intact = row.state in STATES and prove(*values[: len(FIXED)]) == proof
        except (TypeError, ValueError):  # a value of another kind
            intact = False
        if not intact:
            raise sqlite3.DatabaseError(f"row {row.number} is damaged")
        yield row


def log_abandoned(rows: Sequence[Row]) -> None:
    """Log how many messages of each verb never start; their senders are answered by `Responses`."""
    counts = Counter(row.verb for row in rows).most_common()
    for verb, count in counts[:MAX_VERBS]:
        _log.warning("messages_abandoned", verb=verb or None, count=count, cause="the daemon ended before they started")
    if more := counts[MAX_VERBS:]:
        _log.warning("messages_abandoned", verbs=len(more), count=sum(count for _, count in more))
