"""A receipt and its checks: each rule alone, what every changed byte does, and what no receipt can be taken for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remaphore.protocol import receipt, wire
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.exchange import Exchange
from remaphore.protocol.message import Message, Reply
from remaphore.protocol.receipt import MAX_INVALID_SIGNATURES, MAX_RECEIPT_BYTES, Receipt
from tests.harness.factories import (
    NOW,
    SKEW,
    bounded,
    make_encoded,
    make_encoded_receipt,
    make_encoded_reply,
    make_gate,
    make_key,
    make_peer,
    make_request,
    sign_body,
)

REQUEST = make_request(1)
LEFT, RIGHT = make_peer(2, "com.left"), make_peer(3, "com.right")


def make_exchange() -> Exchange:
    return Exchange(REQUEST, (LEFT, RIGHT), allow_skew_ns=SKEW, subject="remaphore.replies")


def test_a_receipt_has_these_bytes_and_is_accepted_with_its_responder_and_time() -> None:
    message = receipt.compose(REQUEST.digest, sender=make_key(2).public, time_ns=NOW)
    raw = wire.encode(message, make_key(2))
    assert raw == make_encoded_receipt(2, REQUEST)
    assert raw.split(b",", 2)[2] == b",17979cfe362a0000,%b,receipt,_," % REQUEST.digest[:12].hex().encode()
    exchange = make_exchange()
    assert exchange.admit_receipt(raw, NOW) == Receipt("com.left", make_key(2).public, NOW)
    assert exchange.running == exchange.summary().running == ("com.left",)
    assert exchange.summary().silent == ("com.right",)
    assert exchange.summary().missing == ("com.left", "com.right")


def test_the_longest_receipt_is_within_the_limit() -> None:
    longest = receipt.compose(REQUEST.digest, sender=make_key(2).public, time_ns=-(2**63))
    assert len(wire.encode(longest, make_key(2))) < MAX_RECEIPT_BYTES


BROKEN = {
    "a destination": ({"destination": "**"}, DropReason.NOT_A_REPLY),
    "a reply": ({"verb": "reply"}, DropReason.NOT_A_REPLY),
    "another verb": ({"verb": "receipts"}, DropReason.NOT_A_REPLY),
    "a flag": ({"wants_reply": True}, DropReason.NOT_A_REPLY),
    "a payload": ({"payload": b"1"}, DropReason.NOT_A_REPLY),
    "a large payload": ({"payload": b"x" * MAX_RECEIPT_BYTES}, DropReason.MALFORMED),
    "another request": ({"uuid": b"\x01" * 12}, DropReason.NOT_BOUND),
    "a part of the uuid": ({"uuid": REQUEST.digest[:11]}, DropReason.NOT_BOUND),
    "an old one": ({"time_ns": NOW - SKEW - 1}, DropReason.OUTSIDE_WINDOW),
    "a future one": ({"time_ns": NOW + SKEW + 1}, DropReason.OUTSIDE_WINDOW),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_rule_alone_is_a_drop_that_changes_nothing_but_its_count(name: str) -> None:
    fields, reason = BROKEN[name]
    exchange, raw = make_exchange(), make_encoded_receipt(2, REQUEST, **fields)
    before = exchange.summary()
    verdict = exchange.admit_receipt(raw, NOW)
    assert isinstance(verdict, Drop)
    assert verdict == Drop(reason, verdict.detail, len(raw), "remaphore.replies.receipt")
    assert exchange.summary() == replace(before, dropped=1)
    # The genuine one counts all the same.
    assert isinstance(exchange.admit_receipt(make_encoded_receipt(2, REQUEST), NOW), Receipt)


@pytest.mark.parametrize("number", [1, 9], ids=["the requester", "an unknown key"])
def test_a_receipt_of_a_key_that_was_not_asked_is_dropped(number: int) -> None:
    exchange = make_exchange()
    verdict = exchange.admit_receipt(make_encoded_receipt(number, REQUEST), NOW)
    assert isinstance(verdict, Drop)
    assert verdict.reason is DropReason.NOT_ASKED
    assert exchange.running == ()


def test_a_receipt_after_the_first_or_after_the_reply_changes_nothing_and_is_no_drop() -> None:
    exchange = make_exchange()
    first, second = make_encoded_receipt(2, REQUEST), make_encoded_receipt(2, REQUEST, time_ns=NOW + 1)
    assert isinstance(exchange.admit_receipt(first, NOW), Receipt)
    assert [exchange.admit_receipt(raw, NOW) for raw in (first, second)] == [None, None]
    assert isinstance(exchange.admit(make_encoded_reply(2, REQUEST), NOW), Reply)
    assert exchange.running == ()
    assert exchange.admit_receipt(second, NOW) is None
    # Its reply came first: the receipt of com.right is late.
    assert isinstance(exchange.admit(make_encoded_reply(3, REQUEST), NOW), Reply)
    assert exchange.admit_receipt(make_encoded_receipt(3, REQUEST), NOW) is None
    summary = exchange.summary()
    assert (summary.running, summary.silent, summary.dropped, len(summary.ok)) == ((), (), 0, 2)


def test_the_second_key_of_a_destination_is_the_same_node() -> None:
    exchange = Exchange(REQUEST, (LEFT, make_peer(3, "com.left")), allow_skew_ns=SKEW)
    assert isinstance(exchange.admit_receipt(make_encoded_receipt(2, REQUEST), NOW), Receipt)
    assert exchange.admit_receipt(make_encoded_receipt(3, REQUEST), NOW) is None
    assert exchange.running == ("com.left",)


@bounded
@given(position=st.integers(0, 199), byte=st.integers(0, 255))
def test_no_changed_byte_is_accepted(position: int, byte: int) -> None:
    genuine = make_encoded_receipt(2, REQUEST)
    raw = bytearray(genuine)
    raw[position % len(raw)] = byte
    exchange = make_exchange()
    verdict = exchange.admit_receipt(bytes(raw), NOW)
    assert isinstance(verdict, Receipt if raw == genuine else Drop)


@bounded
@given(raw=st.binary(max_size=300))
def test_no_garbage_is_accepted_and_none_raises(raw: bytes) -> None:
    exchange = make_exchange()
    for each in (raw, sign_body(raw, 2)):
        assert isinstance(exchange.admit_receipt(each, NOW), Drop)
    assert exchange.running == ()


def test_receipt_and_reply_cannot_be_taken_for_each_other() -> None:
    exchange = make_exchange()
    carried = (
        exchange.admit(make_encoded_receipt(2, REQUEST), NOW),
        exchange.admit_receipt(make_encoded_reply(2, REQUEST), NOW),
    )
    assert [each.reason for each in carried if isinstance(each, Drop)] == [DropReason.NOT_A_REPLY] * 2
    assert (exchange.running, exchange.replies) == ((), {})


def test_no_receipt_is_a_message_and_no_message_a_receipt() -> None:
    verdict = make_gate(make_peer(2)).admit(make_encoded_receipt(2, REQUEST), NOW)
    assert isinstance(verdict, Drop)
    assert verdict.reason is DropReason.NOT_A_REQUEST
    # A verb of this name is nothing special.
    message = make_encoded(2, verb="receipt", uuid=REQUEST.digest[:12])
    assert isinstance(make_gate(make_peer(2)).admit(message, NOW), Message)
    assert isinstance(make_exchange().admit_receipt(message, NOW), Drop)


def test_after_many_forged_signatures_no_more_are_verified_and_replies_still_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exchange = make_exchange()
    verified = []
    verify = wire.verify
    monkeypatch.setattr(wire, "verify", lambda frame: (verified.append(1), verify(frame))[1])
    left = make_key(2).public.encode()
    forged = left + make_encoded_receipt(3, REQUEST)[len(make_key(3).public) :]
    for _ in range(5 * MAX_INVALID_SIGNATURES):
        assert isinstance(exchange.admit_receipt(forged, NOW), Drop)
    assert len(verified) == MAX_INVALID_SIGNATURES
    assert isinstance(exchange.admit_receipt(make_encoded_receipt(2, REQUEST), NOW), Drop)  # hidden, not forged
    assert isinstance(exchange.admit(make_encoded_reply(2, REQUEST), NOW), Reply)
