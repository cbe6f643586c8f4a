"""The daemon: each message ends in one place, each request gets a reply, and a new configuration takes effect."""

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from remaphore import hookimpl, logs
from remaphore.config.settings import VerbSettings
from remaphore.errors import ConfigError, PluginError
from remaphore.node import DaemonNode, Node
from remaphore.protocol.drop import DropReason
from remaphore.protocol.message import Reply
from remaphore.protocol.payloads import PayloadRule
from remaphore.protocol.peers import Peer
from remaphore.protocol.ping import Invocation, parse_reply
from remaphore.receiving import daemon as module
from remaphore.receiving.daemon import Daemon
from remaphore.receiving.ledger.ledger import Ledger
from remaphore.tasks import spawn
from remaphore.transport.memory import MemoryBroker, MemoryBus
from tests.harness.daemon import running_daemon
from tests.harness.factories import NOW, make_key, make_peer
from tests.harness.nodes import clock, make_config
from tests.harness.plugins import plugin_manager
from tests.harness.waiting import until


@pytest.fixture(autouse=True)
def _brief_drain(monkeypatch):
    monkeypatch.setattr(module, "DRAIN_SECONDS", 0.05)


class Plugin:
    """Acts by verb: `fail` raises, `wait` waits for the release, `none` has no reply, others echo."""

    def __init__(self):
        self.release = asyncio.Event()
        self.stats = None
        self.ran, self.dropped, self.reloads, self.shutdowns = [], [], [], []

    @hookimpl
    def remaphore_startup(self, stats):
        self.stats = stats

    @hookimpl
    def remaphore_dropped(self, drop):
        self.dropped.append(drop)

    @hookimpl
    def remaphore_reloaded(self, config):
        self.reloads.append(config)

    @hookimpl
    async def remaphore_message(self, message):
        self.ran.append(message.verb)
        if message.verb == "fail":
            raise RuntimeError("it failed")
        if message.verb == "wait":
            await self.release.wait()
        return None if message.verb == "none" else Reply(0, message.payload)

    @hookimpl
    def remaphore_shutdown(self, reason):
        self.shutdowns.append(reason)
        self.release.set()


@pytest.fixture
def running(tmp_path):
    """Starts a daemon at work as node 2, with its plugin, on a ledger in tmp_path."""

    @asynccontextmanager
    async def run(broker, config=None, now=None, plugin=None):
        plugin = plugin or Plugin()
        plugins = plugin_manager(plugin=plugin)
        async with running_daemon(
            broker.connect(), tmp_path, config=config, plugins=plugins, clock=now or clock
        ) as own:
            yield own, plugin

    return run


def asking(broker):
    return Node(broker.connect(), make_config(1), clock=clock)


async def ask(node, verb, payload="", timeout=10):
    async with node.request(verb, to="com.two", payload=payload, timeout=timeout) as exchange:
        replies = [(reply.exit_code, reply.output) async for reply in exchange]
    return replies[0] if replies else None


def accounted(stats):
    waiting = stats.checking + sum(queue.waiting + queue.running for queue in stats.queues.values())
    return sum(stats.dropped.values()) + sum(stats.rejected.values()) + sum(stats.handled.values()) + waiting


async def test_a_request_is_answered_by_the_plugins(running):
    broker = MemoryBroker()
    async with running(broker):
        assert await ask(asking(broker), "echo", "hello") == (0, b"hello")


async def test_without_a_reply_of_a_plugin_the_exit_code_is_127(running):
    broker = MemoryBroker()
    async with running(broker):
        assert await ask(asking(broker), "none") == (127, b"no handler\n")


async def test_a_ping_that_no_plugin_replies_to_is_answered_with_the_invocation_of_the_daemon(tmp_path):
    class Startup:
        def __init__(self):
            self.contexts = []

        @hookimpl
        def remaphore_startup(self, context):
            self.contexts.append(context)

    startup, broker, answers = Startup(), MemoryBroker(), []
    for _restart in range(2):
        async with running_daemon(broker.connect(), tmp_path, plugins=plugin_manager(startup=startup)):
            answers.append(await ask(asking(broker), "ping"))
            answers.append(await ask(asking(broker), "ping", "again"))
            assert await ask(asking(broker), "pings") == (127, b"no handler\n")
    runs = [Invocation(context.invocation, context.instance) for context in startup.contexts]
    assert [code for code, _ in answers] == [0] * 4
    assert [parse_reply(output) for _, output in answers] == [runs[0], runs[0], runs[1], runs[1]]
    assert runs[0].number != runs[1].number


@pytest.mark.parametrize(("fails", "answer"), [(False, (3, b"mine")), (True, (-1, b""))])
async def test_a_ping_that_a_plugin_replied_to_or_failed_at_keeps_that_result(tmp_path, fails, answer):
    class Replies:
        @hookimpl
        def remaphore_message(self, message):
            if fails:
                raise RuntimeError(message.verb)
            return Reply(3, b"mine")

    broker = MemoryBroker()
    async with running_daemon(broker.connect(), tmp_path, plugins=plugin_manager(replies=Replies())):
        assert await ask(asking(broker), "ping") == answer


async def test_a_failing_plugin_is_minus_one_and_the_daemon_continues(running):
    broker = MemoryBroker()
    async with running(broker):
        assert await ask(asking(broker), "fail") == (-1, b"")
        assert await ask(asking(broker), "echo", "x") == (0, b"x")


async def test_a_full_queue_rejects_a_request_as_busy_and_everything_is_counted(running):
    broker = MemoryBroker()
    config = replace(make_config(2), verbs={"wait": VerbSettings(queue=2)})
    async with running(broker, config) as (_, plugin):
        node = asking(broker)
        await node.send("wait")
        while not plugin.ran:
            await asyncio.sleep(0)
        await node.send("wait")
        await node.send("wait")
        code, output = await ask(node, "wait")
        assert (code, output) == (75, b"remaphore: refused: busy: messages of this verb that are already waiting: 2")
        await node.send("wait")
        await broker.connect().publish("remaphore.all", b"garbage")
        while plugin.stats().checking:
            await asyncio.sleep(0)
        assert plugin.stats().rejected == {"busy": 2}
        assert plugin.stats().dropped == {DropReason.MALFORMED: 1}
        assert plugin.stats().received == 6 == accounted(plugin.stats())
    assert plugin.stats().received == accounted(plugin.stats())
    assert plugin.stats().handled == {"wait": 1}
    assert plugin.stats().rejected == {"busy": 2, "stopping": 2}


async def test_a_message_that_waited_too_long_is_rejected_and_does_not_run(running):
    broker = MemoryBroker()
    config = replace(make_config(2), verbs={"wait": VerbSettings(max_wait_seconds=0.05)})
    async with running(broker, config) as (_, plugin):
        node = asking(broker)
        await node.send("wait")
        while not plugin.ran:
            await asyncio.sleep(0)
        late = spawn(ask(node, "wait"), name="late")
        while not plugin.stats().queues["wait"].waiting or plugin.stats().queues["wait"].oldest_seconds < 0.06:
            await asyncio.sleep(0)
        plugin.release.set()
        assert await late == (75, b"remaphore: refused: expired: it waited longer than 0.05 s")
        assert plugin.ran == ["wait"]


async def test_stopping_ends_what_runs_and_answers_all_that_was_accepted(running):
    broker = MemoryBroker()
    node = asking(broker)
    async with running(broker) as (own, plugin):
        asked = [spawn(ask(node, "wait", str(number)), name="asked") for number in range(5)]
        while own.stats().received < 5 or not plugin.ran:
            await asyncio.sleep(0)
        own.stop()
        answers = await asyncio.gather(*asked)
    assert sorted(answers) == [(0, b"0")] + [(75, b"remaphore: refused: stopping: shutting down")] * 4
    assert plugin.shutdowns == ["stopped"]
    assert not any(broker.subscribers["remaphore.all"])


class Unconfirming(MemoryBus):
    """Delivers what is published, and never confirms a subscription."""

    async def subscribe(self, subject, deliver):
        await super().subscribe(subject, deliver)
        await asyncio.Event().wait()


async def test_stopping_before_the_broker_has_confirmed_still_ends_what_runs(tmp_path):
    broker, plugin = MemoryBroker(), Plugin()
    manager = plugin_manager(plugin=plugin)
    async with Ledger(tmp_path, allow_skew_ns=10**9, now=NOW - 1) as ledger:
        own = Daemon(
            Unconfirming(broker),
            make_config(2),
            plugins=manager,
            ledger=ledger,
            folder=tmp_path,
            make_node=DaemonNode,
            clock=clock,
        )
        task = spawn(own.run(ready=lambda: None), name="daemon under test")
        while not broker.subscribers["remaphore.all"]:
            await asyncio.sleep(0)
        asked = spawn(ask(asking(broker), "wait", "x"), name="asked")
        while not plugin.ran:
            await asyncio.sleep(0)
        own.stop()
        await task
        assert await asked == (0, b"x")
    assert (plugin.stats, plugin.shutdowns) == (None, ["stopped"])


async def test_a_reload_changes_permissions_also_for_messages_that_wait(running):
    broker = MemoryBroker()
    async with running(broker) as (own, plugin):
        node = asking(broker)
        await node.send("wait")
        while not plugin.ran:
            await asyncio.sleep(0)
        waiting = spawn(ask(node, "wait"), name="waiting")
        while not plugin.stats().queues["wait"].waiting:
            await asyncio.sleep(0)
        narrowed = (Peer(destination="com.one", key=make_key(1).public, verbs=frozenset({"echo"})),)
        assert own.reload(lambda: make_config(2, peers=narrowed))
        plugin.release.set()
        assert await waiting == (
            77,
            b"remaphore: refused: not-permitted: no longer among the verbs of this peer",
        )
        assert await ask(node, "echo", "x") == (0, b"x")
        assert await ask(node, "other") == (
            77,
            b"remaphore: refused: verb-not-permitted: not among the peer's verbs",
        )
        assert plugin.reloads[0].peers == narrowed
    assert plugin.ran == ["wait", "echo"]


async def test_a_reload_changes_payload_rules_also_for_messages_that_wait(running):
    broker = MemoryBroker()
    async with running(broker) as (own, plugin):
        node = asking(broker)
        await node.send("wait")
        while not plugin.ran:
            await asyncio.sleep(0)
        waiting = [spawn(ask(node, "wait", payload), name="waiting") for payload in ("x", "y")]
        while plugin.stats().queues["wait"].waiting < len(waiting):
            await asyncio.sleep(0)
        ruled = replace(make_peer(1, "com.one"), only={"wait": PayloadRule.of(payloads=["x"])})
        assert own.reload(lambda: make_config(2, peers=(ruled,)))
        plugin.release.set()
        refused = b"remaphore: refused: not-permitted: no longer among the payloads of this peer"
        assert await asyncio.gather(*waiting) == [(0, b"x"), (77, refused)]
        refused = b"remaphore: refused: payload-not-permitted: not among the payloads that the peer may send"
        code, output = await ask(node, "wait", "z")
        assert (code, output.startswith(refused)) == (77, True)
        assert plugin.stats().rejected == {"not-permitted": 1, "payload-not-permitted": 1}


async def test_a_reload_runs_nothing_again(running):
    broker = MemoryBroker()
    async with running(broker) as (own, plugin):
        await asking(broker).send("echo", payload="once")
        captured = broker.published[-1]
        while not plugin.ran:
            await asyncio.sleep(0)
        own.reload(lambda: replace(make_config(2), allow_skew_ns=make_config(2).allow_skew_ns * 10))
        await broker.connect().publish(*captured)
        assert await ask(asking(broker), "echo", "x") == (0, b"x")
        assert plugin.ran == ["echo", "echo"]
        assert plugin.stats().dropped == {DropReason.DUPLICATE: 1}


class Broken(Plugin):
    """A plugin that cannot apply a new configuration."""

    @hookimpl
    def remaphore_reloaded(self, config):
        super().remaphore_reloaded(config)
        raise PluginError("no user 'deploy'", hint="set another user")


@pytest.mark.parametrize(
    "error", [ConfigError("x.toml: peers[3].key: not base58"), FileNotFoundError(2, "No such file"), RuntimeError("?")]
)
async def test_a_configuration_that_cannot_be_loaded_is_rejected_and_the_old_one_stays(running, error, capsys):
    def bad():
        raise error

    broker = MemoryBroker()
    async with running(broker) as (own, plugin):
        logs.configure("console")
        assert not own.reload(bad)
        await asyncio.sleep(0)
        assert "reload_rejected" in capsys.readouterr().err
        assert await ask(asking(broker), "echo", "x") == (0, b"x")
        assert plugin.reloads == []


async def test_a_configuration_that_a_part_cannot_apply_is_in_effect_in_none(running, monkeypatch):
    broker = MemoryBroker()
    async with running(broker) as (own, plugin):
        responses, kept = own._responses, own._config

        def broken(config):
            if config is not kept:
                raise MemoryError

        monkeypatch.setattr(responses, "apply_config", broken)  # the last of the parts
        assert not own.reload(lambda: make_config(2, peers=()))
        assert await ask(asking(broker), "echo", "x") == (0, b"x")  # with the new one, the peer would be unknown
        assert plugin.reloads == []


async def test_a_plugin_that_fails_at_a_reload_is_named_and_nothing_is_reported_as_reloaded(running, capsys):
    broker = MemoryBroker()
    async with running(broker, plugin=Broken()) as (own, plugin):
        logs.configure("console")
        for _ in range(2):  # each time, not once a minute
            assert not own.reload(lambda: make_config(2))
        await asyncio.sleep(0)
        text = capsys.readouterr().err
        assert text.count("reload_failed plugin=plugin error=PluginError(\"no user 'deploy'\")") == 2
        assert text.count("hint=set another user") == 2
        assert "reloaded peers" not in text
        assert len(plugin.reloads) == 2


async def test_a_clock_or_ledger_that_fails_once_does_not_end_the_expiry(running, monkeypatch):
    monkeypatch.setattr(module, "EXPIRE_SECONDS", 0.001)
    failures, expired = [OSError("disk"), MemoryError()], []

    def expire(now):
        if failures:
            raise failures.pop()
        expired.append(now)

    async with running(MemoryBroker()) as (own, _):
        monkeypatch.setattr(own._ledger, "expire", expire)
        await until(lambda: expired)
        monkeypatch.undo()


class Slow(Plugin):
    """A plugin whose start takes as long as it is permitted to."""

    begun = False

    @hookimpl
    async def remaphore_startup(self, stats):
        self.begun = True
        await asyncio.Event().wait()


async def test_stopping_does_not_wait_for_a_plugin_that_starts_slowly(tmp_path):
    plugin = Slow()
    ready = []
    async with Ledger(tmp_path, allow_skew_ns=10**9, now=NOW - 1) as ledger:
        bus, manager = MemoryBroker().connect(), plugin_manager(plugin=plugin)
        own = Daemon(
            bus, make_config(2), plugins=manager, ledger=ledger, folder=tmp_path, make_node=DaemonNode, clock=clock
        )
        task = spawn(own.run(ready=lambda: ready.append(True)), name="daemon under test")
        await until(lambda: plugin.begun)
        own.stop()
        await asyncio.wait_for(task, module.HOOK_SECONDS / 2)
    assert (ready, plugin.shutdowns) == ([], ["stopped"])


@pytest.mark.parametrize(
    ("change", "settings"),
    [
        ({"servers": ("nats://other:4222",)}, ["servers"]),
        ({"subject": "other"}, ["subject"]),
        (
            {"enabled_plugins": ("disk", "new"), "plugins": {"disk": {"path": "/srv"}}},
            ["plugins.enable", "plugins.disk"],
        ),
        ({"plugins": {"disk": {}, "other": {"path": "/srv"}}}, []),  # of a plugin that is not loaded, and no change
    ],
)
async def test_settings_that_need_a_restart_are_kept_and_logged(running, change, settings, capsys):
    broker = MemoryBroker()
    config = replace(make_config(2), enabled_plugins=("disk",))
    async with running(broker, config) as (own, _):
        logs.configure("console")
        own.reload(lambda: replace(config, **change))
        await asyncio.sleep(0)  # the lines of a turn of the loop are written at its end
        assert re.findall(r"restart_needed setting=(\S+)", capsys.readouterr().err) == settings
        assert await ask(asking(broker), "echo", "x") == (0, b"x")
