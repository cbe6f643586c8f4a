"""What a daemon reports about itself: each message from its start to its end, in one place, whatever happens to it."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remaphore import hookimpl
from remaphore.config.settings import VerbSettings
from remaphore.errors import LedgerError
from remaphore.hooks.stats import QueueState
from remaphore.messaging.signer import Signer
from remaphore.node import Node
from remaphore.protocol import status
from remaphore.protocol.message import Reply
from remaphore.protocol.peers import Peer
from remaphore.receiving import activity as module
from remaphore.receiving import daemon as daemon_module
from remaphore.receiving import execution, processor
from remaphore.receiving.activity import MAX_ENDS, MAX_ROWS, REPLYING, RUNNING, Activity, waiting
from remaphore.receiving.ledger.ledger import Ledger
from remaphore.receiving.ledger.store import Store
from remaphore.receiving.responses import Responses
from remaphore.testing import make_message
from remaphore.transport.memory import MemoryBroker
from tests.harness.daemon import running_daemon
from tests.harness.factories import NOW, make_key
from tests.harness.nodes import clock, make_config
from tests.harness.plugins import plugin_manager
from tests.harness.waiting import until


@pytest.fixture(autouse=True)
def _brief_drain(monkeypatch):
    monkeypatch.setattr(daemon_module, "DRAIN_SECONDS", 0.05)


def message(number, **changes):
    return replace(
        make_message("deploy", **changes), digest=(number + 1).to_bytes(8, "big") + bytes(24), sender_name="com.one"
    )


class Time:
    """A monotonic clock that only a test moves."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_a_message_is_listed_from_its_start_to_its_end_with_times_of_day():
    time = Time()
    activity = Activity(clock=lambda: NOW, monotonic=time)
    first = message(1, wants_reply=True)
    activity.begin(first)
    time.now += 2
    (row,), omitted = activity.running()
    assert (row.verb, row.peer, row.state, row.seconds, row.since_ns) == (
        "deploy",
        "com.one",
        "starting",
        2,
        NOW - 2 * 10**9,
    )
    assert (row.digest, omitted) == (first.digest[:8], 0)
    activity.advance(first, RUNNING)
    activity.advance(first, REPLYING)
    assert activity.running()[0][0].state == REPLYING
    activity.handled(first, 3, sent=False)
    time.now += 5
    (end,) = activity.ended()
    assert activity.running() == ((), 0)
    assert (end.result, end.exit_code, end.reply_sent, end.seconds, end.ago_seconds) == ("handled", 3, False, 2, 5)
    assert end.ended_ns == NOW - 5 * 10**9
    assert activity.uptime_seconds == 7


def test_lists_are_bounded_and_the_message_that_asks_is_left_out():
    activity = Activity(clock=lambda: NOW)
    for number in range(MAX_ROWS + 10):
        activity.begin(message(number))
    for leave_out in (b"", message(3).digest, message(MAX_ROWS + 5).digest):
        rows, omitted = activity.running(leave_out=leave_out)
        assert len(rows) == MAX_ROWS
        assert len(rows) + omitted == MAX_ROWS + 10 - bool(leave_out)
        assert leave_out[:8] not in {row.digest for row in rows}
    for number in range(MAX_ROWS + 10):
        activity.handled(message(number), 0, sent=False)
    assert [end.digest for end in activity.ended()] == [
        message(number).digest[:8] for number in range(MAX_ROWS + 9, MAX_ROWS + 9 - MAX_ENDS, -1)
    ]


def test_queues_are_listed_by_the_age_of_their_oldest_message():
    queues = {f"v{number}": QueueState(number, 1, float(number)) for number in range(MAX_ROWS + 3)}
    rows, omitted = waiting(queues)
    assert [row.messages for row in rows] == list(range(MAX_ROWS + 2, 2, -1))
    assert omitted == 2  # v0 has none that waits


def test_answered_pings_and_questions_for_the_status_do_not_displace_other_ends():
    activity = Activity(clock=lambda: NOW)
    work = message(0)
    activity.handled(work, 0, sent=False)
    for number in range(1, 3 * MAX_ENDS):
        question = replace(message(number, wants_reply=True), verb=("ping", "remaphore-status")[number % 2])
        activity.begin(question)
        activity.handled(question, 0, sent=True)
    assert activity.running() == ((), 0)
    for code, sent in ((1, True), (0, False)):  # these are worth a look
        activity.handled(replace(question, verb="ping"), code, sent=sent)
    assert [(end.verb, end.exit_code, end.reply_sent) for end in activity.ended()] == [
        ("ping", 0, False),
        ("ping", 1, True),
        ("deploy", 0, None),
    ]


def test_no_payload_is_kept_for_an_end():
    activity = Activity(clock=lambda: NOW)
    large = message(1, payload=b"x" * 1000)
    activity.begin(large)
    activity.handled(large, 0, sent=False)
    assert large not in [each for end, _since, _ended in activity._ends for each in end]
    assert activity._runs == {}


class Plugin:
    """Acts by the payload of a message: returns, raises, cancels itself, hangs, or has no reply."""

    def __init__(self):
        self.own = None
        self.ran, self.listed, self.release = [], [], asyncio.Event()

    @hookimpl
    async def remaphore_message(self, message):
        self.ran.append(message.digest[:8])
        # Each message must be listed exactly once while it runs.
        rows = [row for row in self.own.status().running if row.digest == message.digest[:8]]
        self.listed.append([row.state for row in rows])
        what = message.payload.decode()
        if message.verb == "remaphore-status":
            return None
        if what == "raise":
            raise RuntimeError(what)
        if what == "cancel":
            asyncio.current_task().cancel()
            await asyncio.sleep(0)
        if what == "exit":
            raise SystemExit(3)
        if what == "hang":
            await self.release.wait()
        await asyncio.sleep(0)
        return None if what == "none" else Reply(0, b"x")

    @hookimpl
    def remaphore_shutdown(self):
        self.release.set()


@asynccontextmanager
async def running(broker, tmp_path, *, config=None, now=clock):
    plugin = Plugin()
    async with running_daemon(
        broker.connect(), tmp_path, config=config, plugins=plugin_manager(plugin=plugin), clock=now
    ) as own:
        plugin.own = own
        yield own, plugin


def fail_with(error):
    def fail(*_arguments, **_keywords):
        raise error

    return fail


# Where an exception can come in the middle of a message.
PLACES = {
    "nowhere": None,
    "the start": (Ledger, "started"),
    "the write": (Store, "apply"),
    "the processor": (processor.MessageProcessor, "start"),
    "the result, in the task": (processor.MessageProcessor, "_result"),
    "the task of the reply": (execution, "spawn"),
    "the completion": (Ledger, "done"),
    "the note of the completion": (Ledger, "note_done"),
    "the reply": (Responses, "send"),
    "the notification": (processor.MessageProcessor, "notify_handled"),
    "the rejection": (Responses, "_reject"),
}
PLAIN = (
    *("the start", "the processor", "the note of the completion", "the notification"),
    *("the task of the reply", "the rejection"),
)
WHATS = ["ok", "raise", "cancel", "exit", "none"]


ERRORS = [MemoryError(), LedgerError("full", hint="make room"), asyncio.CancelledError()]


@pytest.mark.parametrize(
    ("place", "error"),
    # A cancellation can only come out of an await.
    [(place, error) for place in PLACES for error in ERRORS if not (place in PLAIN and error is ERRORS[2])],
)
async def test_no_message_is_listed_after_its_end_whatever_happens_to_it(tmp_path, monkeypatch, place, error):
    broker = MemoryBroker()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    async with running(broker, tmp_path) as (own, plugin):
        node = Node(broker.connect(), make_config(1), clock=clock)
        signer = Signer(make_config(1), clock)
        with monkeypatch.context() as patch:
            if PLACES[place]:
                patch.setattr(*PLACES[place], fail_with(error))
            sent = []
            for what in WHATS:
                for wants_reply in (False, True):
                    outgoing = signer.compose(
                        f"do-{what}", to="com.two", payload=what.encode(), wants_reply=wants_reply
                    )
                    sent.append(outgoing.message.digest[:8])
                    await node.bus.publish("remaphore.all", outgoing.raw)
            await until(lambda: own.stats().received == len(sent) and not own.stats().checking)
            async with asyncio.timeout(10):
                await own._execution.join()
        found = own.status()
        assert (found.running, found.waiting) == ((), ())
        assert all(states == ["running"] for states in plugin.listed)
        ended = [end.digest for end in found.ended]
        assert len(ended) == len(set(ended)), "an end is listed twice"
        assert set(plugin.ran) <= set(ended) <= set(sent)
        if place != "the rejection":
            assert set(ended) == set(sent)


async def test_rejections_of_queued_messages_are_ends_and_others_are_not(tmp_path):
    """Expired, evicted, no longer permitted, stopping; a message that finds its queue full was never queued."""
    now = [NOW]
    verbs = {
        "old": VerbSettings(max_wait_seconds=0.0),
        "full": VerbSettings(queue=2),
    }
    config = replace(make_config(2), verbs=verbs)
    broker = MemoryBroker()
    async with running(broker, tmp_path, config=config, now=lambda: now[0]) as (own, _plugin):
        one = Node(broker.connect(), make_config(1), clock=clock)
        three = Node(broker.connect(), make_config(3), clock=clock)

        def ends():
            return sorted((end.verb, end.reason) for end in own.status().ended if end.result == "rejected")

        await one.send("old", payload="ok")
        await until(lambda: ends() == [("old", "expired")])
        await one.send("full", payload="hang")
        await until(lambda: [row.state for row in own.status().running] == ["running"])
        for _ in range(3):  # two wait, and one finds no room
            await one.send("full", payload="hang")
        await until(lambda: own.stats().rejected.get("busy") == 1)
        assert [(row.verb, row.messages) for row in own.status().waiting] == [("full", 2)]
        await three.send("full", payload="hang")
        await until(lambda: ("full", "evicted") in ends())
        own.reload(
            lambda: replace(
                config, peers=(Peer(destination="com.one", key=make_key(1).public, verbs=frozenset({"x"})),)
            )
        )
        assert [(row.verb, row.state) for row in own.status().running] == [("full", "running")]
        _plugin.release.set()
        await until(lambda: not own.stats().queues)
        assert ends() == [("full", "evicted"), ("full", "not-permitted"), ("full", "not-permitted"), ("old", "expired")]
        _plugin.release.clear()
        await one.send("x", payload="hang")
        await one.send("x", payload="hang")
        await until(lambda: own.status().running and own.status().waiting)
        own.stop()
        await until(lambda: ("x", "stopping") in ends())
        assert own.status().state == "stopping"
        assert [row.verb for row in own.status().running] == ["x"]


async def test_a_reply_that_cannot_be_sent_yet_is_listed_as_replying(tmp_path, monkeypatch):
    broker, go = MemoryBroker(), asyncio.Event()
    original = Responses.send

    async def send(self, *arguments):
        await go.wait()
        return await original(self, *arguments)

    monkeypatch.setattr(Responses, "send", send)
    async with running(broker, tmp_path) as (own, _plugin):
        node = Node(broker.connect(), make_config(1), clock=clock)
        async with node.request("do", to="com.two", payload="ok", timeout=10) as request:
            await until(lambda: [row.state for row in own.status().running] == ["replying"])
            go.set()
            assert [reply.exit_code async for reply in request] == [0]
        await until(lambda: [(end.exit_code, end.reply_sent) for end in own.status().ended] == [(0, True)])


async def test_a_peer_that_may_ask_gets_the_status_without_its_own_question(tmp_path):
    broker = MemoryBroker()
    config = replace(
        make_config(2),
        peers=(
            Peer(destination="com.one", key=make_key(1).public, verbs=frozenset({"remaphore-status", "do"})),
            Peer(destination="com.three", key=make_key(3).public, verbs=frozenset({"do"})),
        ),
    )
    async with running(broker, tmp_path, config=config) as (own, plugin):
        for number, wanted in ((1, 0), (3, 77)):
            node = Node(broker.connect(), make_config(number), clock=clock)
            await node.send("do", to="com.two", payload="hang")
            await until(lambda number=number: len(own.status().running) + len(own.status().waiting) == min(number, 2))
            async with node.request("remaphore-status", to="com.two", timeout=10) as request:
                (reply,) = [reply async for reply in request]
            assert reply.exit_code == wanted
            if wanted == 0:
                found = status.parse(reply.output)
                assert [(row.verb, row.peer, row.state) for row in found.running] == [("do", "com.one", "running")]
                assert b"hang" not in reply.output
        assert plugin.ran


async def test_a_plugin_that_replies_to_the_verb_takes_precedence(tmp_path):
    class Own:
        @hookimpl
        def remaphore_message(self, message):
            return Reply(5, b"mine")

    broker = MemoryBroker()
    async with running_daemon(broker.connect(), tmp_path, plugins=plugin_manager(own=Own)):
        node = Node(broker.connect(), make_config(1), clock=clock)
        async with node.request("remaphore-status", to="com.two", timeout=10) as request:
            assert [(reply.exit_code, reply.output) async for reply in request] == [(5, b"mine")]


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["begin", "running", "replying", "handled", "rejected"]))))
def test_in_any_order_of_events_a_message_is_running_or_ended(events):
    activity, live, ended = Activity(clock=lambda: NOW), set(), 0
    for number, event in events:
        each = message(number)
        if event == "begin":
            activity.begin(each)
            live.add(each.digest[:8])
        elif event in ("running", "replying"):
            if each.digest[:8] in live:  # as `Execution` does
                activity.advance(each, event)
        else:
            if event == "handled":
                activity.handled(each, 0, sent=True)
            else:
                activity.rejected(each, "expired")
            live.discard(each.digest[:8])
            ended += 1
        assert {row.digest for row in activity.running()[0]} == live
        assert len(activity.ended()) == min(ended, module.MAX_ENDS)
