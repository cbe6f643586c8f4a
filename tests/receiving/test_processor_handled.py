"""`remaphore_handled`: once a message, after its reply was sent, and without delaying anything but the shutdown."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from remaphore import hookimpl
from remaphore.node import Node
from remaphore.protocol.gate import Filters
from remaphore.protocol.message import NO_DATA, Reply
from remaphore.receiving import daemon as daemon_module
from remaphore.receiving import processor
from remaphore.receiving import receiver as receiver_module
from remaphore.receiving.receiver import Receiver
from remaphore.tasks import spawn
from remaphore.transport.memory import MemoryBroker
from tests.harness.daemon import Mute, running_daemon
from tests.harness.nodes import clock, make_config
from tests.harness.plugins import plugin_manager
from tests.harness.waiting import until


class Echo:
    @hookimpl
    async def remaphore_message(self, message):
        if message.verb == "fail":
            raise RuntimeError("broken on purpose")
        if message.verb == "large":
            return Reply(0, b"x" * 100)
        return None if message.verb == "none" else Reply(0, message.payload)


class Silent:
    @hookimpl
    def remaphore_message(self, message):
        return None


class Slow:
    """Is notified of every message, and takes as long over it as the test wants."""

    def __init__(self):
        self.begun, self.ended, self.shutdowns = [], [], []
        self.release = asyncio.Event()
        self.at_shutdown = True

    @hookimpl
    async def remaphore_handled(self, message, outcomes, reply, sent):
        self.begun.append(message.payload)
        await self.release.wait()
        errors = [type(outcome.error) for outcome in outcomes if outcome.error]
        self.ended.append((message.payload, [outcome.plugin for outcome in outcomes], errors, reply, sent))

    @hookimpl
    def remaphore_shutdown(self, reason):
        self.shutdowns.append(reason)
        if self.at_shutdown:
            self.release.set()


class Stuck(Slow):
    """Never ends a message of the verb `stuck`, nor its shutdown."""

    def __init__(self):
        super().__init__()
        self.stuck = False

    @hookimpl
    async def remaphore_message(self, message):
        if message.verb == "stuck":
            self.stuck = True
            await asyncio.Event().wait()

    @hookimpl
    async def remaphore_shutdown(self, reason):
        super().remaphore_shutdown(reason)
        await asyncio.Event().wait()


@pytest.fixture
def running(tmp_path):
    @asynccontextmanager
    async def run(broker, slow):
        plugins = plugin_manager(silent=Silent, echo=Echo, slow=slow)
        async with running_daemon(broker.connect(), tmp_path, plugins=plugins) as own:
            yield own

    return run


def sender(broker):
    return Node(broker.connect(), make_config(1), clock=clock)


async def ask(node, payload, verb="echo"):
    async with node.request(verb, to="com.two", payload=payload, timeout=10) as exchange:
        return [(reply.exit_code, reply.output) async for reply in exchange]


async def test_replies_and_the_next_messages_of_the_queue_do_not_wait_for_it(running):
    broker, slow = MemoryBroker(), Slow()
    async with running(broker, slow) as own:
        node = sender(broker)
        for number in range(5):
            assert await ask(node, f"{number}") == [(0, b"%d" % number)]
        await node.send("echo", payload="no reply")
        await node.send("echo", payload="behind it")
        await until(lambda: len(slow.begun) == 7)
        assert slow.ended == []  # so none of the above has waited for one
        assert own.stats().handled == {"echo": 7}
        assert own.stats().replies == {"sent": 5}
        slow.release.set()
    assert len(slow.ended) == 7


async def test_it_is_called_once_with_the_outcomes_of_all_plugins_and_the_reply(running):
    broker, slow = MemoryBroker(), Slow()
    slow.release.set()
    async with running(broker, slow):
        node = sender(broker)
        assert await ask(node, "a") == [(0, b"a")]
        assert await ask(node, "b", "none") == [(127, b"no handler\n")]
        assert await ask(node, "c", "fail") == [(-1, b"")]
        for verb in ("echo", "none", "fail"):
            await node.send(verb, payload=verb)
        await until(lambda: len(slow.ended) == 6)
    plugins = ["silent", "echo"]
    assert slow.ended[:3] == [
        (b"a", plugins, [], Reply(0, b"a"), True),
        (b"b", plugins, [], Reply(127, b"no handler\n"), True),
        (b"c", plugins, [RuntimeError], Reply(-1), True),
    ]
    assert sorted(slow.ended[3:]) == [
        (b"echo", plugins, [], Reply(0, b"echo"), False),
        (b"fail", plugins, [RuntimeError], Reply(-1), False),
        (b"none", plugins, [], None, False),
    ]


async def test_a_reply_that_was_not_sent_is_reported_as_such(tmp_path):
    broker, slow = MemoryBroker(), Slow()
    slow.release.set()
    plugins = plugin_manager(echo=Echo, slow=slow)
    async with running_daemon(Mute(broker.connect(), RuntimeError("broken on purpose")), tmp_path, plugins=plugins):
        asked = spawn(ask(sender(broker), "x"), name="asked")
        await until(lambda: slow.ended)
        assert slow.ended == [(b"x", ["echo"], [], Reply(0, b"x"), False)]
    asked.cancel()


@pytest.mark.parametrize(
    ("name", "limit", "verb", "payload"),
    [
        ("MAX_NOTING", 2, "echo", ""),
        ("MAX_NOTING_BYTES", 250, "none", "x" * 100),
        ("MAX_NOTING_BYTES", 250, "large", ""),
        ("MAX_NOTING_BYTES", 500, "echo", "x" * 100),
    ],
    ids=["hooks", "payloads", "outputs", "both"],
)
async def test_beyond_a_limit_the_queue_waits_for_it(running, monkeypatch, name, limit, verb, payload):
    monkeypatch.setattr(processor, name, limit)
    broker, slow = MemoryBroker(), Slow()
    async with running(broker, slow) as own:
        node = sender(broker)
        for _ in range(10):
            await node.send(verb, payload=payload)
        # The third is beyond the limit, and one more message is handled while it waits.
        await until(lambda: len(slow.begun) == 4)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(slow.begun) == 4
        assert own.stats().queues[verb].waiting == 6
        slow.release.set()
        await until(lambda: len(slow.ended) == 10)


async def test_the_plugins_are_not_shut_down_while_it_is_under_way(running):
    broker, slow = MemoryBroker(), Slow()
    async with running(broker, slow) as own:
        await ask(sender(broker), "x")
        await until(lambda: slow.begun)
        own.stop()
        await until(lambda: not any(broker.subscribers["remaphore.all"]))
        for _ in range(100):
            await asyncio.sleep(0)
        assert slow.shutdowns == []
        slow.release.set()
    assert (len(slow.ended), slow.shutdowns) == (1, ["stopped"])


async def test_the_shutdown_waits_for_it_and_ends_it_at_its_limit(running, monkeypatch):
    monkeypatch.setattr(daemon_module, "DRAIN_SECONDS", 0.02)
    broker, slow = MemoryBroker(), Slow()
    async with running(broker, slow):
        await ask(sender(broker), "x")
        await until(lambda: slow.begun)
    assert slow.shutdowns == ["stopped"]
    assert len(slow.ended) == 1  # after the shutdown hook has released it
    monkeypatch.setattr(daemon_module, "STOP_SECONDS", 0.02)
    slow = Slow()
    slow.at_shutdown = False
    async with asyncio.timeout(10), running(broker, slow):
        await ask(sender(broker), "y")
        await until(lambda: slow.begun)
    assert slow.ended == []
    slow.release.set()


async def start_receiver(broker, slow):
    """Start a receiver; return it and its task once it is subscribed."""
    own = Receiver(
        broker.connect(), make_config(2), filters=Filters(), plugins=plugin_manager(echo=Echo, slow=slow), clock=clock
    )
    ready = asyncio.Event()
    task = spawn(own.run(deadline=None, ready=ready.set), name="receiver under test")
    await ready.wait()
    return own, task


async def test_a_receiver_replies_and_continues_before_it_ends_and_waits_for_it_before_the_shutdown():
    broker, slow = MemoryBroker(), Slow()
    own, task = await start_receiver(broker, slow)
    node = sender(broker)
    for number in range(3):
        assert await ask(node, f"{number}") == [(0, b"%d" % number)]
    assert await ask(node, "n", "none") == [(None, NO_DATA)]
    assert slow.ended == []
    own.stop("enough")
    await asyncio.sleep(0.05)
    assert slow.shutdowns == []
    await node.send("echo", payload="too late")
    slow.release.set()
    assert await task == 4
    assert slow.shutdowns == ["enough"]
    assert [(payload, sent) for payload, *_, sent in slow.ended] == [
        (b"0", True),
        (b"1", True),
        (b"2", True),
        (b"n", True),
    ]


@pytest.mark.parametrize("at_shutdown", [True, False])
async def test_a_receiver_shuts_down_at_a_limit_whatever_is_under_way(monkeypatch, at_shutdown):
    monkeypatch.setattr(receiver_module, "STOP_SECONDS", 0.3)
    broker, slow = MemoryBroker(), Stuck()
    slow.at_shutdown = at_shutdown
    own, task = await start_receiver(broker, slow)
    node = sender(broker)
    await ask(node, "x")
    await node.send("stuck")
    await until(lambda: slow.stuck)
    stopped = time.monotonic()
    own.stop("enough")
    async with asyncio.timeout(20):
        assert await task == 2
    assert slow.shutdowns == ["enough"]
    assert [payload for payload, *_ in slow.ended] == ([b"x"] if at_shutdown else [])
    assert 0.5 < time.monotonic() - stopped < 2 * 0.3 + 0.25
    slow.release.set()


async def test_a_receiver_of_one_message_waits_for_it():
    broker, slow = MemoryBroker(), Slow()
    own = Receiver(
        broker.connect(), make_config(2), filters=Filters(), plugins=plugin_manager(slow=slow), once=True, clock=clock
    )
    ready = asyncio.Event()
    task = spawn(own.run(deadline=None, ready=ready.set), name="receiver under test")
    await ready.wait()
    await sender(broker).send("ping", payload="x")
    await until(lambda: slow.begun)
    assert not task.done()
    slow.release.set()
    assert await task == 1
    assert slow.ended == [(b"x", [], [], None, False)]
