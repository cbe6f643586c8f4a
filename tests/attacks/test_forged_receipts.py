"""Receipts that are not the confirmation of an asked peer that it has started this very request.

Attacker: the broker and every outsider, who see all receipts and know the subjects; a permitted peer that was not
asked. What must happen: no node that is down is shown as running, no reply is lost or replaced, and neither receipts
nor replies can be dressed as each other. Rule by rule: tests/protocol/test_receipt.py.
"""

import time
from functools import partial

import pytest

from remaphore.node import Node
from remaphore.protocol import subject
from remaphore.protocol.message import Reply
from remaphore.protocol.receipt import MAX_INVALID_SIGNATURES, Receipt
from remaphore.transport.memory import MemoryBroker
from tests.harness.factories import (
    body_of,
    make_encoded,
    make_encoded_receipt,
    make_encoded_reply,
    make_key,
    make_request,
    sign_body,
)
from tests.harness.nodes import clock, make_config

OTHER = make_request(payload=b"another request")


def forge(kind, request):
    """Return a receipt that is wrong in one way; node 2 was asked, node 3 was not."""
    receipt = partial(make_encoded_receipt, 2, request)
    true_body = body_of(receipt())
    return {
        "replayed from another request": lambda: make_encoded_receipt(2, OTHER),
        "right key, uuid of another request": lambda: receipt(uuid=OTHER.digest[:12]),
        "the id of the request": lambda: receipt(uuid=request.uuid),
        "of a peer that was not asked": lambda: make_encoded_receipt(3, request),
        "an unknown key": lambda: make_encoded_receipt(9, request),
        "the requester's own key": lambda: make_encoded_receipt(1, request),
        "the name of the asked peer, another's signature": lambda: (
            make_key(2).public.encode() + b"," + sign_body(true_body, 3).split(b",", 1)[1]
        ),
        "the reply, carried": lambda: make_encoded_reply(2, request),
        "the request itself": lambda: make_encoded(1, wants_reply=True, uuid=request.uuid),
        "a message of the verb receipt": lambda: make_encoded(2, verb="receipt", uuid=request.digest[:12]),
        "with a flag": lambda: receipt(wants_reply=True),
        "with a destination": lambda: receipt(destination="com.one"),
        "with a payload": lambda: receipt(payload=b"0,done"),
        "with a large payload": lambda: receipt(payload=b"\n" * 500_000),
        "an old one": lambda: receipt(time_ns=request.time_ns - 10**10),
        "one from the future": lambda: receipt(time_ns=request.time_ns + 10**10),
        "no text": lambda: b"\xff" * 100,
        "nothing": lambda: b"",
    }[kind]()


KINDS = (
    *("replayed from another request", "right key, uuid of another request", "the id of the request"),
    *("of a peer that was not asked", "an unknown key", "the requester's own key", "the reply, carried"),
    *("the name of the asked peer, another's signature", "the request itself", "a message of the verb receipt"),
    *("with a flag", "with a destination", "with a payload", "with a large payload"),
    *("an old one", "one from the future", "no text", "nothing"),
)


@pytest.fixture
def broker():
    return MemoryBroker()


@pytest.fixture
def ask(broker):
    return partial(Node(broker.connect(), make_config(1), clock=clock).request, "ping", to="com.two", timeout=20)


def places(asked):
    """Return the subjects of the replies and the receipts of a request."""
    where = subject.for_replies("remaphore", asked.message.digest)
    return where, subject.for_receipts(where)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_forged_receipt_changes_nothing_and_does_not_block_the_genuine_one(kind, broker, ask):
    outside, dropped = broker.connect(), []
    async with ask(on_drop=dropped.append) as asked:
        replies, receipts = places(asked)
        await outside.publish(receipts, forge(kind, asked.message))
        assert (asked.running, asked.silent, len(dropped)) == ((), ("com.two",), 1)
        await outside.publish(receipts, make_encoded_receipt(2, asked.message))
        assert asked.running == ("com.two",)
        await outside.publish(replies, make_encoded_reply(2, asked.message))
        assert [type(event) async for event in asked.events()] == [Receipt, Reply]
    assert asked.summary().dropped == len(dropped) == 1
    assert dropped[0].subject == receipts


async def test_a_receipt_that_is_carried_to_the_subject_of_the_replies_is_no_reply(broker, ask):
    dropped = []
    async with ask(on_drop=dropped.append) as asked:
        replies, _ = places(asked)
        await broker.connect().publish(replies, make_encoded_receipt(2, asked.message))
        assert ([drop.reason for drop in dropped], asked.running, asked.missing) == (["not-a-reply"], (), ("com.two",))
        await broker.connect().publish(replies, make_encoded_reply(2, asked.message))
        assert [reply.output async for reply in asked] == [b"ok"]


async def test_a_captured_receipt_that_is_sent_again_and_again_even_after_the_reply_changes_nothing(broker, ask):
    outside, dropped = broker.connect(), []
    async with ask(on_drop=dropped.append) as asked:
        replies, receipts = places(asked)
        captured = make_encoded_receipt(2, asked.message)
        for _ in range(1_000):
            await outside.publish(receipts, captured)
        assert asked._arrived.qsize() == 1
        await outside.publish(replies, make_encoded_reply(2, asked.message))
        await outside.publish(receipts, captured)
        assert [type(event) async for event in asked.events()] == [Receipt, Reply]
        assert (asked.running, asked.silent, dropped) == ((), (), [])
    async with ask() as again:  # of the next request it is none
        await outside.publish(places(again)[1], captured)
        assert again.running == ()


async def test_a_captured_receipt_runs_nothing_on_the_subject_of_messages(target):
    async with target() as daemon:
        await daemon.hit(make_encoded_receipt(1, make_request(2)))
        assert (daemon.ran, daemon.replies()) == ([], [])


async def test_a_flood_of_forged_signatures_costs_little_more_than_other_garbage_and_hides_no_reply(broker, ask):
    outside, number = broker.connect(), 20 * MAX_INVALID_SIGNATURES
    spent = []
    for kind in ("with a payload", "the name of the asked peer, another's signature"):
        async with ask() as asked:
            replies, receipts = places(asked)
            raw = forge(kind, asked.message)
            before = time.thread_time()
            for _ in range(number):
                await outside.publish(receipts, raw)
            spent.append(time.thread_time() - before)
            await outside.publish(replies, make_encoded_reply(2, asked.message))
            assert [type(event) async for event in asked.events()] == [Reply]
        assert asked.summary().dropped == number
    assert spent[1] < 5 * spent[0]  # verifying each of them takes ten times as long
