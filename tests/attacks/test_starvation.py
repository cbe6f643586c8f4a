"""Keeping other peers out by sending much.

Attacker: a permitted peer gone bad, which fills queues; an outsider, who causes signature checks in the name of others.
What must happen: no verb waits for another; where there is no room, who has the most waiting makes room for who has
less; forgeries in the name of a peer do not keep its true messages out. Not promised: within one verb messages are
handled in the order of arrival, so a permitted sender of a verb can make it busy.
"""

from dataclasses import replace

import pytest

from remaphore.config.settings import VerbSettings
from remaphore.receiving import queues
from tests.harness.factories import NOW, make_encoded, make_key
from tests.harness.nodes import make_config


def flood(count, verb="wait", size=1):
    return [make_encoded(1, verb=verb, payload=b"x" * size, time_ns=NOW + number) for number in range(count)]


async def test_a_peer_that_fills_the_queue_of_a_verb_makes_room_for_another(target):
    async with target(replace(make_config(2), verbs={"wait": VerbSettings(queue=10)})) as daemon:
        await daemon.hit(*flood(50))
        await daemon.hit(*(make_encoded(3, verb="wait", payload=b"%d" % n, time_ns=NOW + n) for n in range(20)))
        assert daemon.status.rejected["evicted"] in (4, 5)  # one of the ten may have started before
        daemon.release.set()
        await daemon.daemon._execution._queues.join()
        assert [payload for _, payload in daemon.ran if payload != b"x"] == [b"0", b"1", b"2", b"3", b"4"]
        assert daemon.ran.count(("wait", b"x")) in (5, 6)


@pytest.mark.parametrize(("limit", "value"), [("MAX_WAITING", 20), ("MAX_WAITING_BYTES", 20_000)])
async def test_a_peer_that_fills_all_room_with_many_verbs_makes_room_for_another(target, monkeypatch, limit, value):
    monkeypatch.setattr(queues, limit, value)
    async with target() as daemon:
        for number in range(90):
            await daemon.hit(make_encoded(1, verb=f"wait{number % 3}", payload=b"x" * 1_000, time_ns=NOW + number))
        await daemon.hit(*(make_encoded(3, verb="wait0", payload=b"%d" % n, time_ns=NOW + n) for n in range(5)))
        assert daemon.status.rejected["evicted"] >= 1
        daemon.release.set()
        await daemon.daemon._execution._queues.join()
        assert [payload for _, payload in daemon.ran if len(payload) == 1] == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_peer_with_no_more_than_its_share_evicts_no_other(target):
    async with target(replace(make_config(2), verbs={"wait": VerbSettings(queue=4)})) as daemon:
        await daemon.hit(*flood(2), *(make_encoded(3, verb="wait", time_ns=NOW + n) for n in range(9)))
        await daemon.hit(*flood(20)[2:])
        assert daemon.status.rejected["evicted"] <= 2
        assert daemon.daemon._execution.queues["wait"].waiting == 4


async def test_a_verb_of_one_peer_that_hangs_delays_no_other_verb(target):
    async with target() as daemon:
        await daemon.hit(*flood(200))
        await daemon.hit(make_encoded(3, verb="deploy", payload=b"true"))
        assert ("deploy", b"true") in daemon.ran


async def test_forgeries_in_the_name_of_a_peer_do_not_keep_its_messages_out(target):
    async with target() as daemon:
        for number in range(1_000):
            forged = make_encoded(9, time_ns=NOW + number).split(b",", 1)[1]
            await daemon.broker.connect().publish("remaphore.all", make_key(3).public.encode() + b"," + forged)
        genuine = [make_encoded(3, payload=b"%d" % n, time_ns=NOW + n) for n in range(50)]
        await daemon.hit(*genuine)
        assert len(daemon.ran) == 50


async def test_a_peer_that_invents_verbs_does_not_keep_another_out(target):
    async with target() as daemon:
        await daemon.hit(*(make_encoded(1, verb=f"wait{number}", time_ns=NOW + number) for number in range(600)))
        assert daemon.status.rejected["busy"] == 600 - queues.MAX_WORKERS_PER_SENDER
        await daemon.hit(make_encoded(3, verb="deploy", payload=b"true"))
        assert ("deploy", b"true") in daemon.ran
