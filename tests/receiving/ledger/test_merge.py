"""Merged statements have the result of single ones, also when something is not as expected."""

from __future__ import annotations

import itertools
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remaphore.receiving.ledger.batch import Batch, Write
from remaphore.receiving.ledger.merge import merged, one_by_one
from remaphore.receiving.ledger.statements import (
    COMPLETE,
    EVICT,
    FINISH,
    FORGET_OUTPUT,
    HANDLE,
    RAISE_LOW_WATER_MARK,
    REJECT,
    RESEND,
    START,
)
from remaphore.receiving.ledger.store import Store
from tests.harness.factories import bounded

NUMBERS = st.integers(1, 8)
CHANGES = st.one_of(
    st.tuples(
        st.sampled_from([START, START, HANDLE, COMPLETE, REJECT, EVICT, FORGET_OUTPUT, RESEND]), st.tuples(NUMBERS)
    ),
    st.tuples(st.just(FINISH), st.tuples(NUMBERS, st.integers(0, 2), st.binary(max_size=2))),
    st.tuples(st.just(RAISE_LOW_WATER_MARK), st.tuples(st.sampled_from("ab"), st.integers(0, 9))),
)


def row(number):
    return (number, "ab"[number % 2], bytes([number % 256]) * 32, b"d" * 32, number, "ping", True, b"id")


def rows(numbers):
    return {number: row(number) for number in numbers}


def writes(*statements):
    return [Write(statement) for statement in statements]


BATCHES = st.builds(
    lambda new, handled, changes: Batch(rows(new), writes(*changes), new & handled),
    *(st.sets(NUMBERS), st.sets(NUMBERS), st.lists(CHANGES, max_size=8)),
)


@contextmanager
def opened(folder, name):
    with closing(Store(Path(folder, name), now=0)) as store:
        store._database.execute("PRAGMA synchronous = OFF")
        yield store


def content(store):
    return [store._database.execute(f"SELECT * FROM {table}").fetchall() for table in ("messages", "senders")]


def starts(batch, changed):
    """Which of the starts of *batch* changed a row: only what may be started depends on that."""
    return [change for write, change in zip(batch.writes, changed, strict=True) if write.statement[0] == START]


def test_merged_statements_have_the_result_of_single_ones(tmp_path):
    with opened(tmp_path, "merged") as one, opened(tmp_path, "single") as other:

        @settings(bounded, max_examples=60)
        @given(batches=st.lists(BATCHES, min_size=1, max_size=5))
        def check(batches):
            for store, table in itertools.product((one, other), ("messages", "senders")):
                store._database.execute(f"DELETE FROM {table}")
            for batch in batches:  # the rows of a later one may be there, as of a write whose result was not heard
                counts = other._execute(one_by_one(batch))
                singly = [count > 0 for count in counts[len(counts) - len(batch.writes) :]]
                assert starts(batch, one.apply(batch)) == starts(batch, singly)
                assert content(one) == content(other)

        check()


@pytest.mark.parametrize("count", [1, 2, 15, 17, 63, 65, 129, 300])
def test_any_number_of_rows_is_inserted_started_and_finished(tmp_path, count):
    numbers = range(1, count + 1)
    with opened(tmp_path, "ledger") as store:
        store.apply(Batch(rows(numbers)))
        assert store.apply(Batch(writes=writes(*((START, (number,)) for number in numbers)))) == [True] * count
        store.apply(Batch(writes=writes(*((FINISH, (number, number, b"%d" % number)) for number in numbers))))
        assert [store.recorded(number) for number in numbers] == [(number, b"%d" % number, 0) for number in numbers]


def test_a_thousand_messages_that_arrive_and_start_together_are_nineteen_statements():
    batch = Batch(rows(range(1, 1001)), writes(*((START, (number,)) for number in range(1, 1001))))
    assert len(merged(batch)) == 19
    assert len(list(one_by_one(batch))) == 2000


@pytest.mark.parametrize("there", [(), (1,), (1, 2)])
def test_a_row_that_is_there_already_starts_if_it_waits_and_once(tmp_path, there):
    with opened(tmp_path, "ledger") as store:
        batch = Batch(rows((1, 2)), writes((START, (1,)), (START, (2,))))
        store.apply(Batch(rows(there)))
        assert store.apply(batch) == [True, True]
        assert store.apply(batch) == [False, False]
