"""Statements that the ledger writes together, and the futures of those that wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from remaphore.errors import LedgerError
from remaphore.receiving.ledger import store
from remaphore.receiving.ledger.store import Statement

# Statements that could not be written and are retried with the next ones. Beyond this only low-water marks are kept.
MAX_UNWRITTEN = 10_000


class Write(NamedTuple):
    """A statement, and the future that gets the number of rows it changed once that is durable."""

    statement: Statement
    durable: asyncio.Future[int] | None = None


def settle(batch: Sequence[Write], outcome: Sequence[int] | LedgerError) -> None:
    """Give the futures of *batch* their numbers of changed rows, or an error object each."""
    for number, write in enumerate(batch):
        if write.durable is not None and not write.durable.done():
            if isinstance(outcome, LedgerError):
                write.durable.set_exception(copy_error(outcome))
            else:
                write.durable.set_result(outcome[number])


def copy_error(error: LedgerError | None) -> LedgerError:
    """Return a copy of *error*: one that is raised at several places would collect the tracebacks of all of them."""
    return LedgerError(str(error), hint=error.hint if error else "")


def worth_keeping(batch: Sequence[Write]) -> list[Write]:
    """Return what is retried later: all of *batch*, or, if that is too much, the low-water marks that replace it.

    A mark replaces the rows of its sender, because it rejects all that was signed at or before it. No start is kept:
    the requester was notified that its message was rejected, and the message must not count as started.
    """
    kept = [statement for statement, _ in batch if statement[0] != store.START]
    if len(kept) <= MAX_UNWRITTEN:
        return [Write(statement) for statement in kept]
    marks: dict[object, int] = {}
    for statement, values in kept:
        if statement in (store.ENTER, store.RAISE_LOW_WATER_MARK):
            sender, mark = values[0], int(str(values[3 if statement == store.ENTER else 1]))
            marks[sender] = max(mark, marks.get(sender, mark))
    return [Write((store.RAISE_LOW_WATER_MARK, (sender, mark))) for sender, mark in marks.items()]
