"""The shortcut of the gate decides what the list of checks decides, whatever arrives, and leaves out no check."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remaphore.protocol import gate as gate_module
from remaphore.protocol import shortcut, wire
from remaphore.protocol.drop import Drop, DropKind, DropReason
from remaphore.protocol.gate import PRECHECKS, Filters, Gate, Precheck
from remaphore.protocol.payloads import PayloadRule
from remaphore.protocol.peers import Peer
from tests.harness.factories import NOW, OWN, OWN_NUMBER, SKEW, bounded, make_encoded, make_gate, make_key, make_peer

# Peer 1 may send all, 2 `ping` and locks of any name, 3 nothing, 4 all, but `ping` with one payload only; 100 is this
# node, with and without an entry of its own; 9 is unknown.
PEERS = (
    *(make_peer(1), make_peer(2, None, "ping", "lock:*", "evict:db"), replace(make_peer(3), verbs=frozenset())),
    replace(make_peer(4), only={"ping": PayloadRule.of(payloads=["a"])}),
)
EDGES = st.sampled_from([0, 1, SKEW - 1, SKEW, SKEW + 1, 10 * SKEW]).flatmap(lambda at: st.sampled_from([at, -at]))
DESTINATIONS = st.sampled_from(["", OWN, "com.**", "**", "com.crypto.us.le*", "com.crypto.eu.left", "org.**", "com.*"])
FILTERS = st.builds(
    Filters,
    pattern=st.sampled_from([None, "com.**", OWN]),
    any_destination=st.booleans(),
    uuid=st.sampled_from([None, b"wanted"]),
    verbs=st.sampled_from([None, frozenset({"ping"}), frozenset()]),
    sender=st.sampled_from([None, make_key(1).public]),
)
# Other texts for a field, by its number, of which most are malformed.
SENDER, DESTINATION, TIME, ID, VERB, FLAG = 0, 2, 3, 4, 5, 6
ODD = [
    *((SENDER, text) for text in (b"", b"\xff", b"x" * 100, make_key(1).public.encode() + b" ")),
    *((DESTINATION, text) for text in (b"\xff", b"x" * 1025, b"x" * 129, b"." * 127, b"*.*")),
    *((TIME, b"%x" % time) for time in (0, 1, 2**60 - 1, 2**60, 2**63 - 1, 2**63, 2**64)),
    *((TIME, text) for text in (b"", b"-1", b"1" * 15 + b"G", b"1" * 15 + b"A", b"+" + b"1" * 15, b" " + b"1" * 15)),
    *((TIME, text) for text in (b"0" + b"1" * 15, b"1_1" + b"1" * 13, b"-" + b"1" * 15, b"f" * 16, b"\xb2" * 16)),
    *((ID, text) for text in (b"", b"1", b"0g", b"0A", b"00", b"11" * 12, b"11" * 13, b"1" * 23, b"\xff\xff", b"0 ")),
    *((VERB, text) for text in (b"\xff", b"x" * 256, b"x" * 257, "ä".encode(), b"lock:a", b"lock:", b"evict:a", b":")),
    *((FLAG, text) for text in (b"", b"q", b"_Q", b"\xff", b"__")),
]


def expected(gate: Gate, raw: bytes) -> tuple[wire.Frame, bytes] | Drop:
    """Return what the checks say, one by one, in the order of the list."""
    frame = gate.decode(raw)
    if isinstance(frame, Drop):
        return frame
    for check in PRECHECKS:
        failure = check.test(gate, frame, NOW)
        if failure is not None:
            return Drop(check.reason, failure, len(raw), "remaphore.all", exact=frame.destination == OWN)
    return frame, wire.digest(raw)


@bounded
@given(
    number=st.sampled_from([1, 1, 1, 2, 3, 4, 9, OWN_NUMBER]),
    destination=DESTINATIONS,
    verb=st.sampled_from(["ping", "deploy", "*", "", "lock:a", "evict:a", "evict:db", "lock:*", ":"]),
    skew=EDGES,
    uuid=st.sampled_from([b"wanted", b"other"]),
    wants_reply=st.booleans(),
    peers=st.sampled_from([PEERS, (*PEERS, make_peer(OWN_NUMBER)), PEERS[1:]]),
    filters=st.one_of(st.just(Filters()), st.just(Filters()), FILTERS),
    allow_skew_ns=st.sampled_from([SKEW, 0]),
    repeated=st.booleans(),
    odd=st.one_of(st.none(), st.sampled_from(ODD)),
)
def test_the_gate_decides_what_the_list_of_checks_decides_whatever_arrives(
    number: int,
    destination: str,
    verb: str,
    skew: int,
    uuid: bytes,
    wants_reply: bool,
    peers: tuple[Peer, ...],
    filters: Filters,
    allow_skew_ns: int,
    repeated: bool,
    odd: tuple[int, bytes] | None,
) -> None:
    fields = {"destination": destination, "verb": verb, "uuid": uuid, "wants_reply": wants_reply}
    raw = make_encoded(number, time_ns=NOW - skew, **fields)
    gate = make_gate(*peers, filters=filters, allow_skew_ns=allow_skew_ns)
    if odd is not None:
        gate.decode(raw)  # so that its pattern is known
        texts = raw.split(b",", 7)
        texts[odd[0]] = odd[1]
        raw = b",".join(texts)
    if repeated:
        gate.window.restore(make_key(number).public, bytes(32), digest=wire.digest(raw), time_ns=NOW)
    wanted = expected(gate, raw)
    frame = gate.decode(raw)
    if isinstance(frame, wire.Frame):
        passed = gate.precheck(frame, NOW)
        assert passed == (wanted if isinstance(wanted, Drop) else wanted[1])
    judged = gate.judge(raw, NOW)
    if judged is not None:
        assert (judged.drop(len(raw)) if isinstance(judged, DropKind) else judged) == wanted
    if filters == Filters() and odd is None and destination:
        assert (judged is not None) == is_common(wanted, wants_reply=wants_reply)


def is_common(verdict: object, *, wants_reply: bool) -> bool:
    """Return whether *verdict* is one of those for which the shortcut was made."""
    if not isinstance(verdict, Drop):
        return True
    by_verb = verdict.reason is DropReason.VERB_NOT_PERMITTED
    elsewhere = {DropReason.NOT_ADDRESSED, DropReason.OWN_MESSAGE, DropReason.UNKNOWN_SENDER}
    return verdict.reason in elsewhere or (by_verb and not wants_reply)


@pytest.mark.parametrize(("field", "text"), ODD)
def test_each_odd_field_is_judged_as_the_list_of_checks_judges_it(field: int, text: bytes) -> None:
    for number in (1, 2, 9):
        raw = make_encoded(number, verb="deploy")
        gate = make_gate(*PEERS, allow_skew_ns=2**64)
        gate.decode(raw)
        fields = raw.split(b",", 7)
        fields[field] = text
        raw = b",".join(fields)
        wanted = expected(gate, raw)
        judged = gate.judge(raw, NOW)
        if judged is not None:
            assert (judged.drop(len(raw)) if isinstance(judged, DropKind) else judged) == wanted


@pytest.mark.parametrize("size", [wire.MAX_MESSAGE_BYTES, wire.MAX_MESSAGE_BYTES + 1])
def test_only_what_is_too_large_is_malformed(size: int) -> None:
    raw = make_encoded()
    raw += b"x" * (size - len(raw))
    gate = make_gate()
    gate.decode(make_encoded())
    assert (gate.judge(raw, NOW) is None) == (size > wire.MAX_MESSAGE_BYTES) == isinstance(expected(gate, raw), Drop)


@pytest.mark.parametrize("changed", ["one more", "one less", "another order"])
def test_a_gate_whose_checks_are_others_judges_nothing_by_it(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    added = Precheck("added", DropReason.BUSY, lambda *_: "added")
    others = {"one more": (added, *PRECHECKS), "one less": PRECHECKS[1:], "another order": PRECHECKS[::-1]}
    monkeypatch.setattr(gate_module, "PRECHECKS", others[changed])
    gate = make_gate()
    gate.decode(make_encoded())
    assert gate.judge(make_encoded(), NOW) is None


def test_the_patterns_that_are_remembered_are_bounded() -> None:
    gate = make_gate()
    for number in range(3 * shortcut.MAX_PATTERNS):
        gate.decode(make_encoded(destination=f"org.node{number}"))
    gate.decode(make_encoded(destination="x" * (shortcut.MAX_PATTERN_BYTES + 1)))
    known = gate._shortcut._patterns
    assert 0 < len(known) <= shortcut.MAX_PATTERNS
    assert max(map(len, known)) <= shortcut.MAX_PATTERN_BYTES


def test_a_repeated_message_is_not_judged_before_the_list_has_its_say() -> None:
    gate, raw = make_gate(), make_encoded()
    gate.admit(raw, NOW)
    assert gate.judge(raw, NOW) is None
