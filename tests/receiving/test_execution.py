"""What may fail while a message is handled and completed costs that message, and not those behind it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import structlog

from remaphore import hookimpl
from remaphore.config.settings import VerbSettings
from remaphore.errors import LedgerError
from remaphore.messaging.replier import UNSENDABLE
from remaphore.messaging.signer import Signer
from remaphore.node import Node
from remaphore.protocol.gate import Gate
from remaphore.protocol.message import Reply
from remaphore.protocol.shortcut import Shortcut
from remaphore.receiving import processor
from remaphore.receiving.ledger.ledger import Ledger
from remaphore.receiving.ledger.store import Store
from remaphore.receiving.queues import MAX_TURNS, VerbQueues
from remaphore.receiving.verifier import Verifier
from remaphore.tasks import spawn
from remaphore.transport.memory import MemoryBroker
from tests.harness.daemon import Mute, running_daemon
from tests.harness.nodes import clock, make_config
from tests.harness.plugins import plugin_manager
from tests.harness.waiting import until


class UnshowableError(Exception):
    """An error of a plugin that cannot be shown in any form."""

    def __repr__(self):
        raise RuntimeError("no repr")

    def __str__(self):
        raise SystemExit(3)


class Echo:
    """Echoes, and notes what it has handled and what it was notified of."""

    def __init__(self):
        self.ran, self.notified = [], []

    @hookimpl
    async def remaphore_message(self, message):
        self.ran.append(message.payload)
        await asyncio.sleep(0)
        return Reply(0, message.payload)

    @hookimpl
    def remaphore_handled(self, message, sent):
        self.notified.append((message.payload, sent))


def raising(hook, *, later=False):
    """Return a plugin whose only hook raises an error that cannot be shown."""

    def function(self):
        raise UnshowableError

    async def coroutine(self):
        await asyncio.sleep(0)
        raise UnshowableError

    return type("Raising", (), {hook: hookimpl(coroutine if later else function)})


@pytest.fixture
def running(tmp_path):
    @asynccontextmanager
    async def run(broker, *, bus=None, **plugins):
        manager = plugin_manager(**plugins)
        async with running_daemon(bus or broker.connect(), tmp_path, plugins=manager) as own:
            yield own

    return run


def sender(broker):
    return Node(broker.connect(), make_config(1), clock=clock)


async def ask(node, payload):
    async with node.request("echo", to="com.two", payload=payload, timeout=10) as exchange:
        return [reply.output async for reply in exchange]


FIVE = [b"%d" % number for number in range(5)]


async def ask_five(node):
    """Ask five times at once; return the outputs once all replies are there."""
    async with asyncio.timeout(20):
        replies = await asyncio.gather(*(ask(node, payload.decode()) for payload in FIVE))
    return [output for outputs in replies for output in outputs]


async def send_five(node):
    for payload in FIVE:
        await node.send("echo", payload=payload)


HOOKS = ["handled", "message", "admitted", "dropped", "startup", "shutdown"]
PLAIN = ["admitted", "dropped"]


@pytest.mark.parametrize(
    ("hook", "later"), [(hook, later) for hook in HOOKS for later in (False, True) if not (later and hook in PLAIN)]
)
async def test_an_error_that_cannot_be_shown_costs_no_message(running, hook, later):
    broker, echo = MemoryBroker(), Echo()
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
    with structlog.testing.capture_logs() as logs:
        async with running(broker, echo=echo, broken=raising(f"remaphore_{hook}", later=later)) as own:
            node = sender(broker)
            assert await ask_five(node) == FIVE
            await broker.connect().publish("remaphore.all", b"garbage")
            await send_five(node)
            await until(lambda: len(echo.notified) == 10)
        stats = own.stats()
    assert (stats.received, sum(stats.dropped.values()), stats.handled, stats.queues) == (11, 1, {"echo": 10}, {})
    assert reported == []
    failed = [(each["plugin"], each["error"]) for each in logs if each["event"] == "plugin_failed"]
    wanted = [] if hook == "message" else [("broken", "UnshowableError (cannot be shown: RuntimeError)")]
    assert failed == wanted  # errors of `remaphore_message` are shown by the plugin `log`


@pytest.mark.parametrize("wants_reply", [True, False])
async def test_a_notification_that_fails_is_logged_and_costs_no_message(running, monkeypatch, wants_reply):
    class Failing(processor.PreparedHook):
        def call(self, values, *, slow, in_task=True):
            if self.name == "remaphore_handled":
                raise UnshowableError
            return super().call(values, slow=slow, in_task=in_task)

    monkeypatch.setattr(processor, "PreparedHook", Failing)
    broker, echo = MemoryBroker(), Echo()
    with structlog.testing.capture_logs() as logs:
        async with running(broker, echo=echo) as own:
            if wants_reply:
                assert await ask_five(sender(broker)) == FIVE
            else:
                await send_five(sender(broker))
            await until(lambda: own.stats().handled == {"echo": 5} and not own.stats().queues)
    assert echo.ran == FIVE
    assert [each["event"] for each in logs if each["event"] == "notification_lost"] == ["notification_lost"] * 5


async def test_a_report_that_fails_later_costs_no_message(running, monkeypatch):
    """With a limit of none, the queue of the verb waits for each hook, and so gets what its task raises."""
    monkeypatch.setattr(processor, "MAX_NOTING", 0)
    broker, echo = MemoryBroker(), Echo()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    async with running(broker, echo=echo, broken=raising("remaphore_handled", later=True)) as own:

        def fail(*_outcomes, **_how):
            raise UnshowableError

        monkeypatch.setattr(own._errors, "report", fail)
        assert await ask_five(sender(broker)) == FIVE
        await send_five(sender(broker))
        async with asyncio.timeout(20):
            await own._execution.join()
        monkeypatch.undo()
    assert len(echo.notified) == 10


async def test_a_bus_that_raises_costs_the_reply_and_the_plugins_are_notified(running):
    broker, echo = MemoryBroker(), Echo()
    with structlog.testing.capture_logs() as logs:
        async with running(broker, bus=Mute(broker.connect(), UnshowableError), echo=echo):
            asked = spawn(ask_five(sender(broker)), name="asked")
            await until(lambda: len(echo.notified) == 5)
            asked.cancel()
    assert echo.notified == [(payload, False) for payload in FIVE]
    assert [each["event"] for each in logs].count("reply_failed") == 5


@pytest.mark.parametrize(
    "error", [LedgerError("broken on purpose"), RuntimeError("broken on purpose"), UnshowableError()]
)
async def test_a_ledger_that_cannot_record_a_completion_costs_no_reply_and_no_message(running, monkeypatch, error):
    async def done(self, digest, reply):
        raise error

    def note_done(self, digest):
        raise error

    monkeypatch.setattr(Ledger, "done", done)
    monkeypatch.setattr(Ledger, "note_done", note_done)
    broker, echo = MemoryBroker(), Echo()
    with structlog.testing.capture_logs() as logs:
        async with running(broker, echo=echo):
            assert await ask_five(sender(broker)) == FIVE
            await send_five(sender(broker))
            await until(lambda: len(echo.notified) == 10)
    assert echo.notified == [(payload, True) for payload in FIVE] + [(payload, False) for payload in FIVE]
    assert [each["event"] for each in logs].count("completion_not_recorded") == 10


async def test_a_processor_that_raises_costs_its_message_and_not_those_behind_it(running, monkeypatch):
    def fail(_processor, message, **_how):
        handled.append(message.payload)
        raise UnshowableError

    handled = []
    monkeypatch.setattr(processor.MessageProcessor, "start", fail)
    broker = MemoryBroker()
    with structlog.testing.capture_logs() as logs:
        async with running(broker, echo=Echo) as own:
            await send_five(sender(broker))
            await until(lambda: own.stats().handled == {"echo": 5} and not own.stats().queues)
    assert handled == FIVE
    assert [each["event"] for each in logs].count("message_lost") == 5


def breaking(monkeypatch, owner, name, error):
    """Let the function *name* of *owner* raise *error* until `undo`, except for the reply that replaces another."""
    original = getattr(owner, name)

    def fail(*arguments, **keywords):
        if UNSENDABLE in arguments:
            return original(*arguments, **keywords)
        raise error

    monkeypatch.setattr(owner, name, fail)


# Where a message can be lost, and the reply of its requester: the exit code, None for no reply.
PLACES = {
    "decode": (Gate, "decode", None),
    "the shortcut": (Shortcut, "judge", None),
    "the memory of the verifier": (Verifier, "put", None),
    "the room of the verifier": (Verifier, "_release", 0),
    "commit": (Gate, "commit", None),
    "the journal": (Ledger, "accepted", None),
    "the queue": (VerbQueues, "put", 75),
    "the start": (Ledger, "started", 75),
    "the write of the start": (Store, "apply", 75),
    "the plugins": (processor.MessageProcessor, "start", -1),
    "the choice of the reply": (processor, "choose_reply", -1),
    "the completion": (Ledger, "done", 0),
    "composing the reply": (Signer, "reply", -1),
}


@pytest.mark.parametrize(
    ("place", "error"),
    [
        *((place, error) for place in PLACES for error in (MemoryError(), UnshowableError())),
        *((place, asyncio.CancelledError()) for place in ("the start", "the plugins")),
    ],
)
async def test_whatever_raises_each_message_is_counted_once_and_its_requester_is_told(
    running, monkeypatch, place, error
):
    owner, name, code = PLACES[place]
    broker, node = MemoryBroker(), None
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    async with running(broker, echo=Echo) as own:
        node = sender(broker)
        breaking(monkeypatch, owner, name, error)
        asked = [spawn(ask_code(node, own, code), name="asked") for _ in range(3)]
        await send_five(node)
        await until(lambda: own.stats().received == 8 and unaccounted(own.stats()) == 0 and not own.stats().queues)
        codes = await asyncio.gather(*asked)
        await until(lambda: not own._responses.pending)
        monkeypatch.undo()
        assert codes == [code] * 3
        assert await ask(node, b"after") == [b"after"]
        await until(lambda: not own.stats().queues)
        assert unaccounted(own.stats()) == 0


async def ask_code(node, own, code):
    """Return the exit code of the reply to a request; None soon if no reply is expected, and none came."""
    async with node.request("echo", to="com.two", timeout=10) as exchange:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if code is not None else 0.05):
                async for reply in exchange:
                    return reply.exit_code
    return None


def unaccounted(stats):
    """Return how many of the messages that have arrived are in no place that `DaemonStats` counts, or in two."""
    places = (stats.dropped, stats.rejected, stats.handled)
    queued = sum(queue.waiting + queue.running for queue in stats.queues.values())
    return stats.received - stats.checking - sum(sum(place.values()) for place in places) - queued


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a coroutine that was never awaited
@pytest.mark.parametrize("cancelled", ["MessageProcessor._result_later", "_finish", "Execution._complete"])
async def test_a_task_that_is_cancelled_before_it_begins_costs_one_message(running, cancelled):
    def make(loop, coroutine, **how):
        task = asyncio.Task(coroutine, loop=loop, **how)
        if coroutine.__qualname__ == cancelled and not done:
            done.append(task.cancel())  # then none of its code runs, not even a `finally`
        return task

    done, broker = [], MemoryBroker()
    async with running(broker, echo=Echo) as own:
        asyncio.get_running_loop().set_task_factory(make)
        asked = [spawn(ask(sender(broker), payload), name="asked") for payload in FIVE]
        await until(lambda: own.stats().handled == {"echo": 5} and not own.stats().queues)
        asyncio.get_running_loop().set_task_factory(None)
        assert done == [True]
        assert await ask(sender(broker), b"after") == [b"after"]
        await until(lambda: not own.status().running and not own.stats().queues)
        assert unaccounted(own.stats()) == 0
        replied = await asyncio.wait(asked, timeout=0.1)
        assert len(replied[0]) >= 4
        for each in asked:
            each.cancel()


@pytest.mark.parametrize("cause", ["they have expired", "their sender is no peer any more", "the daemon stops"])
async def test_many_that_are_rejected_leave_the_event_loop_time_for_other_things(tmp_path, cause):
    """PINGs of the broker, say; and a loop that is blocked for 3 seconds after SIGTERM would end the daemon."""
    config = replace(make_config(2), verbs={"echo": VerbSettings(queue=1000)})
    gate, seen = asyncio.Event(), []

    class Waiting:
        @hookimpl
        async def remaphore_message(self, message):
            await gate.wait()

    async def look():
        while True:
            seen.append(sum(own.stats().rejected.values()))
            await asyncio.sleep(0)

    broker = MemoryBroker()
    plugins = plugin_manager(waiting=Waiting)
    async with running_daemon(broker.connect(), tmp_path, config=config, plugins=plugins) as own:
        for number in range(301):
            await sender(broker).send("echo", payload=b"%d" % number)
        await until(lambda: own.stats().queues and own.stats().queues["echo"].waiting == 300)
        looking = spawn(look(), name="look")
        if cause == "they have expired":
            own.reload(lambda: replace(config, verbs={"echo": VerbSettings(max_wait_seconds=0.0)}))
        elif cause == "their sender is no peer any more":
            own.reload(lambda: replace(config, peers=()))
        else:
            own.stop()
        gate.set()
        await until(lambda: sum(own.stats().rejected.values()) == 300)
        looking.cancel()
    assert max(after - before for before, after in itertools.pairwise(seen)) <= MAX_TURNS


class Accountant:
    """Compares in each hook what has arrived with the places that `DaemonStats` counts."""

    def __init__(self):
        self.sums = []

    @hookimpl
    def remaphore_startup(self, stats):
        self.stats = stats

    def _add(self, hook):
        self.sums.append((hook, unaccounted(self.stats())))

    @hookimpl
    def remaphore_admitted(self, message):
        self._add("admitted")

    @hookimpl
    def remaphore_message(self, message):
        self._add("message")

    @hookimpl
    def remaphore_handled(self, message):
        self._add(f"handled {message.wants_reply}")

    @hookimpl
    def remaphore_rejected(self, message, reason):
        self._add(f"rejected {reason}")

    @hookimpl
    def remaphore_dropped(self, drop):
        self._add(f"dropped {drop.reason}")


async def test_in_every_hook_each_message_is_counted_in_exactly_one_place(running, monkeypatch):
    broker, accountant = MemoryBroker(), Accountant()
    async with running(broker, echo=Echo, accountant=accountant) as own:
        node = sender(broker)
        assert await ask_five(node) == FIVE
        await send_five(node)
        await broker.connect().publish("remaphore.all", b"garbage")
        await broker.connect().publish(*next(each for each in broker.published if each[0] == "remaphore.all"))
        await until(lambda: own.stats().handled == {"echo": 10} and not own.stats().queues)
        monkeypatch.setattr(own._execution._queues, "put", lambda _message: "no room")
        await node.send("echo", payload="too much")
        await until(lambda: own.stats().rejected)
        await asyncio.sleep(0)
    hooks = {
        *("admitted", "message", "handled True", "handled False"),
        *("dropped malformed", "dropped duplicate", "rejected busy"),
    }
    assert {hook for hook, _ in accountant.sums} == hooks
    assert [each for each in accountant.sums if each[1]] == []
