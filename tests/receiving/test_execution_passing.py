"""A message on which nothing acts ends at once, and as it would have ended in its queue."""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from hypothesis import example, given, settings
from hypothesis import strategies as st

from remaphore import hookimpl
from remaphore.errors import LedgerError
from remaphore.hooks.manager import load, register
from remaphore.protocol.message import Reply
from remaphore.protocol.peers import Peer
from remaphore.receiving import activity, processor
from remaphore.receiving.activity import Activity
from remaphore.receiving.counters import DaemonCounters
from remaphore.receiving.ledger.ledger import Ledger
from remaphore.receiving.ledger.store import Store
from remaphore.transport.memory import MemoryBroker
from tests.harness.daemon import running_daemon
from tests.harness.factories import NOW, make_encoded, make_key
from tests.harness.ledgers import states
from tests.harness.nodes import make_config
from tests.harness.programs import hooks_plugin, write_script
from tests.harness.waiting import until

ENDS = {"message_handled", "message_failed", "message_rejected", "message_interrupted"}


def peer(number, name, verbs="*"):
    return Peer(destination=name, key=make_key(number).public, verbs=frozenset(verbs))


ALL = (peer(1, "com.one"), peer(3, "com.three"))
WITHDRAWN = (peer(1, "com.one", {"echo"}), peer(3, "com.three"))


class Echo:
    """Acts on the verb `echo` alone; notes which hooks it is called with for each id, and the order of each verb."""

    def __init__(self):
        self.calls, self.order = defaultdict(list), defaultdict(list)

    @hookimpl
    def remaphore_startup(self, stats):
        self.stats = stats

    @hookimpl
    def remaphore_admitted(self, message):
        self.note("admitted", message)

    @hookimpl
    async def remaphore_message(self, message):
        if message.verb != "echo":
            return None
        await asyncio.sleep(0)
        return Reply(0, message.payload)

    @hookimpl
    def remaphore_handled(self, message, outcomes, reply, sent):
        assert [each for each in outcomes if each.error] == []
        self.note("handled", message, reply and reply.exit_code, sent)

    @hookimpl
    def remaphore_rejected(self, message, reason):
        self.note("rejected", message, reason)

    def note(self, hook, message, *how):
        self.calls[message.id].append((hook, *how))
        if hook == "handled" and not message.wants_reply:  # that of a reply follows the reply
            self.order[message.verb].append(message.id)
        stats = self.stats()
        ended = sum(sum(place.values()) for place in (stats.dropped, stats.rejected, stats.handled))
        queued = sum(queue.waiting + queue.running for queue in stats.queues.values())
        assert stats.received == stats.checking + ended + queued  # in each hook each message is in exactly one place


class Knowing(Echo):
    """Says so, and counts how often it is asked for each verb."""

    def __init__(self):
        super().__init__()
        self.asked = []

    @hookimpl
    def remaphore_acts(self, verb):
        self.asked.append(verb)
        return verb == "echo"


class World:
    """A daemon as node 2, and its two peers."""

    def __init__(self, folder, *plugins):
        self.folder = folder
        self.broker = MemoryBroker()
        self.bus = self.broker.connect()
        self.plugins = load(("log",))
        for number, plugin in enumerate(plugins):
            register(self.plugins, plugin, name=f"plugin{number}")
        self.config = replace(make_config(2), peers=ALL)
        self.sent = 0

    def daemon(self):
        return running_daemon(self.broker.connect(), self.folder, config=self.config, plugins=self.plugins)

    async def send(self, verb="note", *, sender=1, wants_reply=False):
        self.sent += 1
        fields = {"uuid": b"m%d" % self.sent, "time_ns": NOW + self.sent, "destination": "com.two", "verb": verb}
        await self.bus.publish("remaphore.all", make_encoded(sender, wants_reply=wants_reply, **fields))


async def quiet(own):
    """Return when all that has arrived has ended."""
    await own._admission.join()
    await own._execution.join()
    await own._responses.join()


def refuse(*_arguments):
    raise LedgerError("disk full")


def ends(logged):
    """Return the end of each message in the log, by id: each that was received has exactly one."""
    found = [
        (line["id"], line["event"], line.get("reason", line.get("exit_code")))
        for line in logged
        if line["event"] in ENDS
    ]
    received = [line["id"] for line in logged if line["event"] == "message_received"]
    assert len({name for name, *_ in found}) == len(found)
    assert {*received} <= {name for name, *_ in found}
    return sorted(found)


MESSAGES = st.lists(
    st.tuples(st.sampled_from(["note", "other", "echo"]), st.sampled_from([1, 3]), st.booleans()), max_size=20
)
STEPS = st.lists(
    st.tuples(MESSAGES, st.sampled_from(["", "withdraw", "permit", "break", "repair"])), min_size=1, max_size=5
)


async def live(plugin, steps):
    """Return what becomes of *steps* in a daemon with *plugin*: counters, log, ledger, hooks, the last ends."""
    with (
        tempfile.TemporaryDirectory() as name,
        structlog.testing.capture_logs() as logged,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(activity, "MAX_ENDS", 1_000)  # which of more are the last depends on the order of the verbs
        world = World(Path(name), plugin)
        async with world.daemon() as own:
            for messages, action in steps:
                for verb, sender, wants_reply in messages:
                    await world.send(verb, sender=sender, wants_reply=wants_reply)
                if action in {"withdraw", "permit"}:  # while the signatures are verified
                    peers = WITHDRAWN if action == "withdraw" else ALL
                    assert own.reload(lambda peers=peers: replace(world.config, peers=peers))
                await quiet(own)
                if action == "break":
                    patch.setattr(Store, "apply", refuse)
                elif action == "repair":
                    patch.undo()
                if action in {"break", "repair"}:  # noticed by the next that has to be recorded
                    await world.send("echo")
                    await quiet(own)
            for verb, sender, wants_reply in steps[0][0]:
                await world.send(verb, sender=sender, wants_reply=wants_reply)
            own.stop()
            await quiet(own)
            patch.undo()
            stats = own.stats()
            last = [(each.verb, each.uuid, each.result, each.exit_code) for each in own.status().ended]
        counters = (stats.received, stats.dropped, stats.rejected, stats.handled, stats.replies, stats.queues)
        return (
            counters,
            ends(logged),
            states(world.folder),
            (dict(plugin.calls), dict(plugin.order)),
            sorted(last, key=str),
        )


@settings(max_examples=max(10, settings.default.max_examples // 10))  # each is two daemons
@given(steps=STEPS)
@example(steps=[([("note", 1, False)], "withdraw")])
def test_whatever_arrives_it_ends_as_in_its_queue(steps):
    ordinary, passing = (asyncio.run(live(plugin, steps)) for plugin in (Echo(), Knowing()))
    assert passing == ordinary


@pytest.fixture
def world(tmp_path):
    return lambda *plugins: World(tmp_path, *plugins)


async def test_only_a_message_that_nobody_acts_on_or_waits_for_passes_and_each_batch_is_asked_for_once(world):
    plugin = Knowing()
    own_world = world(plugin)
    async with own_world.daemon() as own:
        for _ in range(10):
            await own_world.send()
        await own_world.send("echo")
        await own_world.send("note", wants_reply=True)
        await own._admission.join()
        assert (own.stats().handled, own._execution.held) == ({"note": 10}, 2)
        assert sorted(plugin.asked) == ["echo", "note"]
        await quiet(own)
        assert own.stats().handled == {"note": 11, "echo": 1}
        assert own.stats().replies == {"sent": 1}


class Raises(Echo):
    @hookimpl
    def remaphore_acts(self, verb):
        raise ValueError(verb)


class Unsure(Echo):
    @hookimpl
    def remaphore_acts(self, verb):
        return None


class Silent:
    """Does not say on what it acts."""

    @hookimpl
    def remaphore_message(self, message):
        return None


@pytest.mark.parametrize("plugins", [(Raises(),), (Unsure(),), (Echo(),), (Knowing(), Silent()), (Silent(), Knowing())])
async def test_a_plugin_that_does_not_say_that_it_does_not_act_gets_its_messages(world, plugins):
    own_world = world(*plugins)
    with structlog.testing.capture_logs() as logged:
        async with own_world.daemon() as own:
            await own_world.send()
            await own._admission.join()
            assert (own.stats().handled, own._execution.held) == ({}, 1)
            await quiet(own)
    failed = [(line["plugin"], line["hook"], line["error"]) for line in logged if line["event"] == "plugin_failed"]
    wanted = [("plugin0", "remaphore_acts", "ValueError('note')")] if isinstance(plugins[0], Raises) else []
    assert failed == wanted


async def test_no_message_overtakes_one_of_its_verb(world):
    class Changing(Knowing):
        acts = True

        @hookimpl
        def remaphore_acts(self, verb):
            return self.acts

    plugin = Changing()
    own_world = world(plugin)
    async with own_world.daemon() as own:
        for verb in ("note", "note", "other"):
            await own_world.send(verb)
        await own._admission.join()
        assert own._execution.held == 3
        plugin.acts = False
        await own_world.send("note")
        await own_world.send("free")
        await own._admission.join()
        assert own.stats().handled == {"free": 1}
        await quiet(own)
    assert plugin.order["note"] == ["m1", "m2", "m4"]


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Ledger, "note_handled"),
        (Activity, "passed"),
        (DaemonCounters, "count_handled"),
        (processor.MessageProcessor, "acts"),
    ],
)
async def test_whatever_raises_costs_its_message_and_is_counted_once(world, monkeypatch, owner, name):
    plugin = Knowing()
    own_world = world(plugin)
    original = getattr(owner, name)
    failed: list[bool] = []

    def once(*arguments):
        if not failed:
            failed.append(True)
            raise ZeroDivisionError
        return original(*arguments)

    with structlog.testing.capture_logs() as logged:
        async with own_world.daemon() as own:
            monkeypatch.setattr(owner, name, once)
            for _ in range(3):
                await own_world.send()
            await quiet(own)
            assert (own.stats().rejected, own.stats().handled) == ({"error": 1}, {"note": 2})
    assert [event for _, event, _ in ends(logged)] == ["message_rejected", "message_handled", "message_handled"]
    assert plugin.calls == {"m1": [("rejected", "error")]} | {
        name: [("admitted",), ("handled", None, False)] for name in ("m2", "m3")
    }


async def test_a_slow_hook_does_not_fill_the_memory(world, monkeypatch):
    monkeypatch.setattr(processor, "MAX_NOTING", 3)

    class Slow(Knowing):
        release = asyncio.Event()

        @hookimpl
        async def remaphore_handled(self, message):
            await self.release.wait()

    own_world = world(Slow())
    async with own_world.daemon() as own:
        for _ in range(20):
            await own_world.send()
        await own._admission.join()
        await asyncio.sleep(0)
        noting = len(own._execution._processor._noting)
        assert noting <= 5
        assert own._execution.held >= 20 - noting
        Slow.release.set()
        await quiet(own)
        assert own.stats().handled == {"note": 20}


async def test_while_the_ledger_cannot_be_written_nothing_passes(world, monkeypatch):
    own_world = world(Knowing())
    async with own_world.daemon() as own:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "apply", refuse)
            await own_world.send()
            await until(lambda: own.stats().problem)
            for _ in range(3):
                await own_world.send()
            await quiet(own)
            assert own.stats().rejected == {"ledger": 3}
        await own_world.send()
        await quiet(own)
        assert (own.stats().handled, own.stats().problem) == ({"note": 2}, "")
    assert sorted(states(own_world.folder).values()) == ["done", "done", "rejected", "rejected", "rejected"]


async def test_what_passed_is_an_end_in_the_status_of_the_daemon(world):
    own_world = world(Knowing())
    async with own_world.daemon() as own:
        before = own.changes
        await own_world.send()
        await quiet(own)
        assert own.changes != before
        (ended,) = own.status().ended
    assert (ended.verb, ended.peer, ended.result, ended.exit_code, ended.reply_sent) == (
        ("note", "com.one", "handled", None, None)
    )
    assert ended.seconds == 0


async def test_a_new_handler_gets_the_next_message_also_within_a_flood(world, tmp_path):
    hooks, ran = tmp_path / "hooks.d", tmp_path / "ran"
    hooks.mkdir()
    own_world = world()
    register(own_world.plugins, hooks_plugin(hooks), name="hooks-d")
    async with own_world.daemon() as own:
        for number in range(200):
            await own_world.send()
            if number in {20, 120}:
                await own._admission.join()
            if number == 120:  # while the rest of the flood is on its way
                (hooks / "note").mkdir()
                write_script(hooks / "note" / "10-count", f"echo $REMAPHORE_UUID >> {ran}")
                await own_world.send()
                expected = 200 - number
        await quiet(own)
        assert own.stats().handled == {"note": 201}
    assert len(ran.read_text().split()) == expected
