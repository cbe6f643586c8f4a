"""The receive loop: one message at a time through the plugins, and the reply to the requester."""

import asyncio
import itertools
import tracemalloc

import pytest

from remaphore.hooks.dispatch import Outcome
from remaphore.hooks.markers import hookimpl
from remaphore.node import Node
from remaphore.protocol.drop import DropReason
from remaphore.protocol.gate import Filters
from remaphore.protocol.message import Reply
from remaphore.receiving import inline, receiver
from remaphore.receiving.processor import choose_reply
from remaphore.receiving.receiver import MAX_REJECTIONS, Receiver
from remaphore.tasks import spawn
from remaphore.transport.memory import MemoryBroker
from tests.harness.factories import NOW, make_encoded, make_gate, make_peer
from tests.harness.nodes import clock, make_config
from tests.harness.plugins import plugin_manager


class Recorder:
    """A plugin that notes every event, and acts on messages with *act*."""

    def __init__(self, act=lambda message: None):
        self.events = []
        self._act = act

    @hookimpl
    def remaphore_admitted(self, message):
        self.events.append(("admitted", message.payload))

    @hookimpl
    async def remaphore_message(self, message):
        self.events.append(("message", message.payload))
        result = self._act(message)
        return await result if asyncio.iscoroutine(result) else result

    @hookimpl
    def remaphore_handled(self, message, outcomes):
        self.events.append(("handled", message.payload, *(outcome.plugin for outcome in outcomes)))

    @hookimpl
    def remaphore_rejected(self, message, reason, count):
        self.events.append(("rejected", message.time_ns, reason, count))

    @hookimpl
    def remaphore_dropped(self, drop):
        self.events.append(("dropped", drop.reason, drop.count))

    @hookimpl
    def remaphore_shutdown(self, reason):
        self.events.append(("shutdown", reason))

    def named(self, name):
        return [event[1:] for event in self.events if event[0] == name]


async def start(broker, *, filters=None, once=False, deadline=None, **plugins):
    """Start the receiver of node 2; return it and its task once it is subscribed."""
    config = make_config(2)
    own = Receiver(
        broker.connect(),
        config,
        filters=filters or Filters(),
        plugins=plugin_manager(**plugins),
        once=once,
        clock=clock,
    )
    ready = asyncio.Event()
    limit = None if deadline is None else asyncio.get_running_loop().time() + deadline
    task = spawn(own.run(deadline=limit, ready=ready.set), name="receiver under test")
    await ready.wait()
    return own, task


async def test_an_event_passes_admitted_message_handled_in_this_order():
    broker, plugin = MemoryBroker(), Recorder()
    _, task = await start(broker, once=True, a=plugin)
    await Node(broker.connect(), make_config(1), clock=clock).send("ping", payload="x")
    assert await task == 1
    assert plugin.events == [("admitted", b"x"), ("message", b"x"), ("handled", b"x", "a"), ("shutdown", "done")]


async def test_messages_are_handled_one_at_a_time_in_the_order_of_arrival():
    running = 0
    most = 0

    async def act(message):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    broker, plugin = MemoryBroker(), Recorder(act)
    own, task = await start(broker, a=plugin)
    sender = Node(broker.connect(), make_config(1), clock=clock)
    for number in range(20):
        await sender.send("ping", payload=str(number))
    while own.handled < 20:
        await asyncio.sleep(0)
    own.stop("enough")
    assert await task == 20
    assert [payload for (payload,) in plugin.named("message")] == [b"%d" % number for number in range(20)]
    assert most == 1


async def test_once_handles_one_even_if_more_have_arrived():
    broker, plugin = MemoryBroker(), Recorder()
    _, task = await start(broker, once=True, a=plugin)
    sender = Node(broker.connect(), make_config(1), clock=clock)
    await asyncio.gather(*(sender.send("ping", payload=str(number)) for number in range(3)))
    assert await task == 1
    assert len(plugin.named("message")) == 1


async def test_a_receiver_that_runs_nothing_answers_no_data():
    broker = MemoryBroker()
    own, task = await start(broker, a=Recorder())
    async with Node(broker.connect(), make_config(1), clock=clock).request("ping", to="com.two", timeout=10) as asked:
        assert [(reply.exit_code, reply.output) async for reply in asked] == [(None, b"NO_DATA")]
    own.stop("enough")
    await task


async def test_the_first_reply_in_the_order_of_the_plugins_is_sent():
    broker = MemoryBroker()
    own, task = await start(
        broker, silent=Recorder(), b=Recorder(lambda _: Reply(1, b"b")), a=Recorder(lambda _: Reply(2, b"a"))
    )
    async with Node(broker.connect(), make_config(1), clock=clock).request("ping", to="com.two", timeout=10) as asked:
        assert [(reply.exit_code, reply.output) async for reply in asked] == [(1, b"b")]
    own.stop("enough")
    await task


async def test_a_message_that_wants_no_reply_gets_none():
    broker = MemoryBroker()
    _, task = await start(broker, once=True, a=Recorder(lambda _: Reply(0, b"x")))
    await Node(broker.connect(), make_config(1), clock=clock).send("ping")
    await task
    assert [subject for subject, _ in broker.published] == ["remaphore.all"]


def test_the_reply_to_an_error_of_a_plugin_is_minus_one_unless_another_replied():
    failed, replied = Outcome("h", "p", 0.0, error=OSError()), Outcome("h", "q", 0.0, Reply(0, b""))
    assert choose_reply([failed]) == Reply(-1)
    assert choose_reply([failed, replied]) == Reply(0, b"")
    assert choose_reply([]) is None


async def test_a_raising_plugin_costs_its_own_part_only():
    def boom(_message):
        raise RuntimeError("boom")

    broker, plugin = MemoryBroker(), Recorder()
    own, task = await start(broker, boom=Recorder(boom), a=plugin)
    sender = Node(broker.connect(), make_config(1), clock=clock)
    await sender.send("ping", payload="1")
    await sender.send("ping", payload="2")
    while own.handled < 2 or len(plugin.named("message")) < 2:
        await asyncio.sleep(0)
    own.stop("enough")
    assert await task == 2


class HostileInt(int):
    """A number that raises wherever it is used."""

    def _fail(self, *_arguments):
        raise RuntimeError("broken on purpose")

    __repr__ = __str__ = __format__ = __abs__ = __index__ = __bool__ = __eq__ = __lt__ = __ge__ = _fail
    __hash__ = int.__hash__


class Nameless(type):
    """The class of classes whose names cannot be read."""

    @property
    def __name__(cls):
        raise SystemExit(3)


class HostileReply(Reply):
    payload = property(lambda self: 1 / 0)


class Liar(metaclass=Nameless):
    """No reply, although it says that it is one."""

    __class__ = property(lambda self: Reply)
    exit_code = property(lambda self: 1 / 0)


HOSTILE = {
    "int subclass": Reply(HostileInt(3), b"x"),
    "bool": Reply(True, b"x"),
    "too large": Reply(10**10, b"x"),
    "bytes subclass": Reply(0, type("Bytes", (bytes,), {"__len__": lambda self: 1 / 0})(b"x")),
    "memoryview": Reply(0, memoryview(b"x")),
    "nameless class": Reply(0, Liar()),
    "reply subclass": HostileReply(0, b"x"),
    "no reply": Liar(),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("wants_reply", [True, False])
async def test_a_hostile_reply_costs_its_message_only_and_not_the_receiver(kind, wants_reply):
    broker, plugin = MemoryBroker(), Recorder(lambda message: HOSTILE[kind] if message.payload else Reply(0, b"good"))
    own, task = await start(broker, a=plugin)
    node = Node(broker.connect(), make_config(1), clock=clock)
    if wants_reply:
        assert await replies(node, "hostile") == [(-1, b"")]
    else:
        await node.send("ping", payload="hostile")
    assert await replies(node, "") == [(0, b"good")]
    own.stop("enough")
    assert await task == 2


async def replies(node, payload):
    async with node.request("ping", to="com.two", payload=payload, timeout=10) as request:
        return [(reply.exit_code, reply.output) async for reply in request]


async def test_a_dropped_message_reaches_plugins_as_a_reason_only():
    broker, plugin = MemoryBroker(), Recorder()
    own, task = await start(broker, a=plugin)
    await Node(broker.connect(), make_config(1), clock=clock).send("ping", to="org.*", payload="secret")
    await broker.connect().publish("remaphore.all", b"garbage")
    own.stop("enough")
    assert await task == 0
    assert plugin.named("dropped") == [(DropReason.NOT_ADDRESSED, 1), (DropReason.MALFORMED, 1)]
    assert not plugin.named("message")


async def test_the_deadline_ends_a_receiver_that_got_nothing():
    plugin = Recorder()
    _, task = await start(MemoryBroker(), deadline=0.02, a=plugin)
    assert await task == 0
    assert plugin.events == [("shutdown", "timeout")]


async def test_at_the_deadline_what_runs_is_ended_and_its_reply_is_still_sent():
    stopping = asyncio.Event()

    class Slow(Recorder):
        @hookimpl
        async def remaphore_shutdown(self, reason):
            stopping.set()

    async def act(_message):
        await stopping.wait()
        return Reply(-1, b"cut short")

    broker = MemoryBroker()
    _, task = await start(broker, deadline=0.05, slow=Slow(act))
    async with Node(broker.connect(), make_config(1), clock=clock).request("ping", to="com.two", timeout=10) as asked:
        assert [(reply.exit_code, reply.output) async for reply in asked] == [(-1, b"cut short")]
    assert await task == 1


async def test_a_plugin_that_never_ends_is_abandoned_after_the_deadline(monkeypatch):
    monkeypatch.setattr(receiver, "STOP_SECONDS", 0.05)

    async def never(_message):
        await asyncio.Event().wait()

    broker = MemoryBroker()
    own, task = await start(broker, a=Recorder(never))
    await Node(broker.connect(), make_config(1), clock=clock).send("ping")
    while not own.handled:
        await asyncio.sleep(0)
    own.stop("enough")
    async with asyncio.timeout(10):
        assert await task == 1


async def start_busy():
    """Start a receiver that has the message `first` in hand until *release* is set."""
    release = asyncio.Event()
    broker, plugin = MemoryBroker(), Recorder(lambda _message: release.wait())
    own, task = await start(broker, a=plugin)
    sender = Node(broker.connect(), make_config(1), clock=clock)
    await sender.send("ping", payload="first")
    while not own.handled:
        await asyncio.sleep(0)
    return release, plugin, sender, own, task


async def test_many_that_wait_at_the_end_leave_the_event_loop_time_for_other_things():
    release, plugin, sender, own, task = await start_busy()
    for number in range(301):
        await sender.send("ping", payload=b"%d" % number)
    while own._admission._verifier.waiting:
        await asyncio.sleep(0)
    own.stop("enough")
    release.set()
    seen = []
    while not task.done():
        seen.append(len(plugin.named("rejected")))
        await asyncio.sleep(0)
    assert seen[-1] == 301
    assert max(after - before for before, after in itertools.pairwise(seen)) <= MAX_REJECTIONS


LARGEST = {"destination": "\U0001f600" * 256, "verb": "v" * 256}


@pytest.mark.parametrize("fields", [{}, {"payload": b"x" * 5_000}, LARGEST], ids=["tiny", "payload", "long names"])
async def test_what_waits_is_bounded_by_the_memory_that_it_needs_and_not_by_its_number(fields):
    gate = make_gate(make_peer(1), filters=Filters(any_destination=True))
    raws = [make_encoded(**({"time_ns": NOW + number} | fields)) for number in range(500)]
    dropped = []
    inbox = inline.Inbox(on_admit=lambda _message: None, on_full=dropped.append)
    tracemalloc.start()
    try:
        for raw in raws:
            inbox.put(gate.admit(raw, NOW))
        needed = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert dropped == []
    assert needed <= inbox._bytes <= inline.INBOX_BYTES


async def test_beyond_its_bytes_the_queue_rejects_what_comes_as_busy_and_accepts_again_when_there_is_room(monkeypatch):
    monkeypatch.setattr(inline, "INBOX_BYTES", 3 * (inline.OVERHEAD_BYTES + 100))
    release, plugin, sender, own, task = await start_busy()
    for _ in range(4):
        await sender.send("ping", payload="x" * 50)
    release.set()
    while own.handled < 4:
        await asyncio.sleep(0)
    await sender.send("ping", payload="y" * 200)
    while own.handled < 5:
        await asyncio.sleep(0)
    own.stop("enough")
    await task
    assert [event[1:] for event in plugin.named("rejected")] == [("busy", 1)]
    assert [len(payload) for (payload,) in plugin.named("message")] == [5, 50, 50, 50, 200]


async def test_an_unexpected_error_ends_the_receiver_with_it_after_the_plugins_were_told(monkeypatch):
    async def broken(*_arguments, **_options):
        raise RuntimeError("a defect")

    monkeypatch.setattr(receiver.MessageProcessor, "run", broken)
    broker, plugin = MemoryBroker(), Recorder()
    _, task = await start(broker, a=plugin)
    await Node(broker.connect(), make_config(1), clock=clock).send("ping", payload="x")
    with pytest.raises(RuntimeError, match="a defect"):
        await asyncio.wait_for(task, 30)
    assert plugin.named("shutdown") == [("done",)]
