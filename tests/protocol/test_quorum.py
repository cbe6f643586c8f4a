"""Quorums: how many destinations are enough, who counts, and when nothing that may still arrive matters."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remaphore.errors import UsageError
from remaphore.protocol.message import NO_DATA, REJECTED, Reply
from remaphore.protocol.quorum import ReplyQuorum, Requirement, SenderQuorum, senders
from tests.harness.factories import make_key, make_message, make_peer


@pytest.mark.parametrize(
    ("text", "available", "needed"),
    [
        ("all", 3, 3),
        ("all", 1, 1),
        ("1", 3, 1),
        (3, 3, 3),
        ("100%", 7, 7),
        ("50%", 4, 2),
        ("50%", 5, 3),
        ("34%", 3, 2),
        ("33%", 3, 1),
        ("1%", 1000, 10),
        ("1%", 1001, 11),
        ("1%", 1, 1),
    ],
)
def test_a_requirement_is_a_number_a_share_that_is_rounded_up_or_all(
    text: int | str, available: int, needed: int
) -> None:
    assert Requirement.parse(text).of(available) == needed
    assert Requirement.parse(str(Requirement.parse(text))).of(available) == needed


@pytest.mark.parametrize(
    "text",
    [
        "0",
        0,
        "-1",
        -1,
        "0%",
        "101%",
        "1000000000",
        "",
        "%",
        "1.5",
        "50 %",
        " 1",
        "01",
        "+1",
        "ALL",
        "all%",
        "none",
        "٣",
    ],
)
def test_zero_negative_and_other_texts_are_refused(text: int | str) -> None:
    with pytest.raises(UsageError) as caught:
        Requirement.parse(text)
    assert repr(text) in str(caught.value)
    assert caught.value.hint == "write all, a number such as 3, or 1% to 100%"


@pytest.mark.parametrize(
    ("text", "available", "message"),
    [
        ("4", 3, "4 destinations are required, of only 3"),
        ("2", 1, "2 destinations are required, of only 1"),
        ("1", 0, "1 destination is required, of only 0"),
        ("all", 0, "1 destination is required, of only 0"),
        ("50%", 0, "1 destination is required, of only 0"),
    ],
)
def test_more_than_there_are_is_an_error_that_names_how_many_there_are(text: str, available: int, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Requirement.parse(text).of(available)
    assert str(caught.value) == message


@given(percent=st.integers(1, 100), available=st.integers(1, 100_000))
def test_a_share_is_never_less_than_the_percentage_never_more_than_all_and_never_one_too_many(
    percent: int, available: int
) -> None:
    needed = Requirement.parse(f"{percent}%").of(available)
    assert needed * 100 >= available * percent > (needed - 1) * 100
    assert 1 <= needed <= available


TEN = tuple(make_peer(number) for number in range(1, 11))
MESSAGE = make_message(1)
LEFT, RIGHT = make_peer(1, "com.left"), make_peer(2, "com.right")


def test_the_senders_are_those_that_match_and_may_send_one_of_the_verbs_in_natural_order() -> None:
    peers = (
        make_peer(3, "com.db.10", "dumped"),
        make_peer(4, "com.db.9", "ping", "dumped"),
        make_peer(5, "com.db.8", "*"),
        make_peer(6, "com.db.7", "ping"),
        make_peer(7, "com.web.1", "dumped"),
    )

    def found(pattern: str, verbs: tuple[str, ...] | None) -> list[str]:
        return [peer.destination for peer in senders(peers, pattern, verbs, [])]

    assert found("com.db.*", ["dumped"]) == ["com.db.8", "com.db.9", "com.db.10"]
    assert found("com.db.*", ["ready", "ping"]) == ["com.db.7", "com.db.8", "com.db.9"]
    assert found("**", None) == ["com.db.7", "com.db.8", "com.db.9", "com.db.10", "com.web.1"]
    assert found("com.db.*", ["Dumped"]) == ["com.db.8"]
    assert found("com.db.*", []) == ["com.db.8"]
    assert found("org.**", None) == []


def test_own_keys_and_peers_without_verbs_are_not_waited_for() -> None:
    mute = type(LEFT)(destination="com.mute", key=make_key(9).public, verbs=frozenset())
    assert senders((LEFT, RIGHT, mute), "**", None, [RIGHT.key]) == (LEFT,)
    # The destination is still waited for if it has another key, such as that of a second machine.
    second = make_peer(8, "com.right")
    assert senders((RIGHT, second), "**", None, [RIGHT.key]) == (second,)


def test_of_a_key_that_is_listed_twice_the_first_entry_counts() -> None:
    twice = make_peer(1, "com.other")
    assert senders((LEFT, twice), "**", None, []) == (LEFT,)
    assert senders((LEFT, twice), "com.other", None, []) == ()


def test_a_destination_counts_once_whatever_it_sends_and_with_whichever_key() -> None:
    second = make_peer(3, "com.left")
    quorum = SenderQuorum((LEFT, second, RIGHT), Requirement.parse("all"))
    assert (quorum.expected, quorum.required) == (("com.left", "com.right"), 2)
    assert quorum.count(make_message(1, payload=b"first"))
    assert not quorum.count(make_message(1, payload=b"again"))
    assert not quorum.count(make_message(3))
    assert (quorum.met, quorum.missing, quorum.heard) == (False, ("com.right",), {"com.left": None})
    assert quorum.count(make_message(2))
    assert (quorum.met, quorum.missing) == (True, ())


def test_only_the_keys_of_those_that_are_waited_for_are_expected() -> None:
    quorum = SenderQuorum((LEFT, RIGHT), Requirement.parse(1))
    assert quorum.expects(make_message(1))
    assert not quorum.expects(make_message(4, sender_name="com.left"))


def test_too_few_senders_are_an_error_at_once() -> None:
    second = make_peer(3, "com.left")
    with pytest.raises(UsageError, match="3 destinations are required, of only 2"):
        SenderQuorum((LEFT, second, RIGHT), Requirement.parse(3))


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=10),
    st.integers(1, 100),
    st.lists(st.integers(0, 9), max_size=40),
)
def test_the_quorum_is_met_exactly_when_enough_different_destinations_are_heard(
    destinations: list[int], percent: int, arrivals: list[int]
) -> None:
    # Key number i belongs to the destination destinations[i]; some destinations have several keys.
    peers = [replace(TEN[key], destination=f"com.n{name}") for key, name in enumerate(destinations)]
    quorum = SenderQuorum(peers, Requirement(percent, percent=True))
    heard: set[str] = set()
    for key in arrivals:
        message = replace(MESSAGE, sender=TEN[key].key)
        assert quorum.expects(message) is (key < len(destinations))
        if key < len(destinations):
            name = f"com.n{destinations[key]}"
            assert quorum.count(message) is (name not in heard)
            heard.add(name)
        assert quorum.met is (len(heard) >= quorum.required)
        assert set(quorum.missing) == set(quorum.expected) - heard
        assert quorum.heard.keys() == heard


REPLIES = {
    "ok": Reply(0, b"done"),
    "failed": Reply(3),
    "rejected": Reply(77, REJECTED + b"busy"),
    "without_code": Reply(None, NO_DATA),
    "killed": Reply(-1),
}


@pytest.mark.parametrize("kind", [*REPLIES])
def test_only_exit_code_0_is_a_success(kind: str) -> None:
    quorum = ReplyQuorum(1, 1, fail_fast=True)
    assert (quorum.met, quorum.decided) == (False, False)
    quorum.count(REPLIES[kind])
    assert (quorum.met, quorum.decided) == (kind == "ok", True)


@given(
    expected=st.integers(1, 12),
    share=st.integers(1, 100),
    fail_fast=st.booleans(),
    events=st.lists(st.sampled_from([*REPLIES, "timeout"]), max_size=12),
)
def test_it_is_decided_exactly_when_enough_succeeded_or_with_fail_fast_when_too_few_are_left(
    expected: int, share: int, fail_fast: bool, events: list[str]
) -> None:
    needed = Requirement(share, percent=True).of(expected)
    quorum = ReplyQuorum(needed, expected, fail_fast=fail_fast)
    succeeded = unsuccessful = timeouts = 0
    for event in events[:expected]:
        if event == "timeout":
            quorum.count_timeouts(1)
            timeouts += 1
        else:
            quorum.count(REPLIES[event])
        succeeded += event == "ok"
        unsuccessful += event != "ok"
        assert quorum.met is (succeeded >= needed)
        impossible = succeeded + (expected - succeeded - unsuccessful) < needed
        assert quorum.decided is (quorum.met or (fail_fast and impossible))
        assert quorum.timed_out == timeouts
    if len(events) >= expected and fail_fast:
        assert quorum.decided


def test_a_quorum_is_made_of_what_is_required_or_not_at_all() -> None:
    for require in (2, "2", "50%", Requirement(2)):
        quorum = ReplyQuorum.of(require, 4, fail_fast=True)
        assert quorum is not None
        assert quorum.required == 2
    assert ReplyQuorum.of(None, 4, fail_fast=False) is None
    with pytest.raises(UsageError, match="fail_fast needs a requirement"):
        ReplyQuorum.of(None, 4, fail_fast=True)
    with pytest.raises(UsageError, match="5 destinations are required, of only 4"):
        ReplyQuorum.of(5, 4, fail_fast=False)
