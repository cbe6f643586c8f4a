"""The replay window: nothing is accepted twice, and evicting an entry does not open it again."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.gate import Gate
from remaphore.protocol.message import Message
from remaphore.protocol.replay import QUOTA_PER_SENDER, ReplayWindow
from tests.harness.factories import NOW, SKEW, bounded, make_encoded, make_gate, make_peer, sign_again


def take(window: ReplayWindow, name: str, *, time: int, now: int, sender: str = "a", copy: str = "") -> bool:
    """Offer the message *name*; *copy* tells signatures of the same bytes apart."""
    return window.accept(sender, name.encode(), digest=digest(name + copy), time_ns=time, now=now)


def digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def held(window: ReplayWindow) -> list[int]:
    """Return how many entries each of the three memories has."""
    senders = window._senders.values()
    return [sum(len(s.entries) for s in senders), sum(len(s.by_time) for s in senders), len(window._digests)]


def test_a_message_is_accepted_once() -> None:
    window = ReplayWindow(allow_skew_ns=10)
    assert take(window, "m", time=100, now=100)
    assert not take(window, "m", time=100, now=100)


def test_the_exact_bytes_are_known_once_they_were_taken_and_not_before() -> None:
    window = ReplayWindow(allow_skew_ns=10)
    assert not window.knows(digest("m"))
    take(window, "m", time=100, now=100)
    assert window.knows(digest("m"))


def test_another_signature_of_the_same_bytes_is_refused() -> None:
    window = ReplayWindow(allow_skew_ns=10)
    assert take(window, "m", time=100, now=100)
    assert not take(window, "m", time=100, now=100, copy="signed again")
    assert not window.knows(digest("msigned again"))


def test_the_same_bytes_of_another_sender_are_another_message() -> None:
    window = ReplayWindow(allow_skew_ns=10)
    assert take(window, "m", time=100, now=100)
    assert take(window, "m", time=100, now=100, sender="b", copy="b")


def test_within_the_window_the_order_of_times_does_not_matter() -> None:
    window = ReplayWindow(allow_skew_ns=10)
    assert [take(window, str(time), time=time, now=100) for time in (110, 90, 100, 91)] == [True] * 4


def test_what_left_the_window_is_forgotten_at_the_sender_s_next_message() -> None:
    window = ReplayWindow(allow_skew_ns=10)
    take(window, "old", time=100, now=100)
    take(window, "edge", time=101, now=100)
    take(window, "new", time=111, now=111)
    assert not window.knows(digest("old"))
    assert window.knows(digest("edge"))
    assert held(window) == [2, 2, 2]


def test_a_clock_that_steps_back_does_not_open_the_window_again() -> None:
    window = ReplayWindow(allow_skew_ns=10)
    take(window, "old", time=100, now=100)
    take(window, "new", time=200, now=200)
    assert not window.knows(digest("old"))
    assert not take(window, "old", time=100, now=100)
    assert not take(window, "never seen, same time", time=100, now=100)
    assert not take(window, "never seen, earlier", time=99, now=100)
    assert take(window, "later than what was forgotten", time=101, now=100)


def test_the_low_water_mark_of_one_sender_is_none_of_another_s() -> None:
    window = ReplayWindow(allow_skew_ns=10)
    take(window, "old", time=100, now=100)
    take(window, "new", time=200, now=200)
    assert take(window, "m", time=50, now=50, sender="b")


def test_a_full_quota_drops_the_oldest_time_and_raises_the_low_water_mark_to_it() -> None:
    window = ReplayWindow(allow_skew_ns=1000, quota=3)
    for time in (103, 101, 102):
        assert take(window, str(time), time=time, now=100)
    assert take(window, "104", time=104, now=100)
    assert held(window) == [3, 3, 3]
    assert not window.knows(digest("101"))
    assert not take(window, "101", time=101, now=100)
    assert [window.knows(digest(str(time))) for time in (102, 103, 104)] == [True] * 3


def test_replays_of_what_was_dropped_cost_the_sender_nothing() -> None:
    window = ReplayWindow(allow_skew_ns=1000, quota=2)
    for time in range(101, 111):
        take(window, str(time), time=time, now=100)
    for time in range(101, 109):
        assert not take(window, str(time), time=time, now=100)
    assert [window.knows(digest(str(time))) for time in (109, 110)] == [True, True]


def test_at_the_quota_an_old_message_is_refused_and_no_dropped_one_comes_back() -> None:
    window = ReplayWindow(allow_skew_ns=1000, quota=2)
    take(window, "101", time=101, now=100)
    take(window, "102", time=102, now=100)
    assert not take(window, "as old as the oldest", time=101, now=100)
    assert not take(window, "100", time=100, now=100)
    assert [take(window, str(time), time=time, now=100) for time in (101, 102)] == [False, False]


def test_the_quota_of_one_sender_costs_no_other_its_memory() -> None:
    window = ReplayWindow(allow_skew_ns=1000, quota=2)
    take(window, "quiet", time=1, now=100, sender="b")
    for time in range(101, 120):
        take(window, str(time), time=time, now=100)
    assert window.knows(digest("quiet"))
    assert not take(window, "quiet", time=1, now=100, sender="b")


def test_the_memory_of_a_sender_never_outgrows_the_quota() -> None:
    window = ReplayWindow(allow_skew_ns=10**18, quota=100)
    sizes = set()
    for number in range(1000):
        assert take(window, str(number), time=number, now=0)
        sizes.add(tuple(held(window)))
    assert max(sizes) == (100, 100, 100)


def test_a_steady_sender_fits_into_the_default_quota_for_the_default_window() -> None:
    # Three seconds of skew, either way: six seconds of the fastest sender measured, with room to spare.
    assert QUOTA_PER_SENDER / 6 > 10_000


offers = st.tuples(st.sampled_from("ab"), st.integers(0, 12), st.integers(0, 40), st.sampled_from(["", "again"]))


@settings(bounded, max_examples=400)
@given(st.lists(offers, max_size=60), st.integers(1, 4), st.integers(0, 8))
def test_whatever_the_clock_does_nothing_is_accepted_twice(
    sequence: list[tuple[str, int, int, str]], quota: int, skew: int
) -> None:
    window = ReplayWindow(allow_skew_ns=skew, quota=quota)
    taken: set[tuple[str, int]] = set()
    for sender, number, now, copy in sequence:
        # The time is among the signed bytes, so a message has one: here three messages share each time.
        if take(window, f"{sender}{number}", time=number // 3 * 5, now=now, sender=sender, copy=copy):
            assert (sender, number) not in taken
            taken.add((sender, number))
        assert max(held(window)) <= 2 * quota
        assert len(set(held(window))) == 1


@bounded
@given(st.lists(st.integers(1, 5), max_size=30))
def test_a_sender_whose_times_rise_is_always_heard(steps: list[int]) -> None:
    window, now = ReplayWindow(allow_skew_ns=3, quota=2), 0
    for step in steps:
        now += step
        assert take(window, str(now), time=now, now=now)


def test_a_second_valid_signature_of_a_taken_message_is_refused_by_the_gate() -> None:
    gate, raw = make_gate(), make_encoded(payload=b"once")
    assert isinstance(gate.admit(raw, NOW), Message)
    verdict = gate.admit(sign_again(raw), NOW)
    assert isinstance(verdict, Drop)
    assert verdict.reason is DropReason.REPLAYED


def test_the_first_of_two_signatures_wins_whichever_it_is() -> None:
    gate, raw = make_gate(), make_encoded(payload=b"once")
    assert isinstance(gate.admit(sign_again(raw), NOW), Message)
    verdict = gate.admit(raw, NOW)
    assert isinstance(verdict, Drop)
    assert verdict.reason is DropReason.REPLAYED


@pytest.mark.parametrize("back", [0, 1, SKEW])
def test_a_replay_after_the_clock_stepped_is_refused_by_the_gate(back: int) -> None:
    gate, raw = make_gate(), make_encoded()
    later = NOW + 3 * SKEW
    assert isinstance(gate.admit(raw, NOW), Message)
    assert isinstance(gate.admit(make_encoded(time_ns=later), later), Message)
    verdict = gate.admit(raw, NOW - back)
    assert isinstance(verdict, Drop)
    assert verdict.reason is DropReason.REPLAYED


def test_a_window_that_is_handed_on_keeps_its_memory_under_a_larger_skew() -> None:
    first, raw = make_gate(), make_encoded()
    first.admit(raw, NOW)
    first.admit(make_encoded(time_ns=NOW + 2 * SKEW), NOW + 2 * SKEW)
    second: Gate = make_gate(make_peer(), allow_skew_ns=10 * SKEW, window=first.window)
    verdict = second.admit(raw, NOW + 2 * SKEW)
    assert isinstance(verdict, Drop)
    assert verdict.reason is DropReason.REPLAYED
