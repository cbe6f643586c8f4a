"""Making a receiver send more than was sent to it.

Attacker: every outsider, with captured or invented messages; a permitted peer gone bad. What must happen: no unknown
sender is answered; rejections keep to 5 a second for each key and 20 in all, and what is forged uses up none of these;
a recorded reply is sent again three times
at most, and no reply is ever answered.
"""

import asyncio
from dataclasses import replace

import pytest

from remaphore.config.settings import VerbSettings
from remaphore.errors import LedgerError
from remaphore.protocol.duration import SECOND
from remaphore.protocol.peers import Peer
from remaphore.receiving import responses as module
from remaphore.receiving.ledger import ledger
from tests.harness.factories import NOW, SKEW, make_encoded, make_encoded_reply, make_key, make_request, sign_again
from tests.harness.nodes import make_config
from tests.harness.waiting import until

HITS = 300


def failing(_message):
    durable = asyncio.get_running_loop().create_future()
    durable.set_exception(LedgerError("broken on purpose"))
    return durable


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


async def test_what_an_outsider_forges_silences_no_rejection(target):
    async with target(knowing(2, "ping")) as daemon:
        bus = daemon.broker.connect()
        for serial in range(HITS):
            for number in (10, 11):
                forged = make_key(number).public.encode() + b"," + forbidden(9, serial).split(b",", 1)[1]
                await bus.publish("remaphore.all", forged)
        await daemon.quiet()
        assert daemon.replies() == []
        await daemon.hit(*(forbidden(number, serial) for serial in range(HITS) for number in (10, 11)))
        assert len(daemon.replies()) == 10


async def test_requests_that_find_no_room_get_no_more_rejections_than_others(target):
    config = replace(make_config(2), verbs={"wait": VerbSettings(queue=10)})
    async with target(config) as daemon:
        flood = [make_encoded(1, verb="wait", time_ns=NOW + serial, wants_reply=True) for serial in range(HITS)]
        await daemon.hit(*flood)
        assert daemon.status.rejected["busy"] > HITS - 20
        assert len(daemon.replies()) == 5
        others = [make_encoded(3, verb="wait", time_ns=NOW + serial, wants_reply=True) for serial in range(HITS)]
        await daemon.hit(*others)
        assert daemon.status.rejected["evicted"] > 1
        assert len(daemon.replies()) == 10
        daemon.clock.step(1)
        await daemon.hit(
            *(make_encoded(1, verb="wait", time_ns=NOW + HITS + serial, wants_reply=True) for serial in range(HITS))
        )
        assert len(daemon.replies()) == 15


async def test_few_rejections_are_on_their_way_at_a_time(target, monkeypatch):
    async def held(*_words, **_options):
        await asyncio.Event().wait()

    async with target() as daemon:
        monkeypatch.setattr(daemon.daemon._ledger, "started", failing)
        daemon.daemon._bus.publish = held
        raws = [make_encoded(wants_reply=True, time_ns=NOW + serial, verb=f"v{serial}") for serial in range(HITS)]
        bus = daemon.broker.connect()
        for raw in raws:
            await bus.publish("remaphore.all", raw)
        await until(lambda: daemon.status.rejected["ledger"] == HITS)
        assert daemon.daemon._responses.pending == module.MAX_PENDING == 100


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
