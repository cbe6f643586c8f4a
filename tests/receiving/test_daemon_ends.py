"""Every message that the log has as received has exactly one end in it, whatever happens to the message."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
import structlog

from remaphore import hookimpl
from remaphore.config.settings import VerbSettings
from remaphore.errors import LedgerError
from remaphore.hooks.manager import load
from remaphore.node import Node
from remaphore.protocol.gate import Filters
from remaphore.protocol.message import Reply
from remaphore.protocol.peers import Peer
from remaphore.receiving import daemon as module
from remaphore.receiving import receiver
from remaphore.receiving.ledger.ledger import Ledger
from remaphore.receiving.receiver import Receiver
from remaphore.tasks import spawn
from remaphore.transport.memory import MemoryBroker
from tests.harness.daemon import running_daemon
from tests.harness.factories import make_key
from tests.harness.ledgers import crashed
from tests.harness.nodes import clock, make_config
from tests.harness.waiting import until

ENDS = {"message_handled", "message_failed", "message_rejected", "message_interrupted"}
PEER, OTHER = (
    Peer(destination=name, key=make_key(number).public, verbs=frozenset({"*"}))
    for number, name in ((1, "com.one"), (3, "com.three"))
)
VERBS = {
    "wait": VerbSettings(queue=3),
    "late": VerbSettings(max_wait_seconds=0.0),
}


class Acts:
    """`reply` and `fail` end at once; `wait` and `late` when they are released; any other is not for it."""

    def __init__(self):
        self.release = asyncio.Event()
        self.running = 0

    @hookimpl
    async def remaphore_message(self, message):
        if message.verb == "reply":
            return Reply(3, b"")
        if message.verb == "fail":
            raise ValueError("why")
        if message.verb in VERBS:
            self.running += 1
            await self.release.wait()
            return Reply(0, b"")
        return None


def ends(logged):
    """Return how each id ended: {id: (event, reason or exit code)}; no id has two, and each that came has one."""
    received = [line["id"] for line in logged if line["event"] == "message_received"]
    lines = [line for line in logged if line["event"] in ENDS]
    found = [(line["id"], line["event"], line.get("reason", line.get("exit_code"))) for line in lines]
    counted = Counter(name for name, _, _ in found)
    assert set(counted.values()) <= {1}, found
    assert set(received) <= set(counted)
    return {name: (event, how) for name, event, how in found}


class World:
    """A broker, a sender of it, and a daemon or a receiver as node 2 with the plugin `log`."""

    def __init__(self, folder):
        self.folder = folder
        self.broker = MemoryBroker()
        self.node, self.other = (Node(self.broker.connect(), make_config(number), clock=clock) for number in (1, 3))
        self.acts = Acts()
        self.config = replace(make_config(2), peers=(PEER, OTHER), verbs=VERBS)

    def plugins(self):
        manager = load(("log",))
        manager.register(self.acts, name="acts")
        return manager

    def daemon(self):
        return running_daemon(self.broker.connect(), self.folder, config=self.config, plugins=self.plugins())

    async def send(self, *ids, verb="wait", sender=None):
        for name in ids:
            await (sender or self.node).send(verb, id=name)


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "DRAIN_SECONDS", 0.02)
    folder = tmp_path / "state"
    folder.mkdir()
    return World(folder)


async def test_what_is_handled_fails_or_has_no_handler(world):
    with structlog.testing.capture_logs() as logged:
        async with world.daemon() as own:
            await world.send("a", verb="reply")
            await world.send("b", verb="fail")
            await world.send("c", verb="nothing")
            async with world.node.request("nothing", to="com.two", id="d", timeout=10) as request:
                assert [reply.exit_code async for reply in request] == [127]
            await until(lambda: sum(own.stats().handled.values()) == 4)
    assert ends(logged) == {
        "a": ("message_handled", 3),
        "b": ("message_failed", None),
        "c": ("message_handled", None),
        "d": ("message_handled", 127),
    }


async def test_what_finds_no_room_makes_room_expires_or_is_not_permitted_any_more(world):
    with structlog.testing.capture_logs() as logged:
        async with world.daemon() as own:
            await world.send("late", verb="late")
            await world.send("runs")
            await until(lambda: world.acts.running == 1)
            await world.send("w1", "w2", "w3")
            await world.send("newcomer", "one more", sender=world.other)  # w3 makes room for the first of a peer
            await until(lambda: own.stats().rejected.get("busy"))
            own.reload(lambda: replace(world.config, peers=(OTHER,)))
            world.acts.release.set()
            await until(lambda: not own.stats().queues)
    assert ends(logged) == {
        "late": ("message_rejected", "expired"),
        "runs": ("message_handled", 0),
        "w1": ("message_rejected", "not-permitted"),
        "w2": ("message_rejected", "not-permitted"),
        "w3": ("message_rejected", "evicted"),
        "newcomer": ("message_handled", 0),
        "one more": ("message_rejected", "busy"),
    }
    assert "message_dropped" not in {line["event"] for line in logged}


async def test_what_the_gate_drops_and_its_sender_is_notified_of_is_logged_as_dropped_only(world):
    world.config = replace(world.config, peers=(replace(PEER, verbs=frozenset({"wait"})),))
    with structlog.testing.capture_logs() as logged:
        async with (
            world.daemon(),
            world.node.request("deploy", to="com.two", id="a", timeout=10) as request,
        ):
            assert [reply.exit_code async for reply in request] == [77]
    assert ends(logged) == {}
    assert [line["reason"] for line in logged if line["event"] == "message_dropped"] == ["verb-not-permitted"]


async def test_what_comes_while_the_daemon_stops(world):
    with structlog.testing.capture_logs() as logged:
        async with world.daemon() as own:
            own._execution.stop()
            await world.send("after")
            await until(lambda: own.stats().rejected.get("stopping"))
    assert ends(logged) == {"after": ("message_rejected", "stopping")}


async def test_what_waits_is_rejected_at_the_stop(world):
    with structlog.testing.capture_logs() as logged:
        async with world.daemon() as own:
            await world.send("runs", "waits", "waits too")
            await until(lambda: world.acts.running == 1 and own.stats().queues["wait"].waiting == 2)
            own.stop()
            await until(lambda: own.stats().rejected.get("stopping") == 2)
            world.acts.release.set()
    stopping = ("message_rejected", "stopping")
    assert ends(logged) == {"runs": ("message_handled", 0), "waits": stopping, "waits too": stopping}


@pytest.mark.parametrize(("error", "reason"), [(LedgerError("disk"), "ledger"), (ValueError("odd"), "error")])
async def test_what_cannot_be_recorded(world, monkeypatch, error, reason):
    def fail(_ledger, _message):
        raise error

    monkeypatch.setattr(Ledger, "started", fail)
    with structlog.testing.capture_logs() as logged:
        async with world.daemon() as own:
            await world.send("a", "b", verb="reply")
            await until(lambda: own.stats().rejected.get(reason) == 2)
    assert ends(logged) == dict.fromkeys(("a", "b"), ("message_rejected", reason))


async def test_what_was_running_or_waiting_when_the_daemon_was_killed_ends_in_the_log_of_the_next(world, tmp_path):
    with structlog.testing.capture_logs() as logged:
        async with world.daemon() as own:
            await world.send("runs", "waits", "waits too")
            await until(lambda: world.acts.running == 1 and own.stats().queues["wait"].waiting == 2)
            left = crashed(own._ledger, world.folder, tmp_path / "left")
            world.acts.release.set()
    received = [line for line in logged if line["event"] == "message_received"]
    world.folder, world.acts = left, Acts()
    with structlog.testing.capture_logs() as logged:
        async with world.daemon() as own:
            await until(lambda: not own._responses.pending)
    assert ends([*received, *logged]) == {
        "runs": ("message_interrupted", None),
        **dict.fromkeys(("waits", "waits too"), ("message_rejected", "abandoned")),
    }
    assert {end.uuid.decode(): (end.result, end.reason) for end in own.status().ended} == {
        "runs": ("interrupted", ""),
        **dict.fromkeys(("waits", "waits too"), ("rejected", "abandoned")),
    }
    names = {line["id"]: (line["verb"], line["peer"], line["digest"]) for line in received}
    assert names == {line["id"]: (line["verb"], line["peer"], line["digest"]) for line in logged if "id" in line}


async def start_receiver(world, *, once=False):
    own = Receiver(
        world.broker.connect(), world.config, filters=Filters(), plugins=world.plugins(), once=once, clock=clock
    )
    ready = asyncio.Event()
    task = spawn(own.run(deadline=None, ready=ready.set), name="receiver under test")
    await ready.wait()
    return own, task


@pytest.mark.parametrize("once", [True, False])
async def test_a_receiver_that_ends_while_messages_wait(world, once):
    with structlog.testing.capture_logs() as logged:
        own, task = await start_receiver(world, once=once)
        await world.send("first", "second", "third")
        await until(lambda: world.acts.running == 1)
        if not once:
            own.stop("enough")
            await asyncio.sleep(0)
        world.acts.release.set()
        await task
    stopping = ("message_rejected", "stopping")
    assert ends(logged) == {"first": ("message_handled", 0), "second": stopping, "third": stopping}


async def test_a_receiver_whose_script_does_not_end_in_time(world, monkeypatch):
    monkeypatch.setattr(receiver, "STOP_SECONDS", 0.02)
    with structlog.testing.capture_logs() as logged:
        own, task = await start_receiver(world)
        await world.send("hangs")
        await until(lambda: world.acts.running == 1)
        own.stop("enough")
        await task
    assert ends(logged) == {"hangs": ("message_interrupted", None)}
