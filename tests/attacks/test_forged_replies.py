"""Replies that are not the answer of an asked peer to this very request.

Attacker: the broker and every outsider, who see all replies and know the reply subject; a permitted peer that was not
asked, or that answers another request. What must happen: none is printed or counted as an answer, none takes the place
of the true one, and requests and replies cannot be dressed as each other. Rule by rule:
tests/protocol/test_exchange.py.
"""

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from remaphore.node import Node
from remaphore.protocol import subject
from remaphore.protocol.drop import DropReason
from remaphore.protocol.gate import Filters
from remaphore.transport.memory import MemoryBroker
from tests.harness.factories import (
    body_of,
    make_encoded,
    make_encoded_reply,
    make_gate,
    make_key,
    make_request,
    sign_again,
    sign_body,
)
from tests.harness.nodes import clock, make_config

OTHER = make_request(payload=b"another request")


def forge(kind, request):
    """Return a reply that is wrong in one way; node 2 was asked, node 3 was not."""
    reply = partial(make_encoded_reply, payload=b"0,forged")
    genuine = make_encoded_reply(2, request)
    true_body = body_of(genuine)
    return {
        "captured from another request": lambda: reply(2, OTHER),
        "right key, uuid of another request": lambda: reply(2, request, uuid=OTHER.digest[:12]),
        "right key, random uuid": lambda: reply(2, request, uuid=b"\x01" * 12),
        "a peer that was not asked": lambda: reply(3, request),
        "an unknown key": lambda: reply(9, request),
        "the name of the asked peer, another's signature": lambda: (
            make_key(2).public.encode() + b"," + sign_body(true_body, 3).split(b",", 1)[1]
        ),
        "the requester's own key": lambda: reply(1, request),
        "a request dressed as a reply": lambda: reply(2, request, verb="ping"),
        "a request of the right peer": lambda: make_encoded(2, uuid=request.digest[:12]),
        "the request itself": lambda: make_encoded(1, wants_reply=True, uuid=request.uuid),
        "a reply that asks for a reply": lambda: reply(2, request, wants_reply=True),
        "a reply with a destination": lambda: reply(2, request, destination="**"),
        "an old one": lambda: reply(2, request, time_ns=request.time_ns - 10**10),
        "one from the future": lambda: reply(2, request, time_ns=request.time_ns + 10**10),
        "another output": lambda: genuine.replace(b"ok", b"no"),
        "another exit code": lambda: genuine[:-4] + b"1,ok",
        "nothing": lambda: b"",
    }[kind]()


KINDS = (
    *("captured from another request", "right key, uuid of another request", "right key, random uuid"),
    *("a peer that was not asked", "an unknown key", "the name of the asked peer, another's signature"),
    *("the requester's own key", "a request dressed as a reply", "a request of the right peer", "the request itself"),
    *("a reply that asks for a reply", "a reply with a destination", "an old one", "one from the future"),
    *("another output", "another exit code", "nothing"),
)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_forged_reply_is_dropped_and_does_not_block_the_authentic_one(kind):
    broker, dropped = MemoryBroker(), []
    node = Node(broker.connect(), make_config(1), clock=clock)
    async with node.request("ping", to="com.two", timeout=10, on_drop=dropped.append) as asked:
        where = subject.for_replies("remaphore", asked.message.digest)
        await broker.connect().publish(where, forge(kind, asked.message))
        await broker.connect().publish(where, make_encoded_reply(2, asked.message))
        got = [(reply.peer, reply.exit_code, reply.output) async for reply in asked]
    assert got == [("com.two", 0, b"ok")]
    assert [drop.reason for drop in dropped] == [dropped[0].reason]
    assert dropped[0].reason is not DropReason.ANSWERED_ALREADY


async def test_only_the_first_reply_of_a_destination_counts_however_often_it_is_sent_or_signed():
    broker, dropped = MemoryBroker(), []
    node = Node(broker.connect(), make_config(1), clock=clock)
    async with node.request("ping", to="com.**", timeout=10, on_drop=dropped.append) as asked:
        where = subject.for_replies("remaphore", asked.message.digest)
        first = make_encoded_reply(2, asked.message)
        second = make_encoded_reply(2, asked.message, payload=b"1,changed my mind")
        for raw in (first, first, sign_again(first, 2), second, make_encoded_reply(3, asked.message)):
            await broker.connect().publish(where, raw)
        got = [(reply.peer, reply.output) async for reply in asked]
    assert got == [("com.two", b"ok"), ("com.three", b"ok")]
    assert [str(drop.reason) for drop in dropped] == ["answered-already"] * 3


def test_a_captured_reply_runs_nothing_where_the_destination_is_not_looked_at_either():
    gate = make_gate(filters=Filters(any_destination=True))
    assert gate.admit(make_encoded_reply(1, OTHER), OTHER.time_ns).reason is DropReason.NOT_A_REQUEST


async def test_a_reply_that_is_sent_to_the_subject_of_messages_runs_nothing(target):
    async with target() as daemon:
        captured = make_encoded_reply(1, make_request(2))
        await daemon.hit(captured, make_encoded(1, destination="", verb="ping", wants_reply=True))
        assert (daemon.ran, daemon.replies()) == ([], [])


async def test_forged_replies_without_number_fill_no_queue():
    broker = MemoryBroker()
    node = Node(broker.connect(), make_config(1), clock=clock)
    async with node.request("ping", to="com.**", timeout=10) as asked:
        where = subject.for_replies("remaphore", asked.message.digest)
        for number in range(2_000):
            raw = make_encoded_reply(2, asked.message, payload=b"0,%d" % number)
            await broker.connect().publish(where, raw)
        assert asked._arrived.qsize() == 1
        assert len(asked._exchange.replies) == 1
        await broker.connect().publish(where, make_encoded_reply(3, asked.message))
        assert [reply.output async for reply in asked] == [b"0", b"ok"]
    assert asked.summary().dropped == 1_999


async def test_an_unbound_reply_of_a_peer_that_may_send_them_is_marked():
    config = make_config(1)
    old = tuple(replace(peer, legacy=peer.destination == "com.two") for peer in config.peers)
    broker = MemoryBroker()
    async with asyncio.timeout(10):
        node = Node(broker.connect(), replace(config, peers=old), clock=clock)
        async with node.request("ping", to="com.two", timeout=None) as asked:
            where = subject.for_replies("remaphore", asked.message.digest)
            await broker.connect().publish(where, make_encoded_reply(2, asked.message, uuid=b"random"))
            assert [(reply.output, reply.bound) async for reply in asked] == [(b"ok", False)]
