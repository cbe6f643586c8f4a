"""Configurations, patterns and replies, changed at random.

Attacker: anyone who edits a file by mistake, a permitted peer that chooses a pattern, a responder that chooses what it
sends. What must happen: a configuration is read or rejected with one line; a pattern gets an answer; a reply gets a
verdict, and none is accepted but the unmodified one. More on configurations: tests/config/test_robustness.py.
"""

import random

import pytest

from remaphore.protocol.drop import Drop
from remaphore.protocol.exchange import Exchange
from remaphore.protocol.match import matches
from remaphore.protocol.message import Reply
from tests.attacks.test_mutated_messages import mutate
from tests.config.test_robustness import CONF, READERS, TOML, refuses_cleanly
from tests.harness.factories import NOW, OWN, SKEW, make_encoded_reply, make_peer, make_request

LONG = [pytest.mark.long, pytest.mark.timeout(3600)]
CHARACTERS = "[]{}=:.,#\"'\\\n\r\t 0159azAZ-*_\0\x1b\x7f\x85\u2028\ud800é"


def change(chance, text):
    """Return *text* with one to four pieces cut, doubled, moved or replaced."""
    for _ in range(chance.randint(1, 4)):
        start = chance.randint(0, len(text))
        end = min(len(text), start + chance.choice((0, 1, 1, 5, 40)))
        place = chance.randint(0, len(text))
        piece = chance.choice((chance.choice(CHARACTERS), text[place : place + 50], text[start:end] * 2, ""))
        text = text[:start] + piece + text[end:]
    return text


@pytest.mark.parametrize("count", [3_000, pytest.param(200_000, marks=LONG)])
@pytest.mark.parametrize(("kind", "valid"), [("conf", CONF), ("toml", TOML)])
def test_a_mutated_configuration_is_read_or_refused_in_one_line(kind, valid, count):
    chance = random.Random(3)
    for _ in range(count):
        refuses_cleanly(READERS[kind], change(chance, valid))


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=LONG)])
def test_a_mutated_pattern_or_name_gets_an_answer(count):
    chance = random.Random(4)
    patterns = ("com.crypto.us.left", "com.crypto.**", "com.*.us.l*t", "longprefix*.x", "**")
    answers = {matches(change(chance, OWN), change(chance, chance.choice(patterns))) for _ in range(count)}
    answers |= {matches(OWN, change(chance, chance.choice(patterns))) for _ in range(count)}
    assert answers == {True, False}


@pytest.mark.parametrize("count", [10_000, pytest.param(500_000, marks=LONG)])
def test_of_mutated_replies_none_is_accepted_and_none_crashes(count):
    chance = random.Random(5)
    request = make_request()
    genuine = make_encoded_reply(2, request)
    exchange = Exchange(request, [make_peer(2), make_peer(3)], allow_skew_ns=SKEW)
    for _ in range(count):
        mutant = mutate(chance, genuine)
        if mutant != genuine:
            assert isinstance(exchange.admit(mutant, NOW), Drop), mutant
    assert isinstance(exchange.admit(genuine, NOW), Reply)


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=LONG)])
def test_any_payload_of_a_reply_is_read(count):
    chance = random.Random(6)
    for _ in range(count):
        payload = mutate(chance, b"-12,remaphore: refused: busy: \xff")
        reply = Reply.parse(payload)
        assert isinstance(reply.text, bytes)
        assert reply.rejected in (True, False)
        assert reply.exit_code is None or reply.payload.partition(b",")[2] == payload.partition(b",")[2]
