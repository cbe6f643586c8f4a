"""The Python API between nodes: send, request, receive and reply."""

import asyncio
import importlib
import sys
from contextlib import aclosing

import pytest

from remaphore.errors import BrokerUnavailableError, NoReceiversError, UsageError
from remaphore.hooks.plugin_tasks import CallGuard
from remaphore.messaging.signer import Signer
from remaphore.node import DaemonNode, Node
from remaphore.protocol.drop import DropReason
from remaphore.protocol.message import Reply
from remaphore.protocol.peers import Peer
from remaphore.tasks import spawn
from remaphore.transport.memory import MemoryBroker
from tests.harness.factories import make_key
from tests.harness.nodes import NAMES, clock, make_config


@pytest.fixture
def broker():
    return MemoryBroker()


def node(broker, number, **changes):
    return Node(broker.connect(), make_config(number, **changes), clock=clock)


async def subscribed(broker, count):
    """Wait until *count* receivers listen to `remaphore.all`."""
    async with asyncio.timeout(10):
        while len(broker.subscribers["remaphore.all"]) < count:
            await asyncio.sleep(0)


async def first(receiving):
    async with aclosing(receiving) as messages:
        async for message in messages:
            return message
    return None


async def responder(broker, number, code, output):
    own = node(broker, number)
    async with aclosing(own.receive(verbs="status")) as messages:
        async for message in messages:
            await own.reply(message, code, output)


async def test_a_message_reaches_the_receiver_that_waits_for_it(broker):
    waiting = spawn(first(node(broker, 2).receive(id="upload_done")), name="waiter")
    await subscribed(broker, 1)
    sender = node(broker, 1)
    await sender.send("ping", id="something_else")
    sent = await sender.send("ping", id="upload_done", payload="ünï")
    message = await waiting
    assert message.uuid == b"upload_done"
    assert message.payload == "ünï".encode()
    assert message.sender_name == NAMES[1]
    assert message.own_destination == NAMES[2]
    assert message.digest == sent.digest
    assert not broker.subscribers["remaphore.all"]


async def test_a_request_collects_the_replies_of_all_expected_destinations_and_then_ends(broker):
    tasks = [
        spawn(responder(broker, 2, 0, "fine"), name="two"),
        spawn(responder(broker, 3, 4, b"broken\n"), name="three"),
    ]
    await subscribed(broker, 2)
    async with node(broker, 1).request("status", timeout=10) as exchange:
        replies = {reply.peer: reply async for reply in exchange}
    assert replies["com.two"] == Reply(
        0, b"fine", peer="com.two", sender=make_key(2).public, time_ns=replies["com.two"].time_ns, bound=True
    )
    assert (replies["com.three"].exit_code, replies["com.three"].output) == (4, b"broken\n")
    assert exchange.missing == ()
    summary = exchange.summary()
    assert (summary.expected, summary.failed) == (("com.three", "com.two"), ("com.three",))
    for task in tasks:
        task.cancel()


async def test_a_request_ends_at_its_timeout_and_names_the_missing_destinations(broker):
    task = spawn(responder(broker, 3, 0, ""), name="three")
    await subscribed(broker, 1)
    async with node(broker, 1).request("status", timeout=0.05) as exchange:
        assert [reply.peer async for reply in exchange] == ["com.three"]
    assert exchange.missing == ("com.two",)
    assert not any(subject for subject, who in broker.subscribers.items() if who and subject != "remaphore.all")
    task.cancel()


async def test_a_rejection_differs_from_a_failure(broker):
    task = spawn(responder(broker, 2, 77, "remaphore: refused: verb"), name="two")
    await subscribed(broker, 1)
    async with node(broker, 1).request("status", to="com.two", timeout=10) as exchange:
        assert [reply.rejected async for reply in exchange] == [True]
    assert exchange.rejected == ("com.two",)
    assert exchange.summary().failed == ()
    task.cancel()


async def test_a_request_without_receivers_is_an_error_before_anything_is_sent(broker):
    with pytest.raises(NoReceiversError, match=r"no known receivers: no peer in node1.toml matches 'org\.\*\*'"):
        async with node(broker, 1).request("status", to="org.**"):
            pass
    assert broker.published == []


async def test_a_message_that_is_sent_a_second_time_is_accepted_once(broker):
    seen, dropped = [], []

    async def collect():
        receiving = node(broker, 2).receive(on_drop=dropped.append)
        async with aclosing(receiving) as messages:
            async for message in messages:
                seen.append(message.payload)
                if message.payload == b"last":
                    return

    collecting = spawn(collect(), name="collector")
    await subscribed(broker, 1)
    sender = node(broker, 1)
    await sender.send("ping", payload="once")
    again = broker.published[-1]
    for _ in range(5):
        await broker.connect().publish(*again)
    await sender.send("ping", payload="last")
    await collecting
    assert seen == [b"once", b"last"]
    # A copy that arrives before the first one is verified is noticed when its own signature is.
    assert {drop.reason for drop in dropped} <= {DropReason.DUPLICATE, DropReason.REPLAYED}
    assert len(dropped) == 5


async def test_a_reply_captured_from_one_request_is_not_an_answer_to_another(broker):
    task = spawn(responder(broker, 2, 0, "old"), name="two")
    await subscribed(broker, 1)
    asking = node(broker, 1)
    async with asking.request("status", to="com.two", timeout=10) as exchange:
        assert [reply.output async for reply in exchange] == [b"old"]
    captured = broker.published[-1][1]
    task.cancel()
    dropped = []
    async with asking.request("status", to="com.two", timeout=0.05, on_drop=dropped.append) as exchange:
        subject = f"remaphore.{exchange.message.digest.hex()}"
        await broker.connect().publish(subject, captured)
        assert [reply async for reply in exchange] == []
    assert [drop.reason for drop in dropped] == [DropReason.NOT_BOUND]
    assert exchange.summary().dropped == 1


async def test_a_key_whose_destination_has_two_keys_is_one_responder(broker):
    peers = tuple(Peer(destination="com.two", key=make_key(number).public, verbs=frozenset("*")) for number in (2, 3))
    task = spawn(responder(broker, 2, 0, "x"), name="two")
    await subscribed(broker, 1)
    async with node(broker, 1, peers=peers).request("status", timeout=10) as exchange:
        assert [reply.peer async for reply in exchange] == ["com.two"]
    task.cancel()


@pytest.mark.parametrize(
    ("code", "options", "met"),
    [
        (0, {"require": 1}, True),
        (0, {"require": "50%", "fail_fast": True}, True),
        (3, {"require": "all", "fail_fast": True}, False),
        (3, {"require": 2, "fail_fast": True}, False),
    ],
)
async def test_a_request_ends_once_its_requirement_is_met_or_cannot_be_met(broker, code, options, met):
    task = spawn(responder(broker, 3, code, ""), name="three")
    await subscribed(broker, 1)
    async with node(broker, 1).request("status", timeout=None, **options) as request:
        assert [reply.peer async for reply in request] == ["com.three"]
        assert [event async for event in request.events()] == []  # it has ended for good
    assert (request.met, request.missing) == (met, ("com.two",))
    task.cancel()


async def test_without_a_requirement_all_must_succeed_for_met(broker):
    task = spawn(responder(broker, 3, 0, ""), name="three")
    await subscribed(broker, 1)
    async with node(broker, 1).request("status", timeout=0.05) as request:
        assert [reply.peer async for reply in request] == ["com.three"]
    assert not request.met
    async with node(broker, 1).request("status", to="com.three", timeout=10) as request:
        assert [reply.peer async for reply in request] == ["com.three"]
    assert request.met
    task.cancel()


@pytest.mark.parametrize("options", [{"require": 3}, {"require": "0%"}, {"require": 0}, {"fail_fast": True}])
async def test_a_requirement_that_cannot_be_met_is_an_error_before_anything_is_sent(broker, options):
    with pytest.raises(UsageError):
        async with node(broker, 1).request("status", **options):
            pass
    assert broker.published == []


async def test_a_wait_ends_when_enough_destinations_are_heard(broker):
    async with node(broker, 1).wait("all", sender_pattern="com.t*", verbs=["dumped"], id="x", timeout=10) as wait:
        assert (wait.expected, wait.required, wait.met) == (("com.three", "com.two"), 2, False)
        for sender, verb, uuid in ((2, "ping", "x"), (2, "dumped", "y"), (1, "dumped", "x"), (3, "dumped", "x")):
            await node(broker, sender).send(verb, id=uuid, payload=str(sender))
        assert (await anext(wait)).payload == b"3"
        assert (wait.missing, wait.heard) == (("com.two",), ("com.three",))
        await node(broker, 2).send("dumped", id="x")
        assert [message.sender_name async for message in wait] == ["com.two"]
        assert [message async for message in wait] == []
    assert wait.met
    assert not broker.subscribers["remaphore.all"]


async def test_the_events_of_a_wait_have_the_messages_that_do_not_count_too(broker):
    async with node(broker, 1).wait(2, timeout=10) as wait:
        for payload in ("first", "again"):
            await node(broker, 3).send("ping", payload=payload)
        await node(broker, 2).send("ping", payload="other")
        heard = [(event.message.payload, event.first) async for event in wait.events()]
    assert heard == [(b"first", True), (b"again", False), (b"other", True)]


async def test_a_wait_ends_at_its_timeout_and_knows_who_is_missing(broker):
    async with node(broker, 1).wait("all", timeout=0.05) as wait:
        await node(broker, 2).send("ping")
        assert [message.sender_name async for message in wait] == ["com.two"]
    assert (wait.met, wait.missing) == (False, ("com.three",))


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (3, {}, "3 destinations are required, of only 2"),
        (0, {}, "0 is not a number of destinations"),
        ("all", {"sender_pattern": "org.**"}, r"no known senders: no peer in node1.toml matches 'org.\*\*'"),
        (1, {"subject_name": "a.*"}, "cannot be part of a subject"),
    ],
)
async def test_a_wait_that_can_never_be_met_is_a_usage_error(broker, count, options, message):
    with pytest.raises(UsageError, match=message):
        async with node(broker, 1).wait(count, **options):
            pass
    assert not broker.subscribers["remaphore.all"]


async def test_a_wait_that_cannot_begin_before_its_timeout_is_an_error(broker, monkeypatch):
    own = node(broker, 1)

    async def never(*_arguments):
        await asyncio.Event().wait()

    monkeypatch.setattr(own.bus, "subscribe", never)
    with pytest.raises(BrokerUnavailableError, match=r"did not confirm the subscription to remaphore\.all in time"):
        async with own.wait(timeout=0.01):
            pass


async def test_replying_to_a_message_that_asks_for_no_reply_is_a_usage_error(broker):
    own = node(broker, 1)
    message = await own.send("ping")
    with pytest.raises(UsageError, match="does not request a reply"):
        await own.reply(message, 0)


@pytest.mark.parametrize("name", ["a.*", ">", "a b", "a..b", "a\n"])
async def test_an_invalid_subject_is_a_usage_error(broker, name):
    with pytest.raises(UsageError, match="cannot be part of a subject"):
        await node(broker, 1).send("ping", subject_name=name)
    assert broker.published == []


def test_the_node_of_a_daemon_imports_nothing_later(broker, monkeypatch):
    late = ("remaphore.requesting.requester", "remaphore.requesting.selection")
    for name in late:
        package, _, module = name.rpartition(".")
        monkeypatch.setattr(sys.modules[package], module, importlib.import_module(name))  # restored after the test
        monkeypatch.delitem(sys.modules, name)
    node(broker, 1)
    assert [name for name in late if name in sys.modules] == []
    DaemonNode(broker.connect(), Signer(make_config(1)), clock, CallGuard())
    assert [name for name in late if name in sys.modules] == [*late]
