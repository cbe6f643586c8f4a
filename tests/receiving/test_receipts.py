"""When the daemon and the one-shot receiver send a receipt, and when not: the time until it is due is short here."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from remaphore import Receipt, Reply, hookimpl
from remaphore.config.settings import VerbSettings
from remaphore.errors import ConnectionLostError
from remaphore.messaging.signer import Signer
from remaphore.node import Node
from remaphore.protocol import wire
from remaphore.protocol.gate import Filters
from remaphore.receiving import receipts
from remaphore.receiving.receiver import Receiver
from remaphore.tasks import spawn
from remaphore.transport.memory import MemoryBroker
from tests.harness.daemon import running_daemon
from tests.harness.nodes import clock, make_config
from tests.harness.plugins import plugin_manager
from tests.harness.waiting import until

SHORT = 0.02


class Holds:
    """Replies to `quick` at once, and to every other verb when it is released."""

    def __init__(self):
        self.release = asyncio.Event()
        self.running = []

    @hookimpl
    async def remaphore_message(self, message):
        if message.verb != "quick":
            self.running.append(message.payload)
            await self.release.wait()
        return Reply(0, b"")


class Site:
    """A daemon as node 2, whose plugin is *holds*, and the requester, node 1."""

    def __init__(self):
        self.broker, self.holds = MemoryBroker(), Holds()
        self.node = Node(self.broker.connect(), make_config(1), clock=clock)
        self.bus = self.broker.connect()

    @asynccontextmanager
    async def daemon(self, folder, **changes):
        config = replace(make_config(2), verbs={"hold": VerbSettings(concurrency=500, queue=500)}, **changes)
        manager = plugin_manager(holds=self.holds)
        async with running_daemon(self.bus, folder, config=config, plugins=manager) as daemon:
            try:
                yield daemon
            finally:
                self.holds.release.set()

    @asynccontextmanager
    async def asking(self, verb="hold", **options):
        async with self.node.request(verb, to="com.two", timeout=20, **options) as asked:
            yield asked

    def published(self):
        """Return the verbs of what was published on subjects other than that of messages, in order."""
        return [wire.decode(raw).verb for where, raw in self.broker.published if where != "remaphore.all"]


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(receipts, "RECEIPT_SECONDS", SHORT)
    return Site()


async def events_of(asked):
    return [type(event) async for event in asked.events()]


async def test_what_runs_longer_gets_one_receipt_before_its_reply(site, tmp_path):
    async with site.daemon(tmp_path) as daemon, site.asking() as asked:
        events = asked.events()
        receipt = await anext(events)
        assert (receipt.peer, asked.running, asked.silent, asked.missing) == ("com.two", ("com.two",), (), ("com.two",))
        await asyncio.sleep(4 * SHORT)  # a second one would be due
        site.holds.release.set()
        assert [reply.exit_code async for reply in events] == [0]
        assert (asked.running, asked.silent) == ((), ())
        assert daemon.stats().receipts == {"sent": 1}
    assert site.published() == ["receipt", "reply"]


async def test_a_reply_in_time_leaves_nothing_behind_that_could_become_due(site, tmp_path, monkeypatch):
    monkeypatch.setattr(receipts, "RECEIPT_SECONDS", 3600.0)
    async with site.daemon(tmp_path) as daemon:
        state, timers = daemon._responses.receipts, set()
        for _ in range(50):
            async with site.asking("quick") as asked:
                assert await events_of(asked) == [Reply]
            timers.add(state._timer)
        assert (state._running, daemon.stats().receipts) == ({}, {})
        assert len(timers) == 1  # one for all of them


async def test_neither_a_legacy_peer_nor_one_that_wants_no_reply_gets_a_receipt(site, tmp_path):
    known = make_config(2).peers
    peers = tuple(replace(peer, legacy=peer.destination == "com.one") for peer in known)
    other = Node(site.broker.connect(), make_config(3), clock=clock)
    async with site.daemon(tmp_path, peers=peers) as daemon, site.asking() as legacy:
        await other.send("hold", to="com.two")
        await until(lambda: len(site.holds.running) == 2)
        async with other.request("hold", to="com.two", timeout=20) as asked:
            assert isinstance(await anext(asked.events()), Receipt)
        assert (legacy.running, daemon.stats().receipts) == ((), {"sent": 1})


async def test_a_duplicate_gets_no_receipt_and_neither_does_what_waits_in_its_queue(site, tmp_path, monkeypatch):
    async with site.daemon(tmp_path) as daemon, site.asking("single", payload="first") as first:
        assert isinstance(await anext(first.events()), Receipt)
        await site.broker.connect().publish("remaphore.all", first.outgoing.raw)
        async with site.asking("single", payload="second") as second, site.asking() as third:
            assert isinstance(await anext(third.events()), Receipt)
            assert (second.running, second.silent) == ((), ("com.two",))
            assert daemon.stats().receipts == {"sent": 2}
            # From here on it runs, and on a busy machine long enough for a receipt of its own.
            monkeypatch.setattr(receipts, "RECEIPT_SECONDS", 3600.0)
            site.holds.release.set()
            assert await events_of(second) == [Reply]


async def test_hundreds_that_are_due_at_once_all_get_theirs_and_few_are_sent_at_a_time(site, tmp_path, monkeypatch):
    monkeypatch.setattr(receipts, "MAX_SENDING", 3)
    active, most, publish, writable = 0, 0, site.bus.publish, asyncio.Event()

    async def stalling(where, data, *, timeout=None):
        nonlocal active, most
        active, most = active + 1, max(most, active + 1)
        await writable.wait()
        active -= 1
        await publish(where, data)

    monkeypatch.setattr(site.bus, "publish", stalling)
    async with site.daemon(tmp_path) as daemon:
        outgoing = [site.node._signer.compose("hold", to="com.two", payload=b"", wants_reply=True) for _ in range(150)]
        for each in outgoing:
            await site.node.bus.publish("remaphore.all", each.raw)
        await until(lambda: len(site.holds.running) == 150 and active)
        await asyncio.sleep(4 * SHORT)  # all are due
        writable.set()
        await until(lambda: daemon.stats().receipts == {"sent": 150})
        assert most == 3


@pytest.mark.parametrize("failure", ["lost", "away", "signature", "limit"])
async def test_a_receipt_that_cannot_be_sent_is_dropped_and_the_reply_is_sent(site, tmp_path, monkeypatch, failure):
    publish = site.bus.publish

    async def losing(where, data, *, timeout=None):
        if where.endswith(".receipt"):
            raise ConnectionLostError("lost", hint="")
        await publish(where, data)

    def unsigned(self, request):
        raise MemoryError

    async with site.daemon(tmp_path) as daemon, site.asking() as asked:
        if failure == "lost":
            monkeypatch.setattr(site.bus, "publish", losing)
        elif failure == "away":
            monkeypatch.setattr(type(site.bus), "connected", property(lambda bus: bus is not site.bus))
        elif failure == "limit":
            monkeypatch.setattr(site.broker, "max_payload", 100)
        else:
            monkeypatch.setattr(Signer, "receipt", unsigned)
        await until(lambda: daemon.stats().receipts == {"failed": 1})
        monkeypatch.undo()
        await asyncio.sleep(4 * SHORT)
        site.holds.release.set()
        assert await events_of(asked) == [Reply]
        assert daemon.stats().receipts == {"failed": 1}
    assert site.published() == ["reply"]


async def test_a_receipt_that_the_bus_has_not_written_yet_is_withdrawn_for_the_reply(site, tmp_path, monkeypatch):
    publish, waiting = site.bus.publish, asyncio.Event()

    async def stalling(where, data, *, timeout=None):
        if where.endswith(".receipt"):
            waiting.set()
            await asyncio.Event().wait()
        await publish(where, data)

    monkeypatch.setattr(site.bus, "publish", stalling)
    async with site.daemon(tmp_path) as daemon, site.asking() as asked:
        await waiting.wait()
        site.holds.release.set()
        assert await events_of(asked) == [Reply]
        await until(lambda: not daemon._responses.receipts._sending)
        assert daemon.stats().receipts == {}


async def test_once_the_daemon_ends_no_receipt_is_sent(site, tmp_path, monkeypatch):
    monkeypatch.setattr(receipts, "RECEIPT_SECONDS", 3600.0)
    async with site.daemon(tmp_path) as daemon, site.asking() as asked:
        await until(lambda: site.holds.running)
        state = daemon._responses.receipts
        daemon.stop()
        await until(lambda: not state._running)
        state.begin(asked.message, legacy=False)  # as of a message that has just started
        assert (state._running, state._timer) == ({}, None)
        site.holds.release.set()
        assert await events_of(asked) == [Reply]
    assert site.published() == ["reply"]


@pytest.mark.parametrize("verb", ["hold", "quick"])
async def test_the_one_shot_receiver_sends_one_too_if_its_script_runs_long(site, verb):
    manager = plugin_manager(holds=site.holds)
    receiver = Receiver(site.bus, make_config(2), filters=Filters(), plugins=manager, once=True, clock=clock)
    ready = asyncio.Event()
    task = spawn(receiver.run(deadline=None, ready=ready.set), name="receiver")
    await ready.wait()
    async with site.asking(verb) as asked:
        if verb == "hold":
            assert isinstance(await anext(asked.events()), Receipt)
            site.holds.release.set()
        assert await events_of(asked) == [Reply]
    assert await task == 1
    assert site.published() == (["receipt"] if verb == "hold" else []) + ["reply"]
