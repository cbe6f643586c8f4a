"""The numbers of rows: one for each message, kept while the window remembers it or it has not ended."""

from __future__ import annotations

from remaphore.receiving.ledger.row_numbers import RowNumbers


def test_each_message_has_a_number_of_its_own_after_all_that_are_restored():
    numbers = RowNumbers()
    numbers.restore(b"old", 7, final=True)
    numbers.restore(b"older", 3, final=False)
    assert [numbers.add(digest) for digest in (b"a", b"b")] == [8, 9]
    assert [numbers.find(digest) for digest in (b"old", b"older", b"a", b"unknown")] == [7, 3, 8, None]
    assert [numbers.unfinished(digest) for digest in (b"old", b"older", b"a", b"unknown")] == [None, 3, 8, None]


def test_a_message_that_ended_is_found_until_it_is_forgotten():
    numbers = RowNumbers()
    numbers.add(b"a")
    assert [numbers.end(b"a"), numbers.unfinished(b"a"), numbers.end(b"a"), numbers.find(b"a")] == [1, None, 1, 1]
    assert [numbers.forget(b"a"), numbers.find(b"a"), numbers.end(b"a")] == [1, None, None]


def test_the_row_of_a_message_that_has_not_ended_is_kept_when_it_is_forgotten():
    numbers = RowNumbers()
    numbers.add(b"a")
    assert [numbers.forget(b"a"), numbers.find(b"a"), numbers.unfinished(b"a")] == [None, 1, 1]
    assert [numbers.end(b"a"), numbers.find(b"a")] == [1, None]
