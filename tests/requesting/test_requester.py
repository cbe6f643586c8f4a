"""A request and its receipts: what its properties show meanwhile, and a broker that does not permit receipts."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest
import structlog

from remaphore.config.settings import Auth
from remaphore.errors import ConnectionLostError, RemaphoreError
from remaphore.node import Node
from remaphore.protocol import subject
from remaphore.protocol.message import Reply
from remaphore.protocol.receipt import Receipt
from remaphore.requesting import requester
from remaphore.requesting.requester import OVERHEAD_BYTES
from remaphore.requesting.rollout import BatchPlan, Rollout
from remaphore.tasks import spawn
from remaphore.transport.memory import MemoryBroker
from remaphore.transport.nats_client import NatsBus
from tests.harness.factories import make_encoded_receipt, make_encoded_reply
from tests.harness.nodes import clock, make_config
from tests.harness.waiting import until

NODE = (
    '{{ user: node, password: a, permissions: {{ publish: "remaphore.>", subscribe: {{ allow: "remaphore.>"{} }} }} }}'
)
PERMITTED, DENIED = (
    f"authorization {{ users: [ {NODE.format(deny)}, {{ user: peer, password: b }} ] }}\n"
    for deny in ("", ', deny: "remaphore.*.receipt"')
)


class Peers:
    """The peers of node 1 on a bus: what they send to a request, in the order of the calls."""

    def __init__(self, bus):
        self._bus = bus

    async def confirm(self, number, request):
        await self._bus.publish(subject.for_receipts(self._where(request)), make_encoded_receipt(number, request))

    async def reply(self, number, request):
        await self._bus.publish(self._where(request), make_encoded_reply(number, request))

    def _where(self, request):
        return subject.for_replies("remaphore", request.digest)


@pytest.fixture
def memory():
    return MemoryBroker()


@pytest.fixture
def node(memory):
    return Node(memory.connect(), make_config(1), clock=clock)


@pytest.fixture
def peers(memory):
    return Peers(memory.connect())


def state(asked):
    summary = asked.summary()
    assert (asked.running, asked.silent, asked.missing) == (summary.running, summary.silent, summary.missing)
    return summary.answered, summary.running, summary.silent


async def test_a_destination_is_silent_then_running_then_answered_and_replies_alone_are_iterated_over(node, peers):
    async with node.request("deploy", timeout=20) as asked:
        assert state(asked) == ((), (), ("com.three", "com.two"))
        await peers.confirm(2, asked.message)
        assert state(asked) == ((), ("com.two",), ("com.three",))
        await peers.reply(2, asked.message)
        assert state(asked) == (("com.two",), (), ("com.three",))
        await peers.confirm(3, asked.message)
        await peers.reply(3, asked.message)
        assert [reply.peer async for reply in asked] == ["com.two", "com.three"]
    assert state(asked) == (("com.three", "com.two"), (), ())


async def test_the_events_are_in_the_order_of_arrival_and_end_like_the_iteration(node, peers):
    async with node.request("deploy", timeout=20) as asked:
        await peers.confirm(3, asked.message)
        await peers.reply(2, asked.message)
        await peers.reply(3, asked.message)
        events = [(type(event), event.peer) async for event in asked.events()]
    assert events == [(Receipt, "com.three"), (Reply, "com.two"), (Reply, "com.three")]


async def test_without_receipts_nothing_is_subscribed_to_but_the_replies(memory, node, peers):
    async with node.request("deploy", timeout=20, receipts=False) as asked:
        where = subject.for_replies("remaphore", asked.message.digest)
        assert [name for name, those in memory.subscribers.items() if those] == [where]
        await peers.confirm(2, asked.message)
        assert state(asked) == ((), (), ("com.three", "com.two"))


async def test_at_the_end_nothing_is_subscribed_to(memory, node):
    async with node.request("deploy", timeout=0.01) as asked:
        assert len([name for name, those in memory.subscribers.items() if those]) == 2
        assert [reply async for reply in asked] == []
    assert not any(memory.subscribers.values())


async def test_in_batches_what_still_runs_of_an_earlier_batch_is_told_from_what_is_silent(node, peers):
    def ask(**options):
        return node.request("deploy", **options)

    rollout = Rollout(ask, ["com.two", "com.three"], timeout=0.5, plan=BatchPlan(size=1))
    receipts = []
    async for request, _reply, _ended, receipt, _more in rollout.events():
        if request.expected == ("com.two",) and not request.running:
            await peers.confirm(2, request.message)
        if receipt is not None:
            receipts.append((request.expected, receipt.peer))
            summary = rollout.summary()
            assert (summary.running, summary.silent, summary.not_asked) == (("com.two",), (), ("com.three",))
    summary = rollout.summary()
    assert receipts == [(("com.two",), "com.two")]
    assert (summary.missing, summary.running, summary.silent) == (
        ("com.two", "com.three"),
        ("com.two",),
        ("com.three",),
    )


async def test_a_bus_that_cannot_subscribe_to_receipts_costs_the_receipts_only(node, peers, monkeypatch):
    subscribe = node.bus.subscribe

    async def failing(where, deliver, *, optional=False):
        if where.endswith(".receipt"):
            raise ConnectionLostError("lost", hint="")
        await subscribe(where, deliver)

    monkeypatch.setattr(node.bus, "subscribe", failing)
    async with node.request("deploy", to="com.two", timeout=20) as asked:
        await peers.confirm(2, asked.message)
        await peers.reply(2, asked.message)
        assert [reply.exit_code async for reply in asked] == [0]


@asynccontextmanager
async def connected(server):
    """The node as user `node`, and a peer that may do everything."""
    buses = []
    try:
        for user, password in (("node", "a"), ("peer", "b")):
            url = server.url.replace("//", f"//{user}:{password}@")
            buses.append(await NatsBus.connect([url], auth=Auth(kind="none"), on_notice=lambda _line: None))
        yield Node(buses[0], replace(make_config(1), allow_skew_ns=2**62), clock=clock), Peers(buses[1])
    finally:
        for bus in buses:
            await bus.close()


async def test_a_broker_that_does_not_permit_receipts_still_brings_the_replies(server):
    server.reload(DENIED)
    await server.restart()
    async with connected(server) as (node, peers):
        with structlog.testing.capture_logs() as logs:
            async with node.request("deploy", to="com.two", timeout=20) as asked:
                await peers.confirm(2, asked.message)
                await peers.reply(2, asked.message)
                assert [type(event) async for event in asked.events()] == [Reply]
        assert [(line["event"], line["log_level"]) for line in logs] == [("receipts_unavailable", "debug")]


async def test_a_broker_that_withdraws_the_permission_meanwhile_still_brings_the_replies(server):
    server.reload(PERMITTED)
    await server.restart()
    async with connected(server) as (node, peers), node.request("deploy", to="com.two", timeout=60) as asked:
        await peers.confirm(2, asked.message)
        assert isinstance(await anext(asked.events()), Receipt)
        server.reload(DENIED)
        await until(lambda: node.bus.reconnects)
        await until(lambda: node.bus.connected)
        await peers.reply(2, asked.message)
        assert [type(event) async for event in asked.events()] == [Reply]


ROOM = OVERHEAD_BYTES + 100  # for one reply


@pytest.fixture
def small_room(monkeypatch):
    monkeypatch.setattr(requester, "MAX_WAITING_BYTES", ROOM)


async def test_a_slow_reader_gets_the_replies_for_which_there_was_room_and_then_an_error(server, small_room):
    async with connected(server) as (node, peers), node.request("deploy", timeout=20) as asked:
        await peers.reply(2, asked.message)
        await peers.reply(3, asked.message)
        await until(lambda: not asked.missing)
        assert (await anext(asked)).peer == "com.two"
        with pytest.raises(RemaphoreError, match="replies lost: 1, because replies of"):
            await anext(asked)
        with pytest.raises(RemaphoreError):  # nor does it look complete to whoever reads on
            await anext(asked)


async def test_the_room_is_that_of_all_requests_of_a_node_until_replies_are_read_or_their_request_ends(
    node, peers, small_room
):
    async with node.request("deploy", timeout=20) as slow:
        await peers.reply(2, slow.message)
        async with node.request("deploy", to="com.two", timeout=20) as other:
            await peers.reply(2, other.message)
            with pytest.raises(RemaphoreError):
                await anext(other)
        assert (await anext(slow)).peer == "com.two"
        async with node.request("deploy", to="com.two", timeout=20) as other:  # what is worked on still has its room
            await peers.reply(2, other.message)
            with pytest.raises(RemaphoreError):
                await anext(other)
    for _ in range(2):  # and neither has one when it ends
        async with node.request("deploy", to="com.two", timeout=20) as other:
            await peers.reply(2, other.message)
    assert [reply.peer async for reply in other] == ["com.two"]  # read late


async def test_a_reply_is_free_when_the_next_one_is_read(node, peers, small_room):
    async with node.request("deploy", timeout=20) as asked:
        await peers.reply(2, asked.message)
        assert (await anext(asked)).peer == "com.two"
        following = spawn(anext(asked), name="reader")
        await asyncio.sleep(0)
        await peers.reply(3, asked.message)
        assert (await following).peer == "com.three"


@pytest.mark.parametrize("to", ["", "**"])
async def test_requests_to_each_destination_share_the_room_also_when_they_have_ended(node, peers, small_room, to):
    rollout = Rollout(partial(node.request, "deploy"), ["com.two", "com.three"], timeout=20, to=to)

    async def read():
        async with aclosing(rollout.events()) as events:
            async for event in events:
                if len(rollout.requests) == (1 if to else 2) and event.reply is None and not event.ended:
                    for number, name in ((2, "com.two"), (3, "com.three")):
                        for request in rollout.requests:
                            if name in request.missing:
                                await peers.reply(number, request.message)
                                if number == 2 and not to:  # which ends its request
                                    await until(lambda request=request: not request.has_event)

    with pytest.raises(RemaphoreError, match="lost: 1"):
        await read()
    async with node.request("deploy", to="com.two", timeout=20) as asked:  # all of it is free again
        await peers.reply(2, asked.message)
        assert [reply.peer async for reply in asked] == ["com.two"]
