"""How a batch becomes statements: one by one, or merged, which costs a fraction.

One by one, a message takes three statements: its row is inserted as entered, becomes started, becomes done. Each takes
5 to 7 us, and gives the interpreter's lock away and takes it again, for which the ledger's thread may wait milliseconds
while the event loop is busy. Merged, one statement inserts or changes many rows, and a new row is inserted in the state
that it has at the end of the transaction. Example: 1000 messages that arrive and start in one iteration of the loop are
2000 statements one by one, and 19 merged ones.

Merging must not change the result. A merged statement whose number of changed rows matters states it; if it is another,
the transaction is undone and repeated one by one, which shows which row was not as expected. Example: the write of 1000
rows was interrupted, but has reached the disk; when they are written again, their statements insert no row.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple, TypeVar

from remaphore.receiving.ledger.batch import Batch, highest
from remaphore.receiving.ledger.rows import DONE, ENTERED, FIXED, Fixed, prove
from remaphore.receiving.ledger.statements import (
    BY_NUMBER,
    CHANGES,
    FINISH,
    HANDLE,
    RAISE_LOW_WATER_MARK,
    START,
)

# How many rows one statement inserts, changes or finishes. Few sizes, because each is a statement that SQLite prepares
# and the connection keeps; before SQLite 3.32 a statement can have 999 values. Where there are fewer rows to change,
# the other places get NULL, which is the number of no row.
_INSERT_SIZES = (64, 16, 4, 1)
_CHANGE_SIZES = (1, 16, 128)
_FINISH_SIZES = (1, 16)

_PLACES = f"({', '.join('?' * (len(FIXED) + 2))})"
_COLUMNS = f"{', '.join(FIXED)}, state, proof"


T = TypeVar("T")


class Execution(NamedTuple):
    """One execution of a statement. rows: how many it must change, None if that does not matter."""

    sql: str
    values: Sequence[object]
    rows: int | None = None


def one_by_one(batch: Batch) -> Iterator[Execution]:
    """Yield the executions for *batch*: one for each new row, for each that is done at once, and for each statement.

    A row that is there, as of an attempt whose result was not heard, is not inserted, but becomes done all the same.
    """
    yield from (Execution(_insert(1), _values(row, ENTERED)) for row in batch.rows.values())
    yield from (Execution(_change(HANDLE, 1), (number,)) for number in batch.handled)
    for (sql, values), _ in batch.writes:
        yield _finish([values]) if sql == FINISH else Execution(_change(sql, 1), values)


def merged(batch: Batch) -> list[Execution] | None:
    """Return as few executions as possible that have the same result as those of `one_by_one`.

    None if a message has two changes whose order matters, such as a start after its rejection.
    """
    states = dict.fromkeys(batch.rows, ENTERED)  # of the new rows, at the end of the transaction
    states.update(dict.fromkeys(batch.handled, DONE))
    statement_of: dict[object, str] = {}  # of the other rows
    groups: dict[str, list[Sequence[object]]] = {}
    for (sql, values), _ in batch.writes:
        if sql == FINISH or sql in BY_NUMBER:
            number = values[0]
            if number in batch.rows and sql in CHANGES:
                if states[number] in CHANGES[sql].before:
                    states[number] = CHANGES[sql].after
                elif sql == START:
                    return None
                continue
            if number in batch.rows or statement_of.setdefault(number, sql) != sql:
                return None
        groups.setdefault(sql, []).append(values)
    rows = [_values(row, states[number]) for number, row in batch.rows.items()]
    return [*_inserts(rows), *chain.from_iterable(_together(sql, many) for sql, many in groups.items())]


def _values(row: Fixed, state: str) -> tuple[object, ...]:
    return (*row, state, prove(*row))


def _inserts(rows: Sequence[Sequence[object]]) -> Iterator[Execution]:
    first = 0
    for size in _INSERT_SIZES:
        while len(rows) - first >= size:
            yield Execution(_insert(size), list(chain.from_iterable(rows[first : first + size])), rows=size)
            first += size


def _together(sql: str, many: Sequence[Sequence[object]]) -> Iterator[Execution]:
    """Yield the executions of the statement *sql* with each of *many* values."""
    if sql in BY_NUMBER:
        numbers = [values[0] for values in many]
        for chunk, places in _chunks(numbers, _CHANGE_SIZES, None):
            yield Execution(_change(sql, len(places)), places, rows=len(chunk) if sql == START else None)
    elif sql == FINISH:
        yield from (_finish(places) for _, places in _chunks(many, _FINISH_SIZES, (None, None, None)))
    elif sql == RAISE_LOW_WATER_MARK:
        yield from (Execution(sql, mark) for mark in highest((str(s), int(str(m))) for s, m in many))
    else:
        yield from (Execution(sql, values) for values in many)


def _chunks(items: Sequence[T], sizes: Sequence[int], filler: T) -> Iterator[tuple[Sequence[T], Sequence[T]]]:
    """Yield parts of *items*, and each once more with *filler* up to one of *sizes*."""
    for first in range(0, len(items), sizes[-1]):
        chunk = items[first : first + sizes[-1]]
        size = next(size for size in sizes if size >= len(chunk))
        yield chunk, [*chunk, *[filler] * (size - len(chunk))]


def _finish(many: Sequence[Sequence[object]]) -> Execution:
    return Execution(_finishing(len(many)), [*chain.from_iterable(many), *(values[0] for values in many)])


@functools.cache
def _insert(rows: int) -> str:
    # A row that is there was written by an attempt whose result was not heard. It stays as it is.
    return f"INSERT OR IGNORE INTO messages ({_COLUMNS}) VALUES {', '.join([_PLACES] * rows)}"


@functools.cache
def _change(sql: str, rows: int) -> str:
    return sql % ", ".join("?" * rows) if sql in BY_NUMBER else sql


@functools.cache
def _finishing(rows: int) -> str:
    return FINISH % (", ".join(["(?, ?, ?)"] * rows), ", ".join("?" * rows))
