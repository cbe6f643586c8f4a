"""One request and its replies: each check of the requesting side, and their order."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remaphore.protocol import wire
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.exchange import Exchange
from remaphore.protocol.gate import CHECKS as OF_THE_GATE
from remaphore.protocol.message import NO_DATA, REJECTED, Reply
from remaphore.protocol.peers import Peer
from tests.harness.factories import (
    NOW,
    SKEW,
    body_of,
    bounded,
    make_encoded,
    make_encoded_reply,
    make_key,
    make_peer,
    make_request,
    sign_again,
    sign_body,
)

REQUEST = make_request(1)
LEFT, RIGHT = make_peer(2, "com.left"), make_peer(3, "com.right")

CHECKS = {
    "shape": DropReason.MALFORMED,
    "reply": DropReason.NOT_A_REPLY,
    "asked": DropReason.NOT_ASKED,
    "first": DropReason.ANSWERED_ALREADY,
    "time": DropReason.OUTSIDE_WINDOW,
    "bound": DropReason.NOT_BOUND,
    "signature": DropReason.BAD_SIGNATURE,
}


def make_exchange(*responders: Peer) -> Exchange:
    return Exchange(REQUEST, responders or (LEFT, RIGHT), allow_skew_ns=SKEW, subject="remaphore.replies")


def reason(verdict: Reply | Drop) -> DropReason:
    assert isinstance(verdict, Drop)
    return verdict.reason


def taken(verdict: Reply | Drop) -> Reply:
    assert isinstance(verdict, Reply)
    return verdict


def build(faults: Iterable[str]) -> tuple[Exchange, bytes]:
    """Return an exchange and a reply from com.left that breaks exactly the rules in *faults*."""
    faults, exchange = set(faults), make_exchange()
    number = 9 if "asked" in faults else 2
    raw = make_encoded_reply(
        number,
        make_request(1, payload=b"another request") if "bound" in faults else REQUEST,
        verb="ping" if "reply" in faults else "reply",
        time_ns=NOW + 2 * SKEW if "time" in faults else NOW,
    )
    if "signature" in faults:
        raw = sign_body(body_of(raw) + b"!", number).removesuffix(b"!")
    if "shape" in faults:
        raw = raw.replace(b",_,", b",X,", 1)
    if "first" in faults:
        taken(exchange.admit(make_encoded_reply(2, REQUEST, time_ns=NOW - 1), NOW))
    return exchange, raw


def test_a_reply_is_accepted_with_who_said_it_and_when() -> None:
    expected = Reply(0, b"ok", peer="com.left", sender=make_key(2).public, time_ns=NOW - 1, bound=True)
    assert make_exchange().admit(make_encoded_reply(2, REQUEST, time_ns=NOW - 1), NOW) == expected


@pytest.mark.parametrize("name", CHECKS)
def test_each_broken_rule_alone_is_rejected_for_its_own_reason(name: str) -> None:
    exchange, raw = build({name})
    before = exchange.summary()
    verdict = exchange.admit(raw, NOW)
    assert isinstance(verdict, Drop)
    assert verdict == Drop(CHECKS[name], verdict.detail, len(raw), "remaphore.replies")
    assert exchange.dropped == 1
    assert (exchange.summary().answered, exchange.missing) == (before.answered, before.missing)


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(CHECKS, 2)))
def test_of_two_broken_rules_the_one_that_is_checked_first_decides(first: str, second: str) -> None:
    exchange, raw = build({first, second})
    assert reason(exchange.admit(raw, NOW)) is CHECKS[first]


@pytest.mark.parametrize("name", CHECKS)
def test_a_signature_is_verified_for_nothing_that_breaks_a_cheap_rule(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange, raw = build({name})
    calls: list[wire.Frame] = []
    verify = wire.verify

    def counting(frame: wire.Frame) -> bool:
        calls.append(frame)
        return verify(frame)

    monkeypatch.setattr(wire, "verify", counting)
    exchange.admit(raw, NOW)
    assert len(calls) == (name == "signature")


@pytest.mark.parametrize(
    "changes",
    [
        {"destination": "**"},
        {"destination": "com.left"},
        {"verb": "ping"},
        {"verb": "Reply"},
        {"verb": ""},
        {"wants_reply": True},
    ],
)
def test_what_differs_from_a_reply_in_one_field_is_none(changes: dict[str, object]) -> None:
    assert reason(make_exchange().admit(make_encoded_reply(2, REQUEST, **changes), NOW)) is DropReason.NOT_A_REPLY


def test_a_request_that_is_sent_to_the_reply_subject_is_no_reply() -> None:
    for verb in ("ping", "reply"):
        assert reason(make_exchange().admit(make_encoded(2, verb=verb), NOW)) is DropReason.NOT_A_REPLY


def test_the_request_itself_is_no_reply() -> None:
    raw = wire.encode(REQUEST, make_key(1))
    assert reason(make_exchange(make_peer(1)).admit(raw, NOW)) is DropReason.NOT_A_REPLY


def test_a_reply_is_accepted_whatever_verbs_its_sender_may_send() -> None:
    mute = Peer(destination="com.left", key=make_key(2).public, verbs=frozenset())
    assert taken(make_exchange(mute).admit(make_encoded_reply(2, REQUEST), NOW)).bound


def test_a_known_peer_that_was_not_addressed_is_not_believed() -> None:
    assert reason(make_exchange(LEFT).admit(make_encoded_reply(3, REQUEST), NOW)) is DropReason.NOT_ASKED


def test_where_nobody_was_asked_nobody_is_believed() -> None:
    exchange = Exchange(REQUEST, (), allow_skew_ns=SKEW)
    assert reason(exchange.admit(make_encoded_reply(2, REQUEST), NOW)) is DropReason.NOT_ASKED
    assert exchange.expected == exchange.missing == ()


# The first reply of each destination.


def test_a_second_reply_is_refused_and_the_first_one_stands() -> None:
    exchange = make_exchange()
    first = taken(exchange.admit(make_encoded_reply(2, REQUEST), NOW))
    assert (
        reason(exchange.admit(make_encoded_reply(2, REQUEST, payload=b"1,other"), NOW)) is DropReason.ANSWERED_ALREADY
    )
    assert exchange.replies == {"com.left": first}


def test_the_same_reply_again_or_signed_again_is_refused() -> None:
    exchange, raw = make_exchange(), make_encoded_reply(2, REQUEST)
    taken(exchange.admit(raw, NOW))
    for copy in (raw, sign_again(raw, 2)):
        assert reason(exchange.admit(copy, NOW)) is DropReason.ANSWERED_ALREADY


def test_a_forged_reply_does_not_take_the_place_of_the_true_one() -> None:
    exchange, forged = build({"signature"})
    assert reason(exchange.admit(forged, NOW)) is DropReason.BAD_SIGNATURE
    assert exchange.missing == ("com.left", "com.right")
    assert taken(exchange.admit(make_encoded_reply(2, REQUEST), NOW)).peer == "com.left"


@pytest.mark.parametrize(("first", "second"), [(2, 4), (4, 2)])
def test_a_destination_with_two_keys_answers_once_with_either(first: int, second: int) -> None:
    exchange = make_exchange(LEFT, make_peer(4, "com.left"), RIGHT)
    assert exchange.expected == ("com.left", "com.right")
    assert taken(exchange.admit(make_encoded_reply(first, REQUEST), NOW)).sender == make_key(first).public
    assert exchange.missing == ("com.right",)
    assert reason(exchange.admit(make_encoded_reply(second, REQUEST), NOW)) is DropReason.ANSWERED_ALREADY
    assert not exchange.complete
    taken(exchange.admit(make_encoded_reply(3, REQUEST), NOW))
    assert exchange.complete


@pytest.mark.parametrize("key", [2, 4])
def test_a_request_is_complete_when_each_destination_has_replied_with_either_of_its_keys(key: int) -> None:
    exchange = make_exchange(LEFT, make_peer(4, "com.left"), RIGHT)
    complete = [exchange.complete]
    for number in (key, 3):
        taken(exchange.admit(make_encoded_reply(number, REQUEST), NOW))
        complete.append(exchange.complete)
    assert complete == [False, False, True]


def test_of_a_key_on_two_lines_the_first_one_counts() -> None:
    exchange = make_exchange(LEFT, make_peer(2, "com.other"))
    assert exchange.expected == ("com.left",)
    assert taken(exchange.admit(make_encoded_reply(2, REQUEST), NOW)).peer == "com.left"


# Time.


@pytest.mark.parametrize("skew", [-SKEW, 0, SKEW])
def test_a_reply_at_the_edge_of_the_window_is_accepted(skew: int) -> None:
    assert taken(make_exchange().admit(make_encoded_reply(2, REQUEST, time_ns=NOW + skew), NOW)).time_ns == NOW + skew


@pytest.mark.parametrize("skew", [-SKEW - 1, SKEW + 1])
def test_a_reply_outside_the_window_is_refused(skew: int) -> None:
    raw = make_encoded_reply(2, REQUEST, time_ns=NOW + skew)
    assert reason(make_exchange().admit(raw, NOW)) is DropReason.OUTSIDE_WINDOW


# Which request a reply belongs to.


def test_a_reply_that_was_captured_from_another_request_is_refused() -> None:
    other = make_request(1, time_ns=NOW - 1)
    assert reason(make_exchange().admit(make_encoded_reply(2, other), NOW)) is DropReason.NOT_BOUND


def test_a_request_that_differs_in_its_signature_alone_has_other_replies() -> None:
    again = wire.decode(sign_again(wire.encode(REQUEST, make_key(1)))).message()
    assert reason(make_exchange().admit(make_encoded_reply(2, again), NOW)) is DropReason.NOT_BOUND


@pytest.mark.parametrize("uuid", [b"random uuid!", REQUEST.digest[:11], REQUEST.digest[1:13]])
def test_a_reply_of_an_original_peer_is_accepted_and_marked_as_not_bound(uuid: bytes) -> None:
    raw = make_encoded_reply(2, REQUEST, uuid=uuid)
    assert reason(make_exchange().admit(raw, NOW)) is DropReason.NOT_BOUND
    assert not taken(make_exchange(make_peer(2, "com.left", legacy=True)).admit(raw, NOW)).bound


def test_a_bound_reply_of_an_original_peer_is_marked_as_bound() -> None:
    exchange = make_exchange(make_peer(2, "com.left", legacy=True))
    assert taken(exchange.admit(make_encoded_reply(2, REQUEST), NOW)).bound


def test_one_original_peer_makes_no_other_peer_s_replies_pass_unbound() -> None:
    exchange = make_exchange(make_peer(2, "com.left", legacy=True), RIGHT)
    assert reason(exchange.admit(make_encoded_reply(3, REQUEST, uuid=b"random"), NOW)) is DropReason.NOT_BOUND


# How things stand.


def test_the_summary_names_everybody_once_in_the_order_of_the_configuration() -> None:
    peers = [make_peer(number, f"com.n{number}") for number in (7, 3, 5, 4, 6, 2)]
    exchange = make_exchange(*peers)
    for number, payload in ((4, b"0,fine"), (3, b"2,bad"), (5, NO_DATA), (7, b"77," + REJECTED + b"no"), (6, b"-1,")):
        taken(exchange.admit(make_encoded_reply(number, REQUEST, payload=payload), NOW))
    exchange.admit(b"noise", NOW)
    summary = exchange.summary()
    assert summary.expected == ("com.n7", "com.n3", "com.n5", "com.n4", "com.n6", "com.n2")
    assert summary.answered == ("com.n7", "com.n3", "com.n5", "com.n4", "com.n6")
    assert summary.failed == ("com.n3", "com.n6")
    assert summary.rejected == ("com.n7",)
    assert summary.missing == exchange.missing == ("com.n2",)
    assert summary.dropped == exchange.dropped == 1


def test_a_rejected_reply_tells_nothing_of_itself() -> None:
    for name in CHECKS:
        exchange, raw = build({name})
        verdict = exchange.admit(raw, NOW)
        assert make_key(2).public not in repr(verdict)
        assert "0,ok" not in repr(verdict)
        assert REQUEST.digest[:12].hex() not in repr(verdict)


@pytest.mark.places
def test_every_reason_is_reached_but_the_one_that_queues_give() -> None:
    unreached = set(DropReason) - {check.reason for check in OF_THE_GATE} - set(CHECKS.values()) - {DropReason.BUSY}
    where = "a check in remaphore/protocol/gate.py, or in protocol/exchange.py and CHECKS of its test"
    assert not unreached, f"{', '.join(unreached)} needs {where}"


@bounded
@given(st.binary(max_size=60) | st.lists(st.binary(max_size=5), min_size=8, max_size=8).map(b",".join), st.integers())
def test_random_bytes_get_a_rejection_at_any_time(raw: bytes, now: int) -> None:
    assert isinstance(make_exchange().admit(raw, now), Drop)


@bounded
@given(st.binary(max_size=20), st.integers(), st.binary(max_size=5))
def test_whatever_a_responder_signs_gets_a_verdict(payload: bytes, now: int, scrap: bytes) -> None:
    exchange, head = make_exchange(), body_of(make_encoded_reply(2, REQUEST, payload=payload))
    for body in (head, scrap + head, head.replace(b"_", scrap), payload):
        assert isinstance(exchange.admit(sign_body(body, 2), now), Reply | Drop)


def test_every_flipped_bit_of_a_reply_is_refused() -> None:
    raw, exchange = make_encoded_reply(2, REQUEST), make_exchange(make_peer(2, "com.left", legacy=True))
    for at, bit in itertools.product(range(len(raw)), range(8)):
        altered = raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]
        assert isinstance(exchange.admit(altered, NOW), Drop)
    assert taken(exchange.admit(raw, NOW)).exit_code == 0
