"""Making a receiver send more than was sent to it.

Attacker: every outsider, with captured or invented messages; a permitted peer gone bad. What must happen: no unknown
sender is answered; rejections keep to 5 a second for each key and 20 in all; a recorded reply is sent again three times
at most, and no reply is ever answered.
"""

import asyncio
from dataclasses import replace

import pytest

from remaphore.config.settings import VerbSettings
from remaphore.protocol.duration import SECOND
from remaphore.protocol.peers import Peer
from remaphore.receiving import responses as module
from remaphore.receiving.ledger import ledger
from tests.harness.factories import NOW, SKEW, make_encoded, make_encoded_reply, make_key, make_request, sign_again
from tests.harness.nodes import make_config

HITS = 300


def knowing(count, *verbs):
    peers = (
        Peer(destination=f"com.p{n}", key=make_key(n).public, verbs=frozenset(verbs)) for n in range(10, 10 + count)
    )
    return make_config(2, peers=tuple(peers))


def forbidden(number, serial, **fields):
    return make_encoded(number, verb="forbidden", time_ns=NOW + serial, wants_reply=True, **fields)


async def test_one_key_gets_five_rejections_a_second(target):
    async with target(knowing(1, "ping")) as daemon:
        await daemon.hit(*(forbidden(10, serial) for serial in range(HITS)))
        assert len(daemon.replies()) == 5
        daemon.clock.step(1)
        await daemon.hit(*(forbidden(10, HITS + serial) for serial in range(HITS)))
        assert len(daemon.replies()) == 10
        assert daemon.ran == []


async def test_all_keys_together_get_twenty_rejections_a_second(target):
    async with target(knowing(30, "ping")) as daemon:
        await daemon.hit(*(forbidden(10 + serial % 30, serial) for serial in range(HITS)))
        assert len(daemon.replies()) == 20
        daemon.clock.step(1)
        await daemon.hit(*(forbidden(10 + serial % 30, HITS + serial) for serial in range(HITS)))
        assert len(daemon.replies()) == 40


async def test_tokens_that_an_outsider_uses_up_in_another_name_are_that_names_alone(target):
    async with target(knowing(2, "ping")) as daemon:
        for serial in range(HITS):
            await daemon.hit(make_key(10).public.encode() + b"," + forbidden(9, serial).split(b",", 1)[1])
        assert daemon.replies() == []
        await daemon.hit(forbidden(11, 0))
        assert len(daemon.replies()) == 1


UNANSWERED = {
    "unknown key": lambda n: make_encoded(9, time_ns=NOW + n, wants_reply=True),
    "bad signature": lambda n: make_encoded(10, time_ns=NOW + n, wants_reply=True)[:-1] + b"x",
    "another's node": lambda n: forbidden(10, n, destination="com.three"),
    "no flag": lambda n: make_encoded(10, verb="forbidden", time_ns=NOW + n),
    "a reply": lambda n: make_encoded_reply(10, make_request(2, time_ns=NOW + n)),
    "far outside the window": lambda n: make_encoded(10, time_ns=NOW - 700 * SECOND - n, wants_reply=True),
    "garbage": lambda n: b"%d" % n,
}


@pytest.mark.parametrize("kind", UNANSWERED)
async def test_what_did_not_earn_an_answer_gets_none(target, kind):
    async with target(knowing(1, "ping")) as daemon:
        await daemon.hit(*(UNANSWERED[kind](number) for number in range(50)))
        assert (daemon.replies(), daemon.ran) == ([], [])


async def test_a_request_that_is_sent_again_gets_its_recorded_reply_three_times_at_most(target, monkeypatch):
    monkeypatch.setattr(ledger, "RESEND_SECONDS", 0.0)
    async with target() as daemon:
        raw = make_encoded(wants_reply=True, payload=b"v42")
        for _ in range(HITS):
            await daemon.hit(raw)
        assert len(daemon.replies()) == 1 + 3
        assert daemon.ran == [("ping", b"v42")]


async def test_many_copies_at_once_get_one_recorded_reply(target):
    async with target() as daemon:
        raw = make_encoded(wants_reply=True)
        await daemon.hit(raw)
        await daemon.hit(*[raw] * HITS)
        assert len(daemon.replies()) == 2
        assert len(daemon.ran) == 1


async def test_a_request_that_was_signed_again_gets_no_recorded_reply(target):
    async with target() as daemon:
        raw = make_encoded(wants_reply=True)
        await daemon.hit(raw, sign_again(raw))
        assert len(daemon.replies()) == 1


async def test_a_refusal_that_is_sent_again_is_limited_too(target, monkeypatch):
    monkeypatch.setattr(ledger, "RESEND_SECONDS", 0.0)
    async with target(knowing(1, "ping")) as daemon:
        late = make_encoded(10, time_ns=NOW - SKEW - 1, wants_reply=True)
        for _ in range(HITS):
            await daemon.hit(late)
        assert len(daemon.replies()) == 1


async def test_of_many_requests_that_are_sent_again_at_once_few_are_worked_on(target):
    async with target() as daemon:
        raws = [make_encoded(wants_reply=True, time_ns=NOW + number) for number in range(150)]
        for first in range(0, 150, 50):  # half of what a verb's queue holds
            await daemon.hit(*raws[first : first + 50])
        bus = daemon.broker.connect()
        for raw in raws:
            await bus.publish("remaphore.all", raw)
        assert 0 < daemon.daemon._responses.pending <= module.MAX_PENDING
        await daemon.quiet()
        assert 150 < len(daemon.replies()) <= 150 + module.MAX_PENDING


async def test_of_many_requests_that_find_a_full_queue_few_are_answered_at_a_time(target):
    config = replace(make_config(2), verbs={"wait": VerbSettings(queue=1)})
    async with target(config) as daemon:
        bus = daemon.broker.connect()
        most = 0
        for number in range(3 * module.MAX_PENDING):
            await bus.publish("remaphore.all", make_encoded(verb="wait", wants_reply=True, time_ns=NOW + number))
            most = max(most, daemon.daemon._responses.pending)
        while daemon.daemon._admission.checking:
            await asyncio.sleep(0)
            most = max(most, daemon.daemon._responses.pending)
        assert most <= module.MAX_PENDING
        assert sum(daemon.status.rejected.values()) > 2 * module.MAX_PENDING
