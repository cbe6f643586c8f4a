"""A message on which nothing acts ends where it is accepted, and as it would have ended in the receiver's queue."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from remaphore import hookimpl
from remaphore.hooks.manager import load, register
from remaphore.protocol.gate import Filters
from remaphore.protocol.message import Reply
from remaphore.receiving import processor
from remaphore.receiving.receiver import Receiver
from remaphore.tasks import spawn
from remaphore.transport.memory import MemoryBroker
from tests.harness.factories import NOW, make_encoded
from tests.harness.nodes import clock, make_config
from tests.harness.waiting import until


class Echo:
    """Acts on the verb `echo` alone, while *gate* is open; notes its calls."""

    def __init__(self):
        self.calls = []
        self.gate = asyncio.Event()

    @hookimpl
    def remaphore_admitted(self, message):
        self.calls.append(("admitted", message.id))

    @hookimpl
    async def remaphore_message(self, message):
        if message.verb != "echo":
            return None
        await self.gate.wait()
        self.calls.append(("acted", message.id))
        return Reply(0, message.payload)

    @hookimpl
    def remaphore_handled(self, message, reply, sent):
        self.calls.append(("handled", message.id, reply and reply.exit_code, sent))

    @hookimpl
    def remaphore_rejected(self, message, reason):
        self.calls.append(("rejected", message.id, reason))


class Knowing(Echo):
    """Says so."""

    @hookimpl
    def remaphore_acts(self, verb):
        return verb == "echo"


class Slow(Knowing):
    """Needs its time to be told of the end."""

    @hookimpl
    async def remaphore_handled(self, message):
        await self.gate.wait()
        self.calls.append(("handled", message.id))


class World:
    """A receiver as node 2 with *plugin* and the plugin `log`, and a peer."""

    def __init__(self, plugin, *, once=False):
        broker = MemoryBroker()
        self.plugin, self.bus, self.sent = plugin, broker.connect(), 0
        plugins = load(("log",))
        register(plugins, plugin, name="echo")
        config = make_config(2)
        self.receiver = Receiver(broker.connect(), config, filters=Filters(), plugins=plugins, once=once, clock=clock)

    async def start(self):
        ready = asyncio.Event()
        self.running = spawn(self.receiver.run(deadline=None, ready=ready.set), name="receiver under test")
        await ready.wait()

    async def send(self, verb="note", *, wants_reply=False):
        self.sent += 1
        fields = {"uuid": b"m%d" % self.sent, "time_ns": NOW + self.sent, "destination": "com.two", "verb": verb}
        await self.bus.publish("remaphore.all", make_encoded(1, wants_reply=wants_reply, **fields))

    def called(self, hook):
        return [name for call, name, *_ in self.plugin.calls if call == hook]

    async def ended(self, number):
        await until(lambda: len(self.called("handled")) == number)


async def live(make, batches):
    """Return what becomes of *batches* in a receiver with a plugin of *make*: the lines of each message, and hooks."""
    with structlog.testing.capture_logs() as logged:
        world = World(make())
        await world.start()
        for verbs, opened in batches:
            (world.plugin.gate.set if opened else world.plugin.gate.clear)()
            for verb, wants_reply in verbs:
                await world.send(verb, wants_reply=wants_reply)
            await world.receiver._admission.join()
        world.plugin.gate.set()
        await world.ended(world.sent)
        world.receiver.stop("enough")
        handled = await world.running
    events = [(line["event"], line.get("id"), line.get("exit_code")) for line in logged]
    ends, calls = (
        [each for each in found if each[0] != skipped]
        for found, skipped in ((events, "message_received"), (world.plugin.calls, "admitted"))
    )
    assert handled == world.sent
    return ends, calls, sorted(events, key=str), sorted(world.plugin.calls, key=str)


VERBS = st.lists(st.tuples(st.sampled_from(["note", "other", "echo"]), st.booleans()), max_size=8)


@settings(max_examples=max(10, settings.default.max_examples // 10))
@given(batches=st.lists(st.tuples(VERBS, st.booleans()), min_size=1, max_size=4))
def test_whatever_arrives_it_ends_as_in_the_queue_and_in_the_same_order(batches):
    ordinary, passing = (asyncio.run(live(make, batches)) for make in (Echo, Knowing))
    assert passing == ordinary


async def test_what_nothing_acts_on_passes_unless_it_wants_a_reply_or_something_is_before_it():
    world = World(Knowing())
    await world.start()
    await world.send()
    await world.receiver._admission.join()
    assert world.called("handled") == ["m1"]  # in the turn in which it was verified
    await world.send("echo")
    await until(lambda: world.receiver.handled == 2)  # it runs, and nothing waits
    for verb, wants_reply in (("note", False), ("note", True), ("other", False)):
        await world.send(verb, wants_reply=wants_reply)
    await world.receiver._admission.join()
    assert world.called("handled") == ["m1"]
    world.plugin.gate.set()
    await world.ended(5)
    assert world.called("handled") == ["m1", "m2", "m3", "m4", "m5"]
    world.receiver.stop("enough")
    assert await world.running == 5


async def test_once_ends_after_one_that_nothing_acts_on():
    world = World(Knowing(), once=True)
    await world.start()
    for _ in range(3):
        await world.send()
    assert await world.running == 1
    assert world.called("handled") == ["m1"]


async def test_a_slow_hook_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(processor, "MAX_NOTING", 3)
    world = World(Slow())
    await world.start()
    for _ in range(20):
        await world.send()
    await world.receiver._admission.join()
    await until(lambda: world.receiver.handled > 4)
    for _ in range(20):
        await asyncio.sleep(0)
    # The fourth exceeds the limit, and the fifth, from the queue, waits for one of them.
    assert len(world.receiver._processor._noting) == world.receiver.handled == 5
    world.plugin.gate.set()
    await world.ended(20)
    world.receiver.stop("enough")
    assert await world.running == 20


@pytest.mark.parametrize("hook", ["remaphore_admitted", "remaphore_acts", "remaphore_handled"])
async def test_an_error_in_any_hook_costs_no_message(hook):
    class Broken(Knowing):
        pass

    def broken(self, message=None, verb=None):
        raise RuntimeError("broken")

    setattr(Broken, hook, hookimpl(broken))
    world = World(Broken())
    world.plugin.gate.set()
    await world.start()
    for verb in ("note", "echo", "note"):
        await world.send(verb)
    await until(lambda: world.receiver.handled == 3)
    world.receiver.stop("enough")
    assert await world.running == 3
    others = {"admitted", "handled"} - {hook.removeprefix("remaphore_")}
    assert all(world.called(other) == ["m1", "m2", "m3"] for other in others)
