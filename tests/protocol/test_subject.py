"""Subjects: the names of the Go implementation, and what cannot be one."""

from __future__ import annotations

import pytest

from remaphore.errors import UsageError
from remaphore.protocol import subject


def test_messages_travel_on_all_unless_another_name_is_given() -> None:
    assert subject.for_messages("remaphore") == "remaphore.all"
    assert subject.for_messages("ops.remaphore", "left") == "ops.remaphore.left"


def test_replies_travel_on_the_hash_of_their_request() -> None:
    assert subject.for_replies("remaphore", bytes(range(32))) == f"remaphore.{bytes(range(32)).hex()}"


@pytest.mark.parametrize("text", ["a", "a.b", "A-b_c", "ü", "$JS"])
def test_a_subject_without_problem_has_none(text: str) -> None:
    assert subject.problem(text) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a.*", "wildcard"),
        (">", "wildcard"),
        ("a b", "white space"),
        ("a\r\nPUB x 0\r\n", "white space or a control character"),
        ("a\0", "control character"),
        ("\u2003", "white space"),
        ("", "empty part"),
        (".a", "empty part"),
        ("a.", "empty part"),
        ("a..b", "empty part"),
    ],
)
def test_what_the_broker_would_read_otherwise_is_reported(text: str, problem: str) -> None:
    assert problem in (subject.problem(text) or "")


@pytest.mark.parametrize("name", ["coord", "coord.lock.a.0", "queue.x", "kept", "happened", "inbox.abc"])
def test_the_subjects_of_coordination_carry_no_messages(name: str) -> None:
    with pytest.raises(UsageError, match="reserved"):
        subject.checked_name(name)


@pytest.mark.parametrize("name", ["", "coordination", "coord-x", "team.coord", "Inbox", "keep"])
def test_subjects_like_those_are_free(name: str) -> None:
    assert subject.checked_name(name) == name
    with pytest.raises(UsageError, match="wildcard"):
        subject.checked_name(f"{name}.*")


def test_responses_arrive_below_the_root() -> None:
    assert subject.for_inboxes("a.b") == "a.b.inbox"
