"""The order of the gate's checks, what its drops contain, and that all input gets a verdict."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from remaphore.protocol import wire
from remaphore.protocol.drop import Drop, DropKind, DropReason
from remaphore.protocol.gate import CHECKS as OF_THE_GATE
from remaphore.protocol.gate import Filters, Gate
from remaphore.protocol.message import Message
from remaphore.protocol.payloads import PayloadRule
from tests.harness.factories import (
    NOW,
    OWN,
    OWN_NUMBER,
    SKEW,
    body_of,
    bounded,
    make_encoded,
    make_gate,
    make_key,
    make_message,
    make_peer,
    sign_again,
    sign_body,
)

MARK = "Xq7markX"
STRICT = Filters(uuid=b"wanted", verbs=frozenset({"ping", "deploy"}), sender=make_key(1).public)
FOREVER = 2**64

# Each check by its name and reason, in the order that the gate promises.
CHECKS = [
    ("shape", DropReason.MALFORMED),
    ("request", DropReason.NOT_A_REQUEST),
    ("destination", DropReason.NOT_ADDRESSED),
    ("own-key", DropReason.OWN_MESSAGE),
    ("sender", DropReason.UNKNOWN_SENDER),
    ("verb", DropReason.VERB_NOT_PERMITTED),
    ("time", DropReason.OUTSIDE_WINDOW),
    ("filters", DropReason.FILTERED),
    ("duplicate", DropReason.DUPLICATE),
    ("signature", DropReason.BAD_SIGNATURE),
    ("payload", DropReason.PAYLOAD_NOT_PERMITTED),
    ("replay", DropReason.REPLAYED),
]
NAMES = [name for name, _ in CHECKS]
REASONS = dict(CHECKS)


def build(faults: Iterable[str], *, filters: Filters = STRICT) -> tuple[Gate, bytes]:
    """Return a gate with *filters* and a message that fails exactly the checks in *faults*."""
    faults = set(faults)
    number = OWN_NUMBER if "own-key" in faults else 9 if "sender" in faults else 1
    raw = make_encoded(
        number,
        destination="" if "request" in faults else f"org.{MARK}" if "destination" in faults else "com.**",
        verb=f"verb-{MARK}" if "verb" in faults else "ping",
        time_ns=NOW - 2 * SKEW if "time" in faults else NOW,
        uuid=MARK.encode() if "filters" in faults else b"wanted",
        payload=MARK.encode() * (2 if "payload" in faults else 1),
    )
    if "signature" in faults:
        raw = sign_body(body_of(raw) + b"!", number).removesuffix(b"!")
    if "shape" in faults:
        raw = re.sub(rb",_,", b",X,", raw, count=1)
    only = {"ping": PayloadRule.of(pattern="[a-zA-Z0-9]+", max_length=len(MARK))}
    gate = make_gate(replace(make_peer(1, "com.sender", "ping", "deploy"), only=only), filters=filters)
    if faults & {"duplicate", "replay"}:
        digest = wire.digest(raw) if "duplicate" in faults else bytes(32)
        signed = body_of(raw) if "replay" in faults else b"another message"
        assert gate.window.accept(make_key(number).public, signed, digest=digest, time_ns=NOW - 1, now=NOW)
    return gate, raw


def dropped(verdict: object) -> Drop:
    assert isinstance(verdict, Drop)
    return verdict


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Count the signatures that are verified; they are verified all the same."""
    calls: list[bytes] = []
    verify = wire.verify

    def counting(frame: wire.Frame) -> bool:
        calls.append(frame.raw)
        return verify(frame)

    monkeypatch.setattr(wire, "verify", counting)
    return calls


def test_a_message_without_fault_is_admitted_with_all_its_fields() -> None:
    gate, raw = build(())
    fields = {"destination": "com.**", "uuid": b"wanted", "payload": MARK.encode()}
    admitted = {"digest": hashlib.sha256(raw).digest(), "sender_name": "com.sender", "own_destination": OWN}
    assert gate.admit(raw, NOW) == make_message(1, **fields, **admitted)


@pytest.mark.places
@pytest.mark.parametrize("name", NAMES)
def test_each_fault_alone_is_rejected_for_its_own_reason(name: str) -> None:
    gate, raw = build({name})
    verdict = gate.admit(raw, NOW)
    assert isinstance(verdict, Drop), f"tests/protocol/test_gate_order.py: build: add the fault {name}"
    assert verdict.reason is REASONS[name]
    assert verdict.size == len(raw)
    assert verdict.subject == "remaphore.all"


@pytest.mark.places
@pytest.mark.parametrize("first", [name for name in NAMES if name != "filters"])
def test_a_gate_without_filters_such_as_a_daemons_has_the_same_order(first: str) -> None:
    for second in NAMES[NAMES.index(first) :]:
        gate, raw = build({first, second} - {"filters"}, filters=Filters())
        verdict = gate.admit(raw, NOW)
        assert isinstance(verdict, Drop), f"tests/protocol/test_gate_order.py: a gate without filters ignores {first}"
        assert verdict.reason is REASONS[first]
        judged = gate.judge(raw, NOW)
        assert not isinstance(judged, DropKind) or judged.reason is REASONS[first]
        assert not isinstance(judged, tuple) or first in NAMES[NAMES.index("signature") :]


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(NAMES, 2)))
def test_of_two_faults_the_one_that_is_checked_first_decides(first: str, second: str) -> None:
    gate, raw = build({first, second})
    assert dropped(gate.admit(raw, NOW)).reason is REASONS[first]


@pytest.mark.parametrize("name", NAMES)
def test_of_all_faults_from_one_on_that_one_decides(name: str) -> None:
    gate, raw = build(NAMES[NAMES.index(name) :])
    assert dropped(gate.admit(raw, NOW)).reason is REASONS[name]


@pytest.mark.parametrize("name", NAMES[: NAMES.index("signature")])
def test_no_signature_is_verified_for_what_fails_a_cheap_check(name: str, verifications: list[bytes]) -> None:
    gate, raw = build({name})
    gate.admit(raw, NOW)
    assert verifications == []


@pytest.mark.parametrize("faults", [(), ("signature",), ("payload",), ("replay",)])
def test_one_signature_is_verified_for_what_passes_them(faults: tuple[str, ...], verifications: list[bytes]) -> None:
    gate, raw = build(faults)
    gate.admit(raw, NOW)
    assert verifications == [raw]


def test_a_repeated_message_costs_one_signature_in_all(verifications: list[bytes]) -> None:
    gate, raw = build(())
    gate.admit(raw, NOW)
    reasons = {dropped(gate.admit(raw, NOW)).reason for _ in range(20)}
    assert reasons == {DropReason.DUPLICATE}
    assert verifications == [raw]


@pytest.mark.places
def test_the_documented_order_is_the_order_of_the_code() -> None:
    order = [(check.name, check.reason) for check in OF_THE_GATE]
    lines = "\n".join(f'    ("{check.name}", DropReason.{check.reason.name}),' for check in OF_THE_GATE)
    assert order == CHECKS, f"tests/protocol/test_gate_order.py: CHECKS: write\n{lines}"
    documented = re.findall(r"^\s*\d+\. ([\w-]+):", Gate.__doc__ or "", re.MULTILINE)
    numbered = ", ".join(f"{number}. {name}" for number, name in enumerate(NAMES, 1))
    assert documented == NAMES, f"remaphore/protocol/gate.py: docstring of Gate: number the checks: {numbered}"


def test_what_is_not_taken_leaves_no_trace_in_the_window() -> None:
    for name in [*NAMES[: NAMES.index("duplicate")], "signature", "payload"]:
        gate, raw = build({name})
        gate.admit(raw, NOW)
        assert not gate.window.knows(wire.digest(raw))
        assert gate.window._senders == {}


def test_a_forgery_does_not_keep_the_true_message_out() -> None:
    gate, raw = build(())
    forged = build({"signature"})[1]
    assert body_of(forged) == body_of(raw)
    assert dropped(gate.admit(forged, NOW)).reason is DropReason.BAD_SIGNATURE
    assert isinstance(gate.admit(raw, NOW), Message)


# What each side of the gate's two steps does, for a receiver that verifies elsewhere.


def prechecked(gate: Gate, raw: bytes) -> tuple[wire.Frame, bytes]:
    frame = gate.decode(raw)
    assert isinstance(frame, wire.Frame)
    digest = gate.precheck(frame, NOW)
    assert digest == wire.digest(raw)
    return frame, digest


def test_precheck_and_commit_together_admit() -> None:
    gate, raw = build(())
    frame, digest = prechecked(gate, raw)
    assert gate.commit(frame, NOW, digest=digest, verified=wire.verify(frame)) == build(())[0].admit(raw, NOW)


def test_precheck_alone_remembers_nothing() -> None:
    gate, raw = build(())
    for _ in range(2):
        prechecked(gate, raw)


def test_of_two_copies_that_were_prechecked_together_one_is_accepted() -> None:
    gate, raw = build(())
    copies = [prechecked(gate, copy) for copy in (raw, sign_again(raw), raw)]
    verdicts = [gate.commit(frame, NOW, digest=digest, verified=True) for frame, digest in copies]
    assert [getattr(verdict, "reason", None) for verdict in verdicts] == [
        None,
        DropReason.REPLAYED,
        DropReason.REPLAYED,
    ]


def test_what_was_not_verified_is_not_taken() -> None:
    gate, raw = build(())
    frame, digest = prechecked(gate, raw)
    verdict = gate.commit(frame, NOW, digest=digest, verified=False)
    assert dropped(verdict).reason is DropReason.BAD_SIGNATURE
    assert isinstance(gate.admit(raw, NOW), Message)


# What a drop tells.


@pytest.mark.parametrize("name", NAMES)
def test_a_rejection_holds_nothing_of_the_message(name: str) -> None:
    gate, raw = build({name})
    assert_silent(gate.admit(raw, NOW))


@pytest.mark.parametrize("field", range(8))
def test_a_malformed_field_is_not_quoted(field: int) -> None:
    for text in (b"-" + MARK.encode(), b"\xff" + MARK.encode(), MARK.encode() * 500, MARK.encode() + b"," * 9):
        fields = build(())[1].split(b",", 7)
        fields[field] = text
        verdict = make_gate().admit(b",".join(fields), NOW)
        assert_silent(verdict)


def assert_silent(verdict: object) -> None:
    verdict = dropped(verdict)
    for text in (repr(verdict), str(verdict), verdict.detail):
        assert MARK not in text
        assert MARK.encode().hex() not in text
        assert make_key(1).public not in text
        assert make_key(9).public not in text


def test_a_rejection_reads_as_reason_and_detail() -> None:
    assert str(Drop(DropReason.DUPLICATE, "words")) == "duplicate: words"
    assert str(Drop(DropReason.BAD_SIGNATURE)) == "bad-signature"


# Whatever arrives.

WIDE = make_gate(filters=Filters(any_destination=True), allow_skew_ns=FOREVER)


def test_every_flipped_bit_and_every_dropped_byte_of_a_message_is_refused() -> None:
    raw = make_encoded(payload=b"pay,load", wants_reply=True)
    flipped = (raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :] for at in range(len(raw)) for bit in range(8))
    one_less = (raw[:at] + raw[at + 1 :] for at in range(len(raw)))
    cut_off = (raw[:at] for at in range(len(raw)))
    for altered in itertools.chain(flipped, one_less, cut_off):
        dropped(WIDE.admit(altered, NOW))
    assert isinstance(make_gate().admit(raw, NOW), Message)


@bounded
@given(st.data(), st.binary(max_size=30), st.binary(min_size=1, max_size=12))
def test_every_inserted_or_replaced_byte_is_refused(data: st.DataObject, payload: bytes, uuid: bytes) -> None:
    raw = make_encoded(payload=payload, uuid=uuid)
    at = data.draw(st.integers(0, len(raw)))
    byte = data.draw(st.binary(min_size=1, max_size=1) | st.sampled_from([b",", b"1", b" ", b"\n", b"0"]))
    dropped(WIDE.admit(raw[:at] + byte + raw[at:], NOW))
    if raw[at : at + 1] != byte and at < len(raw):
        dropped(WIDE.admit(raw[:at] + byte + raw[at + 1 :], NOW))


@bounded
@given(st.binary(max_size=60) | st.lists(st.binary(max_size=5), min_size=8, max_size=8).map(b",".join), st.integers())
def test_random_bytes_get_a_rejection_at_any_time(raw: bytes, now: int) -> None:
    dropped(WIDE.admit(raw, now))


@bounded
@given(st.lists(st.binary(max_size=5), min_size=6, max_size=6).map(b",".join) | st.binary(), st.integers())
def test_whatever_a_known_peer_signs_gets_a_verdict(body: bytes, now: int) -> None:
    verdict = make_gate(filters=Filters(any_destination=True), allow_skew_ns=FOREVER).admit(sign_body(body), now)
    assert isinstance(verdict, Message | Drop)


@bounded
@given(st.integers(0, 250), st.integers(0, 250), st.binary(max_size=30))
def test_parts_of_two_messages_make_no_third(head: int, tail: int, payload: bytes) -> None:
    first, second = make_encoded(payload=b"one"), make_encoded(payload=payload, verb="other")
    spliced = first[:head] + second[tail:]
    assume(spliced not in (first, second))
    dropped(WIDE.admit(spliced, NOW))
