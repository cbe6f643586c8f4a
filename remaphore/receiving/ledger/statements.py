"""The statements that change the ledger's tables.

Those of BY_NUMBER change rows by their numbers; `%s` stands for the places of any number of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from remaphore.receiving.ledger.rows import DONE, ENTERED, REJECTED, STARTED

Statement = tuple[str, Sequence[object]]


class Change(NamedTuple):
    """A change of the state of a message, for rows in one of the states *before*. The file decides: others stay."""

    before: tuple[str, ...]
    after: str


def _update(change: Change) -> str:
    before = ", ".join(f"'{state}'" for state in change.before)
    return f"UPDATE messages SET state = '{change.after}' WHERE number IN (%s) AND state IN ({before})"


_START = Change((ENTERED,), STARTED)
_COMPLETE = Change((STARTED,), DONE)
_HANDLE = Change((ENTERED,), DONE)
_REJECT = Change((ENTERED, STARTED, REJECTED), REJECTED)

START = _update(_START)
COMPLETE = _update(_COMPLETE)  # without a reply
HANDLE = _update(_HANDLE)  # without a start
REJECT = _update(_REJECT)
CHANGES = {START: _START, COMPLETE: _COMPLETE, HANDLE: _HANDLE, REJECT: _REJECT}
# Only rows in a final state are deleted. The row of a message that is still being handled is deleted by a later sweep,
# once its state is final: by then its sender's low-water mark rejects the message.
EVICT = f"DELETE FROM messages WHERE number IN (%s) AND state IN ('{DONE}', '{REJECTED}')"
FORGET_OUTPUT = "UPDATE messages SET exit_code = NULL, output = NULL WHERE number IN (%s)"
BY_NUMBER = frozenset((*CHANGES, EVICT, FORGET_OUTPUT))

# With a reply: the values are number, exit code and output. The places are those of any number of such values, and of
# their numbers once more.
FINISH = f"""UPDATE messages SET state = '{DONE}',
            (exit_code, output) = (SELECT column2, column3 FROM (VALUES %s) WHERE column1 = number)
            WHERE number IN (%s) AND state = '{STARTED}'"""
RESEND = "UPDATE messages SET resent = resent + 1 WHERE number = ?"
RAISE_LOW_WATER_MARK = """INSERT INTO senders VALUES (?, ?) ON CONFLICT (sender)
            DO UPDATE SET low_water_mark = max(low_water_mark, excluded.low_water_mark)"""
# Of the messages of an earlier process, whose highest number is given.
ABANDON = f"UPDATE messages SET state = '{REJECTED}' WHERE state = '{ENTERED}' AND number <= ?"
SWEEP = f"""DELETE FROM messages WHERE state IN ('{DONE}', '{REJECTED}')
            AND time_ns <= (SELECT low_water_mark FROM senders WHERE senders.sender = messages.sender)"""
