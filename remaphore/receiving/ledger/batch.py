"""What the ledger writes together, and the futures of those that wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from remaphore.errors import LedgerError
from remaphore.receiving.ledger.rows import Fixed
from remaphore.receiving.ledger.statements import RAISE_LOW_WATER_MARK, START, Statement

# Rows and statements that could not be written and are retried with the next ones. Beyond this only low-water marks are
# kept.
MAX_UNWRITTEN = 10_000

_NOT_PENDING = LedgerError("message is no longer pending in the ledger", hint="send it again")


class Write(NamedTuple):
    """A statement, and the future that is told, once it is durable, whether it changed a row."""

    statement: Statement
    durable: asyncio.Future[bool] | None = None


@dataclass(slots=True)
class Batch:
    """What one transaction writes: first the new rows, as entered, then the statements in their order.

    handled: the numbers of those rows that are written as done, because nothing acts on their messages.
    """

    rows: dict[int, Fixed] = field(default_factory=dict)  # by number
    writes: list[Write] = field(default_factory=list)
    handled: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.rows) + len(self.writes)

    def __add__(self, later: Batch) -> Batch:
        return Batch({**self.rows, **later.rows}, [*self.writes, *later.writes], self.handled | later.handled)

    def singly(self) -> Iterator[Batch]:
        """Yield the same as batches of one row or one statement each."""
        for number, row in self.rows.items():
            yield Batch({number: row}, handled=self.handled & {number})
        for write in self.writes:
            yield Batch(writes=[write])

    def settle(self, outcome: Sequence[bool] | LedgerError) -> None:
        """Give each future of the writes whether its statement changed a row, or an error object of its own.

        A start that changed no row is an error.
        """
        for number, (statement, durable) in enumerate(self.writes):
            if durable is None or durable.done():
                continue
            try:
                if isinstance(outcome, LedgerError):
                    durable.set_exception(copy_error(outcome))
                elif statement[0] == START and not outcome[number]:
                    durable.set_exception(copy_error(_NOT_PENDING))
                else:
                    durable.set_result(outcome[number])
            except RuntimeError:  # the loop is closed: nothing waits there, but the others count
                continue

    def worth_keeping(self) -> Batch:
        """Return what is retried later: all of this, or, if that is too much, the low-water marks that replace it.

        A mark replaces the rows of its sender, because it rejects all that was signed at or before it. No start is
        kept: the requester was notified that its message was rejected, and the message must not count as started.
        Should the write that failed have reached the disk all the same, the next start reports it as interrupted.
        """
        kept = [write.statement for write in self.writes if write.statement[0] != START]
        if len(self.rows) + len(kept) <= MAX_UNWRITTEN:
            return Batch(self.rows, [Write(statement) for statement in kept], self.handled)
        signed = [(sender, time_ns) for _, sender, _, _, time_ns, *_ in self.rows.values()]
        signed += [(str(values[0]), int(str(values[1]))) for sql, values in kept if sql == RAISE_LOW_WATER_MARK]
        return Batch(writes=[Write((RAISE_LOW_WATER_MARK, mark)) for mark in highest(signed)])


def copy_error(error: LedgerError | None) -> LedgerError:
    """Return a copy of *error*: one that is raised at several places would collect the tracebacks of all of them."""
    return LedgerError(str(error), hint=error.hint if error else "")


def highest(marks: Iterable[tuple[str, int]]) -> Iterable[tuple[str, int]]:
    """Return for each sender its highest mark."""
    found: dict[str, int] = {}
    for sender, mark in marks:
        found[sender] = max(mark, found.get(sender, mark))
    return found.items()
