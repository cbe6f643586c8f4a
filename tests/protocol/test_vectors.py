"""What the Go implementation really encoded, matched, accepted and rejected."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import base58
import pytest

from remaphore.protocol import duration, keys, wire
from remaphore.protocol.drop import Drop
from remaphore.protocol.gate import Filters
from remaphore.protocol.keys import PrivateKey
from remaphore.protocol.match import matches
from remaphore.protocol.message import Message, uuid_from_text
from remaphore.protocol.peers import Peer
from remaphore.protocol.subject import for_replies
from tests.harness.factories import make_gate

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "original.json").read_text())
VERDICTS = VECTORS["verdicts"]


def read(vector: dict[str, Any]) -> Message:
    return Message(
        sender=vector["public_key"],
        destination=vector["destination"],
        verb=vector["verb"],
        uuid=bytes.fromhex(vector["uuid_hex"]),
        time_ns=int(vector["send_time_ns"]),
        wants_reply=vector["request_reply"],
        payload=base64.b64decode(vector["payload_b64"]),
        digest=bytes.fromhex(vector["hash_hex"]),
    )


def test_no_kind_of_vector_is_missing() -> None:
    counts = {name: len(VECTORS[name]) for name in ("base58", "durations", "messages", "uuids", "wildcards")}
    assert counts == {"base58": 30, "durations": 20, "messages": 60, "uuids": 10, "wildcards": 253}
    assert len(VERDICTS["cases"]) == 50


@pytest.mark.parametrize("vector", VECTORS["messages"])
def test_a_message_has_the_original_s_bytes_and_hash(vector: dict[str, Any]) -> None:
    raw = wire.encode(read(vector), PrivateKey.from_text(vector["private_key"]))
    assert raw == base64.b64decode(vector["encoded_b64"])
    assert wire.digest(raw).hex() == vector["hash_hex"]
    assert for_replies("remaphore", wire.digest(raw)) == vector["reply_subject_with_root_remaphore"]


@pytest.mark.parametrize("vector", VECTORS["messages"])
def test_the_original_s_message_is_read_and_verified(vector: dict[str, Any]) -> None:
    frame = wire.decode(base64.b64decode(vector["encoded_b64"]))
    assert wire.verify(frame)
    assert frame.message() == read(vector)


@pytest.mark.parametrize("vector", [vector for vector in VECTORS["messages"] if vector["uuid_text"]])
def test_the_text_of_a_message_s_uuid_is_read_as_the_original_does(vector: dict[str, Any]) -> None:
    assert uuid_from_text(vector["uuid_text"]).hex() == vector["uuid_hex"]


@pytest.mark.parametrize("case", VERDICTS["cases"], ids=lambda case: case["name"])
def test_the_gate_s_verdict_is_the_expected_one(case: dict[str, Any]) -> None:
    peer = Peer(destination="com.peer", key=VERDICTS["peer_public_key"], verbs=frozenset(VERDICTS["peer_verbs"]))
    gate = make_gate(peer, filters=Filters(any_destination=True), allow_skew_ns=duration.HOUR)
    verdict = gate.admit(base64.b64decode(case["encoded_b64"]), int(VERDICTS["now_ns"]))
    assert isinstance(verdict, {"accepted": Message, "rejected": Drop}[case["expected"]])


@pytest.mark.parametrize("vector", VECTORS["wildcards"], ids=lambda v: f"{v['destination']} {v['pattern']}")
def test_a_pattern_matches_as_expected(vector: dict[str, Any]) -> None:
    assert matches(vector["destination"], vector["pattern"]) is vector["match"]


@pytest.mark.parametrize("vector", VECTORS["durations"], ids=lambda vector: repr(vector["text"]))
def test_a_duration_is_read_or_refused_as_by_go(vector: dict[str, Any]) -> None:
    if vector["ok"]:
        assert duration.parse(vector["text"]) == int(vector["ns"])
    else:
        with pytest.raises(ValueError, match="duration"):
            duration.parse(vector["text"])


@pytest.mark.parametrize("vector", VECTORS["uuids"], ids=lambda vector: vector["text"])
def test_a_uuid_stands_for_the_original_s_bytes(vector: dict[str, Any]) -> None:
    assert uuid_from_text(vector["text"]).hex() == vector["hex"]


@pytest.mark.parametrize("vector", VECTORS["base58"], ids=lambda vector: vector["hex"][:16])
def test_base58_is_the_original_s(vector: dict[str, Any]) -> None:
    assert keys.encode_base58(bytes.fromhex(vector["hex"])).decode() == vector["base58"]
    assert base58.b58decode(vector["base58"]).hex() == vector["hex"]
