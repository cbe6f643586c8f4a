"""The checker of the random faults names what it is there to find."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.faults.accounts import Accounts


def checked(end: str, started: int, *, calm: bool) -> list[str]:
    """Return what the checker says of a single request."""
    accounts = Accounts()
    payload = accounts.open("n0", calm=calm)
    accounts.ends[payload] = end
    return list(accounts.unexplained(Counter({payload: started} if started else {})).values())


@pytest.mark.parametrize(
    ("end", "started"),
    [("answered", 1), ("rejected", 0), ("lost", 0), ("lost", 1), ("interrupted 143", 0), ("interrupted 143", 1)],
)
def test_what_a_fault_explains_is_not_named(end: str, started: int) -> None:
    assert checked(end, started, calm=False) == []


@pytest.mark.parametrize(
    ("end", "started"),
    [
        ("answered", 0),
        ("answered", 2),
        ("lost", 2),
        ("rejected", 1),
        ("interrupted 143", 2),
        ("interrupted 1", 1),
        ("under way", 0),
    ],
)
def test_what_no_fault_explains_is_named(end: str, started: int) -> None:
    assert checked(end, started, calm=False) == [f"{end}, started {started} times"]


@pytest.mark.parametrize(("end", "started"), [("lost", 0), ("lost", 1), ("rejected", 0), ("interrupted 143", 1)])
def test_what_is_lost_while_nothing_is_broken_is_named(end: str, started: int) -> None:
    assert checked(end, started, calm=True) == [f"{end} in calm, started {started} times"]


def test_a_start_of_what_was_never_sent_is_named() -> None:
    assert Accounts().unexplained(Counter({"x": 1})) == {"x": "started, and never sent"}
