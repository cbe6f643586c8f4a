"""Real messages, changed at random: pieces cut, doubled, moved, replaced; fields exchanged with those of others.

Attacker: the broker and every outsider, who see messages and can publish anything; and a permitted peer, who can sign
whatever it likes. What must happen: a verdict for each, no exception, and nothing is admitted but the unmodified one;
of what a peer has signed itself, nothing but what an encoder writes.
"""

import random

import pytest

from remaphore.protocol import wire
from remaphore.protocol.drop import Drop
from remaphore.protocol.message import Message
from tests.harness.factories import (
    NOW,
    body_of,
    make_encoded,
    make_encoded_reply,
    make_gate,
    make_key,
    make_message,
    make_peer,
    make_request,
    sign_body,
)

SAMPLE = [5_000, pytest.param(1_000_000, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
ORIGINALS = (
    make_encoded(payload=b"v42, with commas,\n and lines", wants_reply=True),
    make_encoded(destination="com.crypto.*.left", verb="deploy", uuid=b"\x00" * 12),
    make_encoded(2, verb="", payload=b""),
    make_encoded_reply(1, make_request()),
)
PIECES = (
    b",",
    b"",
    b"\0",
    b"*",
    b"**",
    b".",
    b"Q",
    b"_",
    b"reply",
    b"-",
    b"+",
    b"0",
    b" ",
    b"\n",
    b"\xff",
    "é".encode(),
)


def mutate(chance, raw):
    """Return *raw* with one to four changes of its bytes or fields."""
    for _ in range(chance.randint(1, 4)):
        raw = chance.choice((_bytes, _bytes, _fields, _fields))(chance, raw)
    return raw


def _bytes(chance, raw):
    start = chance.randint(0, len(raw))
    end = min(len(raw), start + chance.choice((0, 0, 1, 1, 2, 8, 80)))
    other = chance.choice(ORIGINALS)
    place = chance.randint(0, len(other))
    new = chance.choice(
        (chance.choice(PIECES), chance.randbytes(chance.randint(1, 9)), other[place : place + 40], raw[start:end] * 2)
    )
    return raw[:start] + new + raw[end:]


def _fields(chance, raw):
    fields, others = raw.split(b",", 7), chance.choice(ORIGINALS).split(b",", 7)
    place = chance.randrange(len(fields))
    new = chance.choice((*others, chance.choice(PIECES), fields[place].upper(), fields[place] + chance.choice(PIECES)))
    fields[place : place + chance.choice((1, 1, 1, 0, 2))] = [new] * chance.choice((1, 1, 1, 0, 2))
    return b",".join(fields)


@pytest.mark.parametrize("count", SAMPLE)
def test_of_mutated_messages_none_is_admitted_and_none_crashes(count):
    chance = random.Random(1)
    gate = make_gate(make_peer(1), make_peer(2))
    changed = 0
    for _ in range(count):
        original = chance.choice(ORIGINALS)
        mutant = mutate(chance, original)
        verdict = gate.admit(mutant, NOW)
        assert isinstance(verdict, Drop) or mutant in ORIGINALS, mutant
        changed += mutant not in ORIGINALS
    assert changed > count * 0.9


@pytest.mark.parametrize("count", SAMPLE)
def test_of_mutated_bodies_that_a_peer_signs_only_canonical_ones_are_admitted(count):
    chance = random.Random(2)
    gate = make_gate()
    admitted = 0
    for _ in range(count):
        raw = sign_body(mutate(chance, body_of(ORIGINALS[0])))
        verdict = gate.admit(raw, NOW)
        if isinstance(verdict, Message):
            admitted += 1
            fields = {
                name: getattr(verdict, name) for name in ("destination", "verb", "uuid", "time_ns", "wants_reply")
            }
            assert wire.encode(make_message(payload=verdict.payload, **fields), make_key()) == raw
        else:
            assert isinstance(verdict, Drop)
    assert 0 < admitted < count
