"""Rejections: only for a known peer whose request was addressed to us and signed; bounded; and final."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remaphore.protocol import wire
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.duration import MINUTE, SECOND
from remaphore.protocol.gate import Filters, Gate
from remaphore.protocol.message import Message
from remaphore.protocol.payloads import PayloadRule
from remaphore.protocol.rejection import IN_ALL, PER_SENDER, RejectionPolicy, TokenBucket
from tests.harness.factories import (
    NOW,
    OWN,
    OWN_NUMBER,
    SKEW,
    bounded,
    make_encoded,
    make_gate,
    make_key,
    make_peer,
    sign_again,
)


def gate_for(*numbers: int) -> Gate:
    """Return the gate of a node whose peers may send `ping` alone."""
    return make_gate(*(make_peer(number, None, "ping") for number in numbers or (1,)))


def ask(number: int = 1, **fields: object) -> bytes:
    """Return a request of a verb that is not permitted."""
    return make_encoded(number, **({"verb": "deploy", "wants_reply": True} | fields))


def consider(gate: Gate, raw: bytes, *, rejections: RejectionPolicy | None = None, now: int = NOW) -> Message | None:
    """Let the gate drop *raw*, and return what its sender is told about."""
    verdict = gate.admit(raw, now)
    assert isinstance(verdict, Drop)
    return decide(rejections or RejectionPolicy(), gate, raw, verdict, now)


def decide(rejections: RejectionPolicy, gate: Gate, raw: bytes, drop: Drop, now: int) -> Message | None:
    """Do what a daemon does: verify the signature of what may get a rejection, and that alone."""
    frame = wire.decode(raw)
    if not rejections.may_reject(gate, frame, drop, now) or not wire.verify(frame):
        return None
    return rejections.consider(gate, frame, drop, now)


def test_who_asks_for_what_is_not_permitted_is_reported() -> None:
    raw = ask()
    told = consider(gate_for(), raw)
    assert told is not None
    assert (told.verb, told.sender_name, told.digest, told.wants_reply) == (
        "deploy",
        "com.peer1",
        wire.digest(raw),
        True,
    )


def test_a_payload_that_is_not_permitted_is_told_once_and_not_accepted_later() -> None:
    ruled = replace(make_peer(), only={"deploy": PayloadRule.of(payloads=["stop"])})
    gate, rejections, raw = make_gate(ruled), RejectionPolicy(), ask(payload=b"start")
    assert consider(gate, raw, rejections=rejections) is not None
    assert consider(gate, raw, rejections=rejections) is None
    later = make_gate(make_peer(), window=gate.window)
    assert not isinstance(later.admit(raw, NOW), Message)


@pytest.mark.parametrize("off", [-10 * MINUTE, -SKEW - 1, SKEW + 1, 10 * MINUTE])
def test_who_asks_with_a_wrong_clock_is_reported(off: int) -> None:
    assert consider(gate_for(), ask(verb="ping", time_ns=NOW + off)) is not None


@pytest.mark.parametrize("off", [-10 * MINUTE - 1, 10 * MINUTE + 1])
def test_a_clock_that_is_further_off_is_not_told(off: int) -> None:
    for verb in ("ping", "deploy"):
        assert consider(gate_for(), ask(verb=verb, time_ns=NOW + off)) is None


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (ask(wants_reply=False), DropReason.VERB_NOT_PERMITTED),
        (ask(destination="org.elsewhere"), DropReason.NOT_ADDRESSED),
        (ask(2), DropReason.UNKNOWN_SENDER),
        (ask(OWN_NUMBER), DropReason.OWN_MESSAGE),
        (ask(verb="ping", destination="org.elsewhere"), DropReason.NOT_ADDRESSED),
        (ask(destination=""), DropReason.NOT_A_REQUEST),
        (ask().replace(b",deploy,", b",remove,"), DropReason.VERB_NOT_PERMITTED),
        (ask(verb="ping", payload=b"a")[:-1] + b"b", DropReason.BAD_SIGNATURE),
    ],
    ids=["no flag", "not addressed", "unknown", "our own", "another node's", "a reply", "not signed", "altered"],
)
def test_nobody_else_is_reported(raw: bytes, reason: DropReason) -> None:
    gate, rejections = gate_for(), RejectionPolicy()
    verdict = gate.admit(raw, NOW)
    assert isinstance(verdict, Drop)
    assert verdict.reason is reason
    assert decide(rejections, gate, raw, verdict, NOW) is None


def test_a_receiver_that_ignores_the_destination_sends_no_rejection_for_what_is_addressed_to_others() -> None:
    gate, rejections = make_gate(make_peer(1, None, "ping"), filters=Filters(any_destination=True)), RejectionPolicy()
    assert consider(gate, ask(destination="org.elsewhere"), rejections=rejections) is None
    assert consider(gate, ask(destination=OWN), rejections=rejections) is not None


@bounded
@given(
    st.sampled_from(DropReason),
    st.sampled_from([make_key(number).public for number in (1, 2, 9, OWN_NUMBER)]) | st.text(max_size=50),
    st.sampled_from([OWN, "**", "org.elsewhere", ""]) | st.text(max_size=20),
    st.sampled_from([NOW, NOW - 2 * SKEW, NOW + 2 * SKEW]) | st.integers(-(2**63), 2**63 - 1),
    st.sampled_from(["ping", "deploy"]) | st.text(max_size=10),
    st.booleans(),
    st.booleans(),
)
def test_no_reason_and_no_sender_makes_the_decision_fail(
    reason: DropReason, sender: str, destination: str, time_ns: int, verb: str, wants_reply: bool, listed: bool
) -> None:
    """Whatever the order of the checks is: a sender that is no peer, whatever it is dropped for, gets no rejection."""
    fields = {"destination": destination, "time_ns": time_ns, "verb": verb, "wants_reply": wants_reply}
    frame = wire.decode(make_encoded())._replace(sender=sender, **fields)
    peers = (make_peer(1, None, "ping"), *([make_peer(OWN_NUMBER, OWN, "ping")] if listed else []))
    gate, rejections, drop = make_gate(*peers), RejectionPolicy(), Drop(reason)
    allowed = rejections.may_reject(gate, frame, drop, NOW)
    considered = rejections.consider(gate, frame, drop, NOW)
    assert (considered is not None) is allowed
    if allowed:
        assert sender in gate.policy.peers
        assert reason in {DropReason.VERB_NOT_PERMITTED, DropReason.PAYLOAD_NOT_PERMITTED, DropReason.OUTSIDE_WINDOW}


def test_a_replay_is_not_told() -> None:
    gate, raw = gate_for(), ask(verb="ping")
    assert isinstance(gate.admit(raw, NOW), Message)
    assert consider(gate, raw) is None
    assert consider(gate, sign_again(raw)) is None


def test_a_peer_that_runs_the_original_is_not_told_as_it_takes_any_reply_for_success() -> None:
    assert consider(make_gate(make_peer(1, None, "ping", legacy=True)), ask()) is None


def test_each_message_is_reported_once_however_it_was_signed() -> None:
    gate, rejections, raw = gate_for(), RejectionPolicy(), ask()
    assert consider(gate, raw, rejections=rejections) is not None
    assert consider(gate, raw, rejections=rejections) is None
    assert consider(gate, sign_again(raw), rejections=rejections) is None


def test_what_was_refused_is_not_taken_when_it_is_permitted_later() -> None:
    gate, raw = gate_for(), ask()
    assert consider(gate, raw) is not None
    later = make_gate(make_peer(), window=gate.window)
    for copy in (raw, sign_again(raw)):
        assert isinstance(later.admit(copy, NOW), Drop)


@pytest.mark.parametrize("off", [-SKEW - 1, SKEW + 1, 9 * MINUTE])
def test_what_was_refused_for_its_time_is_not_taken_when_its_time_has_come(off: int) -> None:
    gate, raw = gate_for(), ask(verb="ping", time_ns=NOW + off)
    assert consider(gate, raw) is not None
    for copy in (raw, sign_again(raw)):
        assert isinstance(gate.admit(copy, NOW + off), Drop)


def test_what_nobody_was_told_about_may_still_be_taken() -> None:
    gate, raw = gate_for(), ask(wants_reply=False)
    assert consider(gate, raw) is None
    assert isinstance(make_gate(make_peer(), window=gate.window).admit(raw, NOW), Message)


def told(rejections: RejectionPolicy, number: int, count: int, now: int, gate: Gate) -> int:
    """Return how many of *count* different requests of a sender are answered at *now*."""
    raws = [ask(number, payload=b"%d %d" % (now, at), time_ns=now) for at in range(count)]
    return sum(consider(gate, raw, rejections=rejections, now=now) is not None for raw in raws)


def test_a_sender_is_reported_five_times_a_second() -> None:
    gate, rejections = gate_for(), RejectionPolicy()
    assert told(rejections, 1, 10, NOW, gate) == PER_SENDER == 5
    assert told(rejections, 1, 10, NOW + SECOND // 5, gate) == 1
    assert told(rejections, 1, 10, NOW + 100 * SECOND, gate) == 5


def test_all_senders_together_are_reported_twenty_times_a_second() -> None:
    gate, rejections = gate_for(*range(1, 7)), RejectionPolicy()
    assert [told(rejections, number, 10, NOW, gate) for number in range(1, 7)] == [5, 5, 5, 5, 0, 0]
    assert IN_ALL == 20


def test_of_requests_that_get_no_rejection_no_signature_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    verify, checked = wire.verify, []
    monkeypatch.setattr(wire, "verify", lambda frame: checked.append(frame) or verify(frame))
    gate, rejections = gate_for(), RejectionPolicy()
    assert told(rejections, 1, 1000, NOW, gate) == len(checked) == PER_SENDER


def test_forged_requests_use_up_nothing_of_what_a_peer_is_entitled_to() -> None:
    gate, rejections = gate_for(), RejectionPolicy()
    for number in range(1000):
        assert consider(gate, ask(payload=b"%da" % number)[:-1] + b"b", rejections=rejections) is None
    assert told(rejections, 1, 10, NOW, gate) == PER_SENDER


def test_requests_that_were_rejected_before_use_up_nothing() -> None:
    gate, rejections = gate_for(), RejectionPolicy()
    raw = ask()
    assert consider(gate, raw, rejections=rejections) is not None
    for copy in [raw, sign_again(raw)] * 50:
        assert consider(gate, copy, rejections=rejections) is None
    assert told(rejections, 1, 10, NOW, gate) == PER_SENDER - 1


def test_a_key_without_tokens_uses_up_none_of_all() -> None:
    gate, rejections = gate_for(*range(1, 5)), RejectionPolicy()
    assert [told(rejections, number, 50, NOW, gate) for number in range(1, 5)] == [PER_SENDER] * 4


def taken(bucket: TokenBucket, now: int) -> bool:
    """Take a token if there is one, and return whether there was."""
    available = bucket.available(now)
    if available:
        bucket.spend()
    return available


def test_a_clock_that_steps_back_gives_no_tokens() -> None:
    bucket = TokenBucket(2)
    assert [taken(bucket, NOW - step) for step in range(5)] == [True, True, False, False, False]


def test_a_bucket_holds_no_more_than_one_second_of_tokens() -> None:
    bucket = TokenBucket(2)
    assert taken(bucket, NOW)
    assert [taken(bucket, NOW + 3600 * SECOND) for _ in range(3)] == [True, True, False]


def test_the_message_that_is_refused_is_the_one_that_was_signed() -> None:
    raw = ask(payload=b"v42", uuid=b"id", time_ns=NOW - 2 * SKEW)
    rejected = consider(gate_for(), raw)
    assert rejected == replace(wire.decode(raw).message(sender_name="com.peer1"), digest=wire.digest(raw))


def test_a_peer_that_was_told_enough_in_a_second_is_told_again_in_the_next() -> None:
    policy = RejectionPolicy()
    assert [policy.try_acquire("peer", NOW) for _ in range(PER_SENDER + 1)] == [True] * PER_SENDER + [False]
    assert policy.try_acquire("peer", NOW + SECOND)
