"""A plugin that misbehaves at run time affects only itself: the daemon and the other plugins continue."""

import asyncio
import sys
from contextlib import asynccontextmanager

import pytest
import structlog

from remaphore import hookimpl
from remaphore.config.settings import VerbSettings
from remaphore.node import Node
from remaphore.protocol.drop import DropReason
from remaphore.protocol.message import Reply
from remaphore.receiving import daemon as daemon_module
from remaphore.receiving import execution, processor
from remaphore.testing import Clock, MemoryBroker, make_config
from tests.harness.daemon import running_daemon
from tests.harness.plugins import plugin_manager
from tests.harness.waiting import until

CLOCK = Clock()


class Echo:
    """A valid plugin, whose replies show that the daemon continues."""

    @hookimpl
    async def remaphore_message(self, message):
        return Reply(0, message.payload)


def raises(**_event):
    raise RuntimeError("broken")


async def raises_later(**_event):
    await asyncio.sleep(0)
    raise RuntimeError("broken")


def exits(**_event):
    sys.exit(3)


async def exits_later(**_event):
    await asyncio.sleep(0)
    sys.exit(3)


async def hangs(**_event):
    await asyncio.Event().wait()


class Stubborn:
    """Holds the event that ends a plugin that cannot be cancelled; each test sets its own."""

    release: asyncio.Event


async def swallows(**_event):
    while not Stubborn.release.is_set():
        try:
            await Stubborn.release.wait()
        except asyncio.CancelledError:
            continue


def interrupts(**_event):
    raise KeyboardInterrupt


def cancels(**_event):
    raise asyncio.CancelledError


async def cancels_later(**_event):
    await asyncio.sleep(0)
    raise asyncio.CancelledError


async def cancels_its_task_and_waits(**_event):
    asyncio.current_task().cancel()
    await asyncio.sleep(0)


async def cancels_its_task_and_returns(**_event):
    asyncio.current_task().cancel()


def cancels_the_task_that_calls_it(**_event):
    asyncio.current_task().cancel()


def returns_nonsense(**_event):
    return "text"


class HidesItsClass:
    """A result whose class cannot be told."""

    @property
    def __class__(self):
        raise RuntimeError("broken")


def returns_what_hides_its_class(**_event):
    return HidesItsClass()


class ExitsForItsClass:
    @property
    def __class__(self):
        raise SystemExit(3)


def returns_what_exits_for_its_class(**_event):
    return ExitsForItsClass()


PLAIN = [
    raises,
    exits,
    interrupts,
    cancels,
    cancels_the_task_that_calls_it,
    returns_nonsense,
    returns_what_hides_its_class,
    returns_what_exits_for_its_class,
]
LATE = [
    raises_later,
    exits_later,
    hangs,
    swallows,
    cancels_later,
    cancels_its_task_and_waits,
    cancels_its_task_and_returns,
]
# What each hook is called with; a plain hook cannot be `async def`.
WAITING = {
    "startup": ("stats", "context"),
    "message": ("message",),
    "handled": ("message", "outcomes", "reply", "sent"),
    "shutdown": ("reason",),
}
IN_PLACE = {"admitted": ("message",), "dropped": ("drop",), "reloaded": ("config",)}
CASES = [
    *((hook, arguments, fault) for hook, arguments in WAITING.items() for fault in (*PLAIN, *LATE)),
    *((hook, arguments, fault) for hook, arguments in IN_PLACE.items() for fault in PLAIN),
]


def broken(hook, arguments, fault):
    """Return a plugin whose only hook calls *fault*."""
    names, values = ", ".join(arguments), ", ".join(f"{name}={name}" for name in arguments)
    space = {"fault": fault}
    if asyncio.iscoroutinefunction(fault):
        exec(f"async def function(self, {names}): return await fault({values})", space)
    else:
        exec(f"def function(self, {names}): return fault({values})", space)
    return type("Broken", (), {f"remaphore_{hook}": hookimpl(space["function"])})


@pytest.fixture(autouse=True)
def _short_limits(monkeypatch):
    for module, name in (
        (execution, "GRACE_SECONDS"),
        (daemon_module, "HOOK_SECONDS"),
        (daemon_module, "STOP_SECONDS"),
        (daemon_module, "DRAIN_SECONDS"),
        (processor, "NOTE_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 0.05)


@pytest.fixture
async def release(monkeypatch):
    """After the test, ends the coroutines that swallow their cancellation."""
    event = asyncio.Event()
    monkeypatch.setattr(Stubborn, "release", event, raising=False)
    yield event
    event.set()
    await until(lambda: len(asyncio.all_tasks()) == 1)


@asynccontextmanager
async def running(folder, broker, config, *plugins):
    manager = plugin_manager(**{f"plugin{number}": plugin for number, plugin in enumerate(plugins)})
    created = CLOCK() - 1
    async with running_daemon(
        broker.connect(), folder, config=config, plugins=manager, clock=CLOCK, created=created
    ) as daemon:
        yield daemon


async def ask(node, payload):
    async with node.request("ping", payload=payload, timeout=10) as exchange:
        return [(reply.exit_code, reply.output) async for reply in exchange]


RAISING = {"raises", "exits", "interrupts", "cancels", "cancels_the_task_that_calls_it"}


@pytest.mark.usefixtures("release")
@pytest.mark.parametrize(("hook", "arguments", "fault"), CASES, ids=lambda value: getattr(value, "__name__", None))
async def test_a_plugin_that_misbehaves_at_run_time_affects_neither_the_daemon_nor_other_plugins(
    tmp_path, hook, arguments, fault
):
    broker = MemoryBroker()
    config = make_config(verbs={"ping": VerbSettings(timeout_seconds=0.05)})
    node = Node(broker.connect(), config, clock=CLOCK)
    async with asyncio.timeout(30):
        async with running(tmp_path, broker, config, broken(hook, arguments, fault), Echo) as daemon:
            # One after the other, then some at once: messages that wait behind the broken event must not be lost.
            assert await ask(node, "first") == [(0, b"first")]
            await broker.connect().publish("remaphore.all", b"nonsense")
            # A plugin that raises has not applied the configuration, and that is reported; the daemon has.
            assert daemon.reload(lambda: config) == (hook != "reloaded" or fault.__name__ not in RAISING)
            assert await asyncio.gather(*(ask(node, f"{n}") for n in range(5))) == [[(0, b"%d" % n)] for n in range(5)]
        assert daemon.stats().dropped == {DropReason.MALFORMED: 1}
        assert daemon.stats().handled == {"ping": 6}
        assert daemon.stats().replies == {"sent": 6}


class Note:
    """Records the outcome of each plugin."""

    def __init__(self):
        self.outcomes = {}

    @hookimpl
    def remaphore_handled(self, outcomes):
        self.outcomes.update({outcome.plugin: outcome for outcome in outcomes})


@pytest.mark.parametrize(
    ("result", "why"),
    [
        ("text", "returned str, not a Reply"),
        (Reply(0, "text"), "output is str, not bytes"),
        (Reply("0"), "exit_code is str, not int"),
        ((0, b""), "returned tuple, not a Reply"),
    ],
)
async def test_a_result_that_is_not_a_reply_is_an_error_of_that_plugin_and_the_next_one_answers(tmp_path, result, why):
    broker, config, note = MemoryBroker(), make_config(), Note()
    plugin = broken("message", ("message",), lambda message: result)
    async with running(tmp_path, broker, config, plugin, Echo, note):
        assert await ask(Node(broker.connect(), config, clock=CLOCK), "x") == [(0, b"x")]
    assert why in str(note.outcomes["plugin0"].error)
    assert note.outcomes["plugin1"].error is None


async def test_a_request_that_only_a_broken_plugin_acts_on_is_answered_with_minus_one(tmp_path):
    broker, config = MemoryBroker(), make_config()
    async with running(tmp_path, broker, config, broken("message", ("message",), raises)):
        assert await ask(Node(broker.connect(), config, clock=CLOCK), "x") == [(-1, b"")]


@pytest.mark.parametrize("hook", ["startup", "admitted", "handled", "dropped", "shutdown"])
async def test_an_error_of_a_plugin_is_logged_with_its_name_and_the_hook(tmp_path, hook):
    broker, config = MemoryBroker(), make_config()
    plugin = broken(hook, {**WAITING, **IN_PLACE}[hook], raises)
    with structlog.testing.capture_logs() as logs:
        async with running(tmp_path, broker, config, plugin, Echo):
            await ask(Node(broker.connect(), config, clock=CLOCK), "x")
            await broker.connect().publish("remaphore.all", b"nonsense")
    told = [entry for entry in logs if entry["event"] == "plugin_failed"]
    assert [(entry["plugin"], entry["hook"]) for entry in told] == [("plugin0", f"remaphore_{hook}")]
    assert "broken" in told[0]["error"]


class Slow:
    """Its handled hook does not return before the test releases it."""

    def __init__(self):
        self.release, self.handled = asyncio.Event(), []

    @hookimpl
    async def remaphore_handled(self, message, outcomes, reply, sent):
        self.handled.append((message.payload, [outcome.plugin for outcome in outcomes], reply, sent))
        await self.release.wait()


async def test_a_slow_handled_hook_delays_no_reply_and_is_called_once_for_each_message(tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "NOTE_SECONDS", 60)
    broker, config, slow = MemoryBroker(), make_config(), Slow()
    async with asyncio.timeout(30), running(tmp_path, broker, config, Echo, slow, Echo):
        node = Node(broker.connect(), config, clock=CLOCK)
        assert await ask(node, "first") == [(0, b"first")]
        assert await ask(node, "second") == [(0, b"second")]
        await node.send("ping", payload="third")
        await until(lambda: len(slow.handled) == 3)
        slow.release.set()
    both = ["plugin0", "plugin2"]
    assert slow.handled == [
        (b"first", both, Reply(0, b"first"), True),
        (b"second", both, Reply(0, b"second"), True),
        (b"third", both, Reply(0, b"third"), False),
    ]


async def test_the_number_of_handled_hooks_under_way_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "NOTE_SECONDS", 60)
    monkeypatch.setattr(processor, "MAX_NOTING", 2)
    broker, config, slow = MemoryBroker(), make_config(), Slow()
    async with asyncio.timeout(30), running(tmp_path, broker, config, Echo, slow) as daemon:
        node = Node(broker.connect(), config, clock=CLOCK)
        for number in range(10):
            await node.send("ping", payload=str(number))
        await until(lambda: len(slow.handled) == 4)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(slow.handled) == 4  # two under way, one that waits, and the one handled meanwhile
        slow.release.set()
        await until(lambda: daemon.stats().handled == {"ping": 10})
    assert len(slow.handled) == 10


async def test_a_message_without_a_reply_is_reported_too(tmp_path):
    broker, config, slow = MemoryBroker(), make_config(), Slow()
    slow.release.set()
    async with asyncio.timeout(30), running(tmp_path, broker, config, slow):
        node = Node(broker.connect(), config, clock=CLOCK)
        await node.send("ping", payload="x")
        async with node.request("other", payload="y", timeout=30) as request:
            assert [(reply.exit_code, reply.output) async for reply in request] == [(127, b"no handler\n")]
        await until(lambda: len(slow.handled) == 2)
    assert slow.handled == [(b"x", [], None, False), (b"y", [], Reply(127, b"no handler\n"), True)]
