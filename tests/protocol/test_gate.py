"""The gate, check by check: sender, verb, time and destination. The order of the checks is in test_gate_order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from remaphore.protocol import wire
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.gate import Filters, skew_error
from remaphore.protocol.message import REPLY_VERB, Message
from remaphore.protocol.payloads import PayloadRule
from tests.harness.factories import (
    NOW,
    OWN,
    OWN_NUMBER,
    SKEW,
    make_encoded,
    make_encoded_reply,
    make_gate,
    make_key,
    make_peer,
    make_request,
)


def dropped(verdict: object) -> Drop:
    assert isinstance(verdict, Drop)
    return verdict


# Requests and replies.


@pytest.mark.parametrize("verb", [REPLY_VERB, "ping"])
@pytest.mark.parametrize("wants_reply", [True, False])
@pytest.mark.parametrize("any_destination", [True, False])
def test_what_has_no_destination_is_no_request(verb: str, wants_reply: bool, any_destination: bool) -> None:
    gate = make_gate(filters=Filters(any_destination=any_destination, pattern=None if any_destination else ""))
    raw = make_encoded(destination="", verb=verb, wants_reply=wants_reply)
    assert dropped(gate.admit(raw, NOW)).reason is DropReason.NOT_A_REQUEST


def test_a_captured_reply_is_no_request() -> None:
    raw = make_encoded_reply(1, make_request(2))
    verdict = make_gate(filters=Filters(any_destination=True)).admit(raw, NOW)
    assert dropped(verdict).reason is DropReason.NOT_A_REQUEST


# Permission.


def test_the_verb_is_compared_as_it_is_written() -> None:
    gate = make_gate(make_peer(1, "com.sender", "ping"))
    for verb in ("Ping", "ping ", "", "*", "pin"):
        assert dropped(gate.admit(make_encoded(verb=verb), NOW)).reason is DropReason.VERB_NOT_PERMITTED


def test_a_peer_may_not_send_what_only_another_peer_may() -> None:
    gate = make_gate(make_peer(1, "com.a", "ping"), make_peer(2, "com.b", "deploy"))
    assert dropped(gate.admit(make_encoded(1, verb="deploy"), NOW)).reason is DropReason.VERB_NOT_PERMITTED
    assert isinstance(gate.admit(make_encoded(2, verb="deploy"), NOW), Message)


def test_a_payload_rule_narrows_its_verb_and_no_other() -> None:
    rules = {"deploy": PayloadRule.of(payloads=["stop", ""], pattern="v[0-9]{1,4}")}
    for peer in (make_peer(1, "com.ci", "deploy", "status"), make_peer(1, "com.ci", "*")):
        gate = make_gate(replace(peer, only=rules))
        for payload in (b"stop", b"", b"v42"):
            assert isinstance(gate.admit(make_encoded(verb="deploy", payload=payload), NOW), Message)
        for payload in (b"v42\n", b"v42\0", b"v42; id", b"\xff\xfe", b"start", b"v" + b"4" * 1_000_000):
            verdict = dropped(gate.admit(make_encoded(verb="deploy", payload=payload), NOW))
            assert verdict.reason is DropReason.PAYLOAD_NOT_PERMITTED
        assert isinstance(gate.admit(make_encoded(verb="status", payload=b"anything"), NOW), Message)


def test_a_payload_rule_cannot_be_avoided_by_the_case_of_the_verb() -> None:
    gate = make_gate(replace(make_peer(), only={"deploy": PayloadRule.of(payloads=["stop"])}))
    for verb in ("deploy", "Deploy", "DEPLOY"):
        verdict = dropped(gate.admit(make_encoded(verb=verb, payload=b"start"), NOW))
        assert verdict.reason is DropReason.PAYLOAD_NOT_PERMITTED


@pytest.mark.parametrize("end", [b" ", b"\n", b"\0", b"1"])
def test_a_key_that_is_written_otherwise_is_unknown(end: bytes) -> None:
    raw = make_encoded().replace(b",", end + b",", 1)
    assert dropped(make_gate().admit(raw, NOW)).reason is DropReason.UNKNOWN_SENDER


# Our own messages, and the destination before the sender.


def test_each_of_our_own_keys_is_known_as_ours() -> None:
    gate = make_gate(own=(5, 6))
    for number in (5, 6):
        for pattern in (OWN, "**", "com.crypto.*.left"):
            assert dropped(gate.admit(make_encoded(number, destination=pattern), NOW)).reason is DropReason.OWN_MESSAGE
        elsewhere = gate.admit(make_encoded(number, destination="org.other"), NOW)
        assert dropped(elsewhere).reason is DropReason.NOT_ADDRESSED


def test_our_own_key_in_the_list_of_peers_is_judged_as_a_peer() -> None:
    gate = make_gate(make_peer(5, OWN, "ping"), own=(5, 6))
    message = gate.admit(make_encoded(5, wants_reply=True), NOW)
    assert isinstance(message, Message)
    assert (message.sender_name, message.own_destination) == (OWN, OWN)
    assert dropped(gate.admit(make_encoded(5, verb="deploy"), NOW)).reason is DropReason.VERB_NOT_PERMITTED
    assert dropped(gate.admit(make_encoded(5, time_ns=NOW + 2 * SKEW), NOW)).reason is DropReason.OUTSIDE_WINDOW
    assert dropped(gate.admit(make_encoded(6), NOW)).reason is DropReason.OWN_MESSAGE


def test_a_message_between_other_nodes_is_not_addressed_whoever_signed_it() -> None:
    gate = make_gate(make_peer(1, "com.sender", "ping"))
    for number, verb in ((1, "ping"), (1, "deploy"), (9, "ping"), (OWN_NUMBER, "ping")):
        for time_ns in (NOW, NOW - 2 * SKEW):
            raw = make_encoded(number, verb=verb, time_ns=time_ns, destination="com.crypto.us.right")
            assert dropped(gate.admit(raw, NOW)).reason is DropReason.NOT_ADDRESSED


@pytest.mark.parametrize(
    ("pattern", "exact"),
    [(OWN, True), ("**", False), ("com.**", False), ("com.crypto.us.lef*", False), ("com.crypto.us.right", False)],
)
@pytest.mark.parametrize("any_destination", [True, False])
def test_a_drop_tells_whether_the_pattern_is_exactly_our_destination(
    pattern: str, exact: bool, any_destination: bool
) -> None:
    gate = make_gate(make_peer(1, None, "ping"), filters=Filters(any_destination=any_destination))
    for number, verb in ((9, "ping"), (1, "deploy"), (OWN_NUMBER, "ping")):
        assert dropped(gate.admit(make_encoded(number, verb=verb, destination=pattern), NOW)).exact is exact
    raw = make_encoded(destination=pattern)
    assert gate.is_exact(wire.decode(raw)) is exact
    assert dropped(gate.admit(raw[:-1] + b",x", NOW)).exact is exact
    if exact or any_destination:
        gate.admit(raw, NOW)
        assert dropped(gate.admit(raw, NOW)).exact is exact


# Time.


@pytest.mark.parametrize("skew", [-SKEW, -SKEW + 1, 0, SKEW])
def test_a_time_at_the_edge_of_the_window_is_within(skew: int) -> None:
    assert isinstance(make_gate().admit(make_encoded(time_ns=NOW + skew), NOW), Message)


@pytest.mark.parametrize(
    ("skew", "detail"),
    [
        (-SKEW - 1, "signed 5.0 s behind our clock (allowed: 5 s)"),
        (SKEW + 1, "signed 5.0 s ahead of our clock (allowed: 5 s)"),
        (-60 * SKEW, "signed 300.0 s behind our clock (allowed: 5 s)"),
    ],
)
def test_a_time_outside_the_window_is_rejected_with_how_far_it_is_off(skew: int, detail: str) -> None:
    verdict = dropped(make_gate().admit(make_encoded(time_ns=NOW + skew), NOW))
    assert (verdict.reason, verdict.detail) == (DropReason.OUTSIDE_WINDOW, detail)


@pytest.mark.parametrize("time_ns", [-(2**63), 2**63 - 1, 0])
def test_the_farthest_times_are_judged(time_ns: int) -> None:
    assert skew_error(time_ns, NOW, SKEW) is not None
    assert dropped(make_gate().admit(make_encoded(time_ns=time_ns), NOW)).reason is DropReason.OUTSIDE_WINDOW


# Destination and filters.


@pytest.mark.parametrize(
    ("filters", "pattern", "reason"),
    [
        (Filters(), OWN, None),
        (Filters(), "com.crypto.*.left", None),
        (Filters(), "com.crypto", DropReason.NOT_ADDRESSED),
        (Filters(), "longlonglong*.**", DropReason.NOT_ADDRESSED),
        (Filters(any_destination=True), "org.other", None),
        (Filters(pattern="org.*"), "org.*", None),
        (Filters(pattern="org.*"), "org.other", DropReason.NOT_ADDRESSED),
        (Filters(pattern="org.*"), OWN, DropReason.NOT_ADDRESSED),
        (Filters(uuid=b"uuid"), OWN, None),
        (Filters(uuid=b"uui"), OWN, DropReason.FILTERED),
        (Filters(verbs=frozenset({"ping", "x"})), OWN, None),
        (Filters(verbs=frozenset({"x"})), OWN, DropReason.FILTERED),
        (Filters(verbs=frozenset()), OWN, DropReason.FILTERED),
        (Filters(verbs=frozenset({"*"})), OWN, DropReason.FILTERED),
        (Filters(sender=make_key(1).public), OWN, None),
        (Filters(sender=make_key(2).public), OWN, DropReason.FILTERED),
    ],
)
def test_only_what_is_addressed_and_wanted_is_accepted(
    filters: Filters, pattern: str, reason: DropReason | None
) -> None:
    verdict = make_gate(make_peer(1), make_peer(2), filters=filters).admit(make_encoded(destination=pattern), NOW)
    assert getattr(verdict, "reason", None) is reason


@pytest.mark.parametrize(
    ("filters", "pattern", "matched"),
    [
        (Filters(), "**", OWN),
        (Filters(any_destination=True), "**", ""),
        (Filters(pattern="**"), "**", OWN),
        (Filters(pattern="org.*"), "org.*", ""),
    ],
)
def test_our_destination_is_reported_if_the_pattern_reaches_it(filters: Filters, pattern: str, matched: str) -> None:
    message = make_gate(filters=filters).admit(make_encoded(destination=pattern), NOW)
    assert isinstance(message, Message)
    assert message.own_destination == matched
