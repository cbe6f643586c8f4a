"""The daemon and its ledger: nothing runs and nothing is sent before it is on the disk, and nothing runs twice."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import structlog

from remaphore import hookimpl, logs
from remaphore.config.settings import VerbSettings
from remaphore.protocol import subject, wire
from remaphore.protocol.drop import DropReason
from remaphore.protocol.message import Reply
from remaphore.protocol.peers import Peer
from remaphore.receiving import daemon as module
from remaphore.receiving import responses
from remaphore.receiving.ledger import ledger as ledger_module
from remaphore.receiving.ledger import statements
from remaphore.receiving.ledger.ledger import FILE
from remaphore.receiving.ledger.rows import DONE, REJECTED, STARTED
from remaphore.transport.memory import MemoryBroker
from tests.harness.daemon import running_daemon
from tests.harness.factories import NOW, SKEW, make_encoded, make_key, sign_again
from tests.harness.ledgers import crashed, no_room, states
from tests.harness.nodes import make_config
from tests.harness.plugins import plugin_manager

ALL = subject.for_messages("remaphore")
INTERRUPTED = (143, b"remaphore: interrupted: the daemon ended while this ran\n")
ABANDONED = (75, b"remaphore: refused: abandoned: the daemon ended before it started")
NO_LEDGER = (75, b"remaphore: refused: ledger: the ledger cannot be written, see the log of the daemon")


@pytest.fixture(autouse=True)
def _setting(monkeypatch):
    monkeypatch.setattr(module, "DRAIN_SECONDS", 0.05)
    logs.configure("console")  # whose stream may fail when there is no room


class Plugin:
    """Notes what runs, and what the ledger's file says then. `wait` waits for the release, `huge` has no exit code."""

    def __init__(self, folder):
        self.folder = folder
        self.ran, self.found = [], []
        self.stats = None
        self.release = asyncio.Event()

    @hookimpl
    def remaphore_startup(self, stats):
        self.stats = stats

    @hookimpl
    async def remaphore_message(self, message):
        self.ran.append(message.payload)
        self.found.append(states(self.folder).get(message.digest))
        if message.verb.startswith("wait"):
            await self.release.wait()
        return Reply(2**70 if message.verb == "huge" else 0, message.payload)

    @hookimpl
    def remaphore_shutdown(self, reason):
        self.release.set()


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        self.now += 1
        return self.now


class World:
    """A broker, a clock, and the daemons that run there one after the other, as node 2."""

    def __init__(self, folder):
        self.folder = folder
        self.broker, self.clock = MemoryBroker(), Clock()
        self.bus = self.broker.connect()
        self.daemon_bus = None  # a new one for each daemon
        self.made = 0

    @asynccontextmanager
    async def daemon(self, folder=None, config=None, now=NOW - 1):
        folder, config = folder or self.folder, config or make_config(2)
        self.plugin = Plugin(folder)
        plugins = plugin_manager(plugin=self.plugin)
        async with running_daemon(
            self.daemon_bus or self.broker.connect(),
            folder,
            config=config,
            plugins=plugins,
            clock=self.clock,
            created=now,
        ) as own:
            self.ledger = own._ledger
            yield own

    def make(self, verb="echo", **fields):
        """Return a new signed request."""
        self.made += 1
        fields = {"time_ns": NOW + self.made, "payload": b"%d" % self.made, "wants_reply": True} | fields
        return make_encoded(1, destination="com.two", verb=verb, **fields)

    async def send(self, *raws):
        for raw in raws:
            await self.bus.publish(ALL, raw)

    def replies(self, raw):
        """Return all replies to *raw* that were published."""
        where = subject.for_replies("remaphore", wire.digest(raw))
        return [Reply.parse(wire.decode(data).payload) for on, data in self.broker.published if on == where]

    def answers(self, raw):
        return [(reply.exit_code, reply.output) for reply in self.replies(raw)]

    async def ask(self, raw, count=1):
        """Send *raw*, and return its replies once there are *count*."""
        await self.send(raw)
        await until(lambda: len(self.replies(raw)) >= count)
        return self.answers(raw)

    async def settle(self, own):
        """Return when everything that was sent has been handled."""
        marker = self.make()
        await self.ask(marker)
        await until(lambda: not own._responses.pending)


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


@pytest.fixture
def world(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    return World(folder)


async def test_the_completion_of_a_message_and_the_start_of_the_next_are_one_write(world, monkeypatch):
    writes, apply = [], ledger_module.Store.apply

    def watched(self, batch):
        writes.append({(sql, values[0]) for (sql, values), _ in batch.writes if values})
        return apply(self, batch)

    monkeypatch.setattr(ledger_module.Store, "apply", watched)
    async with world.daemon() as own:
        first, second = world.make("wait"), world.make("wait")
        await world.send(first, second)
        await until(lambda: world.plugin.ran and own.stats().received == 2)
        world.plugin.release.set()
        await until(lambda: world.answers(second))
        numbers = [own._ledger._numbers.find(wire.digest(raw)) for raw in (first, second)]
        both = set(zip((statements.FINISH, statements.START), numbers, strict=True))
        assert any(both <= write for write in writes)
        assert world.answers(first) == [(0, b"1")]


async def test_the_start_is_on_the_disk_when_a_plugin_runs(world):
    async with world.daemon():
        for _ in range(3):
            await world.ask(world.make())
        assert world.plugin.found == [STARTED] * 3


async def test_the_completion_is_on_the_disk_when_the_reply_is_sent(world):
    found, raw = [], world.make()
    async with world.daemon():
        where = subject.for_replies("remaphore", wire.digest(raw))
        await world.bus.subscribe(where, lambda _data: found.append(states(world.folder)[wire.digest(raw)]))
        assert await world.ask(raw) == [(0, b"1")]
    assert found == [DONE]


async def test_a_rejection_is_on_the_disk_when_it_is_sent(world):
    found, raw = [], world.make("wait")
    async with world.daemon(config=replace(make_config(2), verbs={"wait": VerbSettings(queue=1)})):
        where = subject.for_replies("remaphore", wire.digest(raw))
        await world.bus.subscribe(where, lambda _data: found.append(states(world.folder)[wire.digest(raw)]))
        await world.send(world.make("wait", payload=b"runs"))
        await until(lambda: world.plugin.ran)
        await world.send(world.make("wait", payload=b"waits"))
        assert (await world.ask(raw))[0][0] == 75
        assert found == [REJECTED]


async def test_a_message_that_wants_no_reply_is_recorded_as_done_or_rejected_too(world):
    config = replace(make_config(2), verbs={"wait": VerbSettings(queue=1)})
    runs, waits, rejected = (world.make("wait", wants_reply=False) for _ in range(3))
    async with world.daemon(config=config):
        await world.send(runs)
        await until(lambda: world.plugin.ran)
        await world.send(waits, rejected)
        await until(lambda: world.plugin.stats().rejected)
        world.plugin.release.set()
        await until(lambda: not world.plugin.stats().queues)
    expected = {runs: DONE, waits: DONE, rejected: REJECTED}
    assert states(world.folder) == {wire.digest(raw): state for raw, state in expected.items()}
    async with world.daemon():
        assert world.ledger.interrupted == []


@pytest.mark.parametrize("damage", [b"junk" * 1000, b"SQLite format 3\x00" + b"\xff" * 8000])
async def test_with_a_damaged_ledger_nothing_runs_and_every_request_is_rejected(world, damage):
    (world.folder / FILE).write_bytes(damage)
    async with world.daemon():
        raws = [world.make() for _ in range(5)]
        await world.send(world.make(wants_reply=False))
        for raw in raws:
            assert await world.ask(raw) == [NO_LEDGER]
        assert world.plugin.ran == []
        assert str(world.folder / FILE) in world.plugin.stats().problem
    assert (world.folder / FILE).read_bytes() == damage


async def test_without_room_nothing_runs_and_every_request_is_rejected_until_there_is_room(world):
    async with world.daemon():
        assert await world.ask(world.make()) == [(0, b"1")]
        rejected = [world.make() for _ in range(5)]
        with no_room(world.folder):
            for raw in rejected:
                assert await world.ask(raw) == [NO_LEDGER]
            assert "disk I/O error" in world.plugin.stats().problem
        raw = world.make()
        assert await world.ask(raw) == [(0, b"7")]
        assert world.plugin.stats().problem == ""
        await world.send(*rejected, *map(sign_again, rejected))
        await until(lambda: world.plugin.stats().received == 1 + 5 + 1 + 10)
        assert world.plugin.ran == [b"1", b"7"]


async def test_a_repeated_request_gets_the_recorded_reply_newly_signed_and_three_times_at_most(world, monkeypatch):
    monkeypatch.setattr(ledger_module, "RESEND_SECONDS", 0.0)
    async with world.daemon() as own:
        raw = world.make()
        for count in range(1, 5):
            await world.ask(raw, count)
        for _ in range(3):
            await world.send(raw)
            await world.settle(own)
        where = subject.for_replies("remaphore", wire.digest(raw))
        times = [wire.decode(data).time_ns for on, data in world.broker.published if on == where]
        assert world.answers(raw) == [(0, b"1")] * 4
        assert sorted(set(times)) == times
        assert world.plugin.ran.count(b"1") == 1
        stats = own.stats()
        assert stats.dropped == {DropReason.DUPLICATE: 6}
        assert stats.received == 1 + 6 + 3 == sum(stats.dropped.values()) + sum(stats.handled.values())
        assert stats.replies == {"sent": 1 + 3 + 3}


async def test_a_repeated_request_gets_no_more_than_one_reply_a_second(world, monkeypatch):
    monkeypatch.setattr(ledger_module, "RESEND_SECONDS", 3600.0)
    async with world.daemon() as own:
        raw = world.make()
        await world.ask(raw)
        await world.ask(raw, 2)
        for _ in range(5):
            await world.send(raw)
            await world.settle(own)
        assert len(world.replies(raw)) == 2


async def test_another_signature_of_a_request_gets_no_reply(world):
    async with world.daemon() as own:
        raw = world.make()
        await world.ask(raw)
        await world.send(sign_again(raw))
        await world.settle(own)
        assert world.replies(sign_again(raw)) == []


async def test_the_number_of_repeated_requests_that_are_looked_up_at_a_time_is_bounded(world, monkeypatch):
    async with world.daemon() as own:
        raw = world.make()
        await world.ask(raw)
        monkeypatch.setattr(responses, "MAX_PENDING", 0)
        await world.send(raw)
        await world.settle(own)
        assert len(world.replies(raw)) == 1


async def test_a_request_that_is_repeated_after_a_restart_gets_the_recorded_reply(world):
    raw = world.make()
    async with world.daemon():
        await world.ask(raw)
    async with world.daemon():
        assert await world.ask(raw, 2) == [(0, b"1")] * 2
        assert world.plugin.ran == []


async def crash(world, tmp_path):
    """Kill a daemon that runs one message while another waits; return both, and what is left of the ledger."""
    runs, waits = world.make("wait", payload=b"runs"), world.make("wait", payload=b"waits")
    async with world.daemon() as own:
        await world.send(runs, waits)
        await until(lambda: world.plugin.ran)
        await world.settle(own)
        left = crashed(world.ledger, world.folder, tmp_path / "left")
    return runs, waits, left


async def test_what_a_crash_interrupted_is_reported_once_and_never_runs_again(world, tmp_path):
    runs, waits, left = await crash(world, tmp_path)
    world.broker.published.clear()
    async with world.daemon(left) as own:
        await until(lambda: world.replies(runs))
        assert world.answers(runs) == [INTERRUPTED]
        await world.send(sign_again(runs), waits, sign_again(waits))
        await world.settle(own)
        assert not {b"runs", b"waits"} & set(world.plugin.ran)
        assert world.answers(waits) == [ABANDONED]
    world.broker.published.clear()
    async with world.daemon(left) as own:
        await world.settle(own)
        assert world.replies(runs) == []
        assert await world.ask(runs) == [INTERRUPTED]  # a repeated request gets what was recorded


async def test_an_interruption_is_not_reported_before_it_is_on_the_disk(world, tmp_path):
    runs, _, left = await crash(world, tmp_path)
    world.broker.published.clear()
    with no_room(left):
        async with world.daemon(left):
            await world.ask(world.make())
            assert world.replies(runs) == []
    async with world.daemon(left):
        await until(lambda: world.replies(runs))
        assert world.answers(runs) == [INTERRUPTED]


class Holding:
    """A bus that holds what is published until its release; *held* are the subjects, in order."""

    def __init__(self, bus):
        self._bus, self.held, self.release = bus, [], asyncio.Event()

    def __getattr__(self, name):
        return getattr(self._bus, name)

    async def publish(self, subject, data, *, timeout=None):
        self.held.append(subject)
        await self.release.wait()
        await self._bus.publish(subject, data, timeout=timeout)


async def kill_with_messages_waiting(world, into, *raws):
    """Kill a daemon while *raws* wait; return what is left of its ledger."""
    roomy = replace(make_config(2), verbs=dict.fromkeys(("wait", "wait too"), VerbSettings(queue=1000)))
    async with world.daemon(config=roomy) as own:
        first = {"wants_reply": False, "time_ns": NOW}  # the oldest, and so the last that are reported
        await world.send(world.make("wait", **first), world.make("wait too", **first))
        await until(lambda: len(world.plugin.ran) == 2)
        await world.send(*raws)
        await world.settle(own)
        left = crashed(world.ledger, world.folder, into)
    world.broker.published.clear()
    return left


async def test_what_waited_when_the_daemon_was_killed_is_logged_by_verb_and_its_requesters_are_told(world, tmp_path):
    asked = [world.make("wait") for _ in range(150)]
    silent = [world.make("wait too", wants_reply=False) for _ in range(3)]
    left = await kill_with_messages_waiting(world, tmp_path / "left", *asked, *silent)
    world.daemon_bus = bus = Holding(world.broker.connect())
    with structlog.testing.capture_logs() as logged:
        async with world.daemon(left) as own:
            await until(lambda: len(bus.held) == responses.MAX_PENDING == 100)
            await until(world.ledger._writing.done)  # no more are on their way, and these are the newest
            newest = [subject.for_replies("remaphore", wire.digest(raw)) for raw in asked[-100:]]
            assert sorted(bus.held) == sorted(newest)
            bus.release.set()
            await until(lambda: all(map(world.replies, asked)))
            await world.send(*asked, *map(sign_again, asked), *silent, *map(sign_again, silent))
            await world.settle(own)
            assert len(world.plugin.ran) == 1
    assert [world.answers(raw) for raw in asked] == [[ABANDONED]] * len(asked)
    assert not any(map(world.replies, silent))
    counts = {each["verb"]: each["count"] for each in logged if each["event"] == "messages_abandoned"}
    assert counts == {"wait": 150, "wait too": 3}


async def test_a_request_whose_window_is_over_is_not_told_that_it_was_abandoned(world, tmp_path):
    old, young = world.make("wait"), world.make("wait", time_ns=NOW + SKEW)
    left = await kill_with_messages_waiting(world, tmp_path / "left", old, young)
    world.clock.now = NOW + SKEW + SKEW // 2
    async with world.daemon(left) as own:
        await until(lambda: world.replies(young) and not own._responses.pending)
    assert (world.answers(young), world.answers(old)) == ([ABANDONED], [])


async def test_what_was_abandoned_is_logged_and_answered_once(world, tmp_path):
    raw, silent = world.make("wait"), world.make("wait", wants_reply=False)
    left = await kill_with_messages_waiting(world, tmp_path / "left", raw, silent)
    for answers, lines in (([ABANDONED], 1), ([], 0)):
        with structlog.testing.capture_logs() as logged:
            async with world.daemon(left) as own:
                await until(lambda own=own: not own._responses.pending)
        assert (world.answers(raw), world.answers(silent)) == (answers, [])
        assert [each["event"] for each in logged].count("messages_abandoned") == lines
        world.broker.published.clear()


def permitting(*verbs):
    return make_config(2, peers=(Peer(destination="com.one", key=make_key(1).public, verbs=frozenset(verbs)),))


async def test_a_message_rejected_for_its_verb_does_not_run_once_the_verb_is_permitted(world):
    async with world.daemon(config=permitting("echo")) as own:
        raw = world.make("deploy", payload=b"rejected")
        code, output = (await world.ask(raw))[0]
        assert (code, output) == (77, b"remaphore: refused: verb-not-permitted: not among the peer's verbs")
        assert states(world.folder)[wire.digest(raw)] == REJECTED
        own.reload(lambda: permitting("echo", "deploy"))
        await world.send(raw, sign_again(raw))
        assert await world.ask(world.make("deploy")) == [(0, b"2")]
        assert world.plugin.ran == [b"2"]
    async with world.daemon() as own:
        await world.send(raw, sign_again(raw))
        await world.settle(own)
        assert b"rejected" not in world.plugin.ran


async def test_a_message_rejected_for_its_time_does_not_run_once_its_time_has_come(world):
    async with world.daemon():
        raw = world.make(time_ns=NOW + 2 * SKEW, payload=b"early")
        assert (await world.ask(raw))[0][0] == 77
        world.clock.now = NOW + 2 * SKEW
        await world.send(raw, sign_again(raw))
        await world.ask(world.make(time_ns=world.clock.now))
        assert b"early" not in world.plugin.ran


async def test_no_rejection_is_sent_where_notify_rejections_is_off(world):
    async with world.daemon(config=replace(permitting("echo"), notify_rejections=False)) as own:
        raw = world.make("deploy")
        await world.send(raw)
        await world.settle(own)
        assert world.replies(raw) == []


async def test_a_rejected_message_does_not_run_when_it_is_sent_again(world):
    async with world.daemon(config=replace(make_config(2), verbs={"wait": VerbSettings(queue=1)})) as own:
        await world.send(world.make("wait"))
        await until(lambda: world.plugin.ran)
        await world.send(world.make("wait"))
        raw = world.make("wait", payload=b"rejected")
        assert (await world.ask(raw))[0][0] == 75
        world.plugin.release.set()
        await world.send(raw, sign_again(raw))
        await world.settle(own)
        await until(lambda: not world.plugin.stats().queues)
        assert b"rejected" not in world.plugin.ran


async def test_an_exit_code_that_no_file_can_hold_costs_only_its_own_message(world):
    async with world.daemon():
        raws = [world.make("huge"), world.make(), world.make()]
        await world.send(*raws)
        for raw in raws:
            await until(lambda raw=raw: world.replies(raw))
        assert list(map(world.answers, raws)) == [[(-1, b"")], [(0, b"2")], [(0, b"3")]]
        assert world.plugin.stats().problem == ""


async def test_a_clock_that_steps_and_a_larger_skew_run_nothing_again(world):
    async with world.daemon() as own:
        raw = world.make()
        await world.ask(raw)
        world.clock.now = NOW + 3 * SKEW
        await world.ask(world.make(time_ns=world.clock.now))  # the first one is forgotten
        own.reload(lambda: replace(make_config(2), allow_skew_ns=100 * SKEW))
        for now in (NOW, NOW - SKEW, NOW + 50 * SKEW):
            world.clock.now = now
            await world.send(raw, sign_again(raw))
        await world.ask(world.make(time_ns=NOW + 60 * SKEW))
        assert world.plugin.ran.count(b"1") == 1


@pytest.mark.parametrize("lost", [False, True])
async def test_a_captured_message_does_not_run_after_a_restart(world, lost):
    raw = world.make()
    async with world.daemon():
        await world.ask(raw)
    if lost:
        (world.folder / FILE).unlink()
    async with world.daemon(now=NOW + 1):
        await world.send(raw, sign_again(raw))
        await world.ask(world.make())
        assert world.plugin.ran == [b"2"]
