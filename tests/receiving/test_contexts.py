"""What the daemon gives to its plugins: a node with its own signer, a directory, and tasks that end with it."""

import asyncio
import errno
import gc
import inspect
import os
import stat
import threading
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest
import structlog

from remaphore import PluginNode, hookimpl
from remaphore.config.settings import VerbSettings
from remaphore.errors import (
    BrokerUnavailableError,
    CoordinationUnavailableError,
    NoReceiversError,
    NotPermittedError,
    StateError,
    UsageError,
)
from remaphore.node import DaemonNode, Node
from remaphore.protocol import wire
from remaphore.protocol.drop import DropReason
from remaphore.protocol.message import Reply
from remaphore.receiving import daemon as module
from remaphore.receiving import execution
from remaphore.transport.memory import MemoryBroker
from remaphore.transport.nats_client import NatsBus
from tests.harness.daemon import running_daemon
from tests.harness.factories import make_key
from tests.harness.nodes import clock, make_config
from tests.harness.plugins import plugin_manager
from tests.harness.ports import free_port
from tests.harness.waiting import until, wait_despite_cancelling


@pytest.fixture(autouse=True)
def _brief_drain(monkeypatch):
    monkeypatch.setattr(module, "DRAIN_SECONDS", 0.05)


class Plugin:
    """Keeps its context; `echo` is answered; `wait` waits; any other verb is what the test sets as `on_message`."""

    def __init__(self, on_startup=None, on_message=None, on_shutdown=None):
        self.context = None
        self.release = asyncio.Event()
        self.events = []
        self._on_startup, self._on_message, self._on_shutdown = on_startup, on_message, on_shutdown

    @hookimpl
    async def remaphore_startup(self, context):
        self.context = context
        if self._on_startup:
            await self._on_startup(context)

    @hookimpl
    async def remaphore_message(self, message):
        if message.verb == "echo":
            return Reply(0, message.payload)
        return await self._on_message(self.context, message) if self._on_message else None

    @hookimpl
    async def remaphore_shutdown(self, reason):
        if self._on_shutdown:
            await self._on_shutdown(self.context)
        self.events.append(reason)


@asynccontextmanager
async def world(folder, *numbers, broker=None, configs=None, **plugins):
    """Daemons as nodes *numbers*, each with the plugins of its own; yield those of node 2 and its daemon."""
    broker = broker or MemoryBroker()
    async with AsyncExitStack() as stack:
        for number in numbers:
            own = plugins.get(f"node{number}", {})
            (folder / str(number)).mkdir(exist_ok=True, mode=0o700)
            daemon = await stack.enter_async_context(
                running_daemon(
                    broker.connect(),
                    folder / str(number),
                    config=(configs or {}).get(number) or make_config(number),
                    plugins=plugin_manager(**own),
                )
            )
        yield daemon


async def replies(node, verb, **options):
    async with node.request(verb, **{"timeout": 10, **options}) as request:
        return [(reply.peer, reply.exit_code, reply.output) async for reply in request]


def reply_subjects(broker):
    return [
        subject
        for subject, entries in broker.subscribers.items()
        if entries and not subject.endswith((".all", ".receipt"))
    ]


def messages(broker):
    return [wire.decode(raw).message() for _, raw in broker.published]


@pytest.mark.parametrize("name", ["send", "request", "lock"])
def test_its_calls_are_those_of_a_node(name):
    ours, declared = (inspect.signature(getattr(kind, name)) for kind in (Node, PluginNode))
    assert [*ours.parameters] == [*declared.parameters]
    for parameter in set(ours.parameters) - {"on_drop"}:
        assert str(ours.parameters[parameter]) == str(declared.parameters[parameter]).replace("_REQUEST", "REQUEST")
    assert getattr(Node, name) is getattr(DaemonNode, name)
    assert inspect.getdoc(getattr(Node, name)) == inspect.getdoc(getattr(PluginNode, name)).replace("context.", "")


async def test_each_plugin_has_a_context_of_its_own_on_the_node_of_the_daemon(tmp_path):
    first, second = Plugin(), Plugin()
    async with world(tmp_path, 2, node2={"first": first, "second": second}):
        contexts = first.context, second.context
        assert [context.name for context in contexts] == ["first", "second"]
        assert first.context.node is second.context.node
        assert {(context.config.destination, context.instance) for context in contexts} == {("com.two", "main")}
        assert [context.state_dir.name for context in contexts] == ["first", "second"]


async def test_the_locks_of_plugins_are_in_the_statistics_of_the_daemon(tmp_path):
    plugin = Plugin()
    async with world(tmp_path, 2, node2={"first": plugin}) as daemon:
        assert daemon.stats().locks == {}
        with pytest.raises(CoordinationUnavailableError):  # the bus is in memory
            async with plugin.context.node.lock("deploy", wait=0):
                pass
        assert (daemon.stats().locks["deploy"].waiting, daemon.stats().locks["deploy"].acquired) == (0, 0)
    with pytest.raises(UsageError, match=r"node\.lock was called too late"):
        async with plugin.context.node.lock("deploy"):
            pass


async def test_at_startup_in_a_message_and_at_shutdown_messages_can_be_sent_and_requested(tmp_path):
    seen = []

    async def ask(context, message=None):
        seen.append(await replies(context.node, "echo", to="com.one", payload="hello"))
        if message is not None:
            return Reply(0, b"asked")
        return None

    broker = MemoryBroker()
    async with world(tmp_path, 1, broker=broker, node1={"plugin": Plugin()}):
        async with world(tmp_path, 2, broker=broker, node2={"plugin": Plugin(ask, ask, ask)}):
            sender = Node(broker.connect(), make_config(3), clock=clock)
            assert await replies(sender, "other", to="com.two") == [("com.two", 0, b"asked")]
        assert seen == [[("com.one", 0, b"hello")]] * 3
    assert reply_subjects(broker) == []


async def test_a_plain_hook_sends_in_a_task_also_what_was_held_back_until_the_stop(tmp_path):
    class Alarm(Plugin):
        @hookimpl
        def remaphore_dropped(self, drop):
            if drop.reason is DropReason.MALFORMED:
                self.context.spawn(self.context.node.send("alarm", payload=str(drop.count)))

    broker = MemoryBroker()
    async with world(tmp_path, 2, broker=broker, node2={"alarm": Alarm()}):
        for _ in range(3):
            await broker.connect().publish("remaphore.all", b"malformed")
        await until(lambda: len(broker.published) == 4)
    alarms = [wire.decode(raw).message().payload for _, raw in broker.published if raw != b"malformed"]
    assert alarms == [b"1", b"2"]


async def test_no_nanosecond_is_signed_twice_by_the_daemon_and_its_plugins(tmp_path):
    async def send(context, message):
        await context.node.send("note")
        return Reply(0)

    broker = MemoryBroker()
    async with world(tmp_path, 2, broker=broker, node2={"a": Plugin(on_message=send), "b": Plugin(on_message=send)}):
        sender = Node(broker.connect(), make_config(3), clock=clock)  # the clock stands still
        for _ in range(5):
            await replies(sender, "other", to="com.two")
    own = make_key(2).public
    signed = [message for message in messages(broker) if message.sender == own]
    assert len(signed) == 15
    assert len({message.time_ns for message in signed}) == 15


async def test_a_reload_changes_identity_and_peers_of_the_next_call(tmp_path):
    broker, plugin = MemoryBroker(), Plugin()
    answering = {number: {"plugin": Plugin()} for number in (1, 3)}
    new = replace(make_config(1), destination="com.three")  # node 3's peers know node 1's key
    only_three = tuple(peer for peer in make_config(2).peers if peer.destination == "com.three")
    async with world(
        tmp_path, 1, 3, 2, broker=broker, node1=answering[1], node3=answering[3], node2={"p": plugin}
    ) as own:
        node = plugin.context.node
        assert {peer for peer, _, _ in await replies(node, "echo")} == {"com.one", "com.three"}
        assert own.reload(lambda: replace(make_config(2), peers=only_three, identities=new.identities))
        async with node.request("echo", timeout=10) as request:
            assert request.expected == ("com.three",)
            assert request.message.sender == make_key(1).public
            assert [reply.peer async for reply in request] == ["com.three"]
        denied = replace(make_config(2, "echo"), peers=only_three)
        assert own.reload(lambda: denied)
        with pytest.raises(NotPermittedError):
            await node.send("deploy")
        assert own.reload(lambda: replace(make_config(2), peers=()))
        with pytest.raises(NoReceiversError):
            await replies(node, "echo")


async def test_a_message_to_its_own_destination_is_dropped_and_a_request_finds_no_peer_there(tmp_path):
    plugin = Plugin()
    async with world(tmp_path, 2, node2={"plugin": plugin}) as own:
        await plugin.context.node.send("echo", to="com.two")
        await until(lambda: own.stats().dropped.get(DropReason.OWN_MESSAGE) == 1)
        with pytest.raises(NoReceiversError):
            await replies(plugin.context.node, "echo", to="com.two")


async def test_two_nodes_whose_plugins_request_each_other_wait_for_no_more_than_their_timeouts(tmp_path):
    async def back(context, message):
        other = "com.one" if context.config.destination == "com.two" else "com.two"
        found = await replies(context.node, "other", to=other, timeout=0.1)
        return Reply(len(found))

    broker = MemoryBroker()
    one, two = Plugin(on_message=back), Plugin(on_message=back)
    async with world(tmp_path, 1, 2, broker=broker, node1={"plugin": one}, node2={"plugin": two}):
        sender = Node(broker.connect(), make_config(3), clock=clock)
        assert [peer for peer, _, _ in await replies(sender, "other", to="com.two")] == ["com.two"]
    assert reply_subjects(broker) == []


async def test_a_request_ends_with_the_verbs_timeout_and_leaves_no_subscription(tmp_path, monkeypatch):
    monkeypatch.setattr(execution, "GRACE_SECONDS", 0.05)

    async def ask(context, message):
        return await replies(context.node, "echo", to="com.one", timeout=None)  # where no daemon runs

    broker = MemoryBroker()
    config = replace(make_config(2), verbs={"other": VerbSettings(timeout_seconds=0.05)})
    async with world(tmp_path, 2, broker=broker, configs={2: config}, node2={"plugin": Plugin(on_message=ask)}):
        sender = Node(broker.connect(), make_config(3), clock=clock)
        assert await replies(sender, "other", to="com.two") == [("com.two", -1, b"")]
        await until(lambda: not reply_subjects(broker))


async def test_no_request_leaves_a_subscription_also_if_there_are_many_or_if_it_is_abandoned(tmp_path):
    broker, plugin = MemoryBroker(), Plugin()
    configs = {1: replace(make_config(1), verbs={"echo": VerbSettings(queue=1000)})}
    nodes = {"node1": {"plugin": Plugin()}, "node2": {"plugin": plugin}}
    async with world(tmp_path, 1, 2, broker=broker, configs=configs, **nodes):
        node = plugin.context.node
        many = [plugin.context.spawn(replies(node, "echo", to="com.one", timeout=10)) for _ in range(200)]
        found = await asyncio.gather(*many)
        assert sum(len(each) for each in found) == 200
        assert reply_subjects(broker) == []

        async def abandon():
            await node.request("silent", to="com.three", timeout=None).__aenter__()
            assert len(reply_subjects(broker)) == 1

        await abandon()
        gc.collect()
        await until(lambda: not reply_subjects(broker))
        with pytest.raises(LookupError):
            async with node.request("echo", to="com.one"):
                raise LookupError
        assert reply_subjects(broker) == []


async def test_after_the_end_and_in_another_thread_every_call_is_an_error_that_says_so(tmp_path):
    plugin = Plugin()
    async with world(tmp_path, 2, node2={"plugin": plugin}):
        context, found = plugin.context, []

        async def call():
            for coroutine in (context.node.send("x"), replies(context.node, "echo", to="com.one")):
                try:
                    await coroutine
                except UsageError as error:
                    found.append((str(error), error.hint))

        thread = threading.Thread(target=lambda: asyncio.run(call()))
        thread.start()
        await asyncio.to_thread(thread.join)
        loop = asyncio.get_running_loop()
        sending = asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(context.node.send("x"), loop).result(10))
        assert (await sending).verb == "x"
    hint = "call it in a coroutine of asyncio.run_coroutine_threadsafe, with the loop of remaphore_startup"
    assert found == [(f"node.{name} was called outside the daemon's thread", hint) for name in ("send", "request")]
    del found[:]
    await call()
    hint = "call it before remaphore_shutdown returns"
    assert found == [(f"node.{name} was called too late: the daemon has stopped", hint) for name in ("send", "request")]


async def test_without_a_broker_a_call_waits_for_its_timeout_and_a_task_that_waits_ends_with_the_daemon(tmp_path):
    plugin = Plugin()
    nats = NatsBus.start([f"nats://127.0.0.1:{free_port()}"], auth=make_config().auth, on_notice=lambda _line: None)

    class Away(MemoryBroker):
        """Its subscriptions are confirmed, and nothing is ever published."""

        def connect(self):
            bus = super().connect()
            bus.publish = nats.publish
            return bus

    async with world(tmp_path, 2, broker=Away(), node2={"plugin": plugin}):
        with pytest.raises(BrokerUnavailableError, match="message not sent"):
            await plugin.context.node.send("x", timeout=0.05)
        assert await replies(plugin.context.node, "echo", to="com.one", timeout=0.05) == []
        task = plugin.context.spawn(plugin.context.node.send("x"))
        await asyncio.sleep(0)
    await nats.close()
    assert task.cancelled()


async def test_a_stop_ends_tasks_and_their_requests_after_the_shutdown_of_the_plugins(tmp_path):
    events, broker = [], MemoryBroker()

    async def task(context):
        try:
            await replies(context.node, "echo", to="com.one", timeout=None)
        except asyncio.CancelledError:
            events.append(f"cancelled after {plugin.events}")
            await context.node.send("bye")
            raise

    plugin = Plugin()
    async with world(tmp_path, 2, broker=broker, node2={"plugin": plugin}) as own:
        running = plugin.context.spawn(task(plugin.context))
        await until(lambda: len(reply_subjects(broker)) == 1)
        assert own.reload(lambda: make_config(2))
        assert not running.done()
    assert (running.cancelled(), events) == (True, ["cancelled after ['stopped']"])
    assert messages(broker)[-1].verb == "bye"
    assert reply_subjects(broker) == []


async def test_a_task_that_fails_or_does_not_end_is_named_and_the_daemon_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STOP_SECONDS", 0.05)
    release = asyncio.Event()

    async def fail():
        raise SystemExit("mine")

    async def refuse():
        await wait_despite_cancelling(release)

    plugin = Plugin()
    with structlog.testing.capture_logs() as logs:
        async with world(tmp_path, 2, node2={"poll": plugin}):
            tasks = [plugin.context.spawn(coroutine()) for coroutine in (fail, fail, refuse, refuse)]
            await asyncio.wait(tasks[:2])
    release.set()
    await asyncio.wait(tasks[2:])
    found = [(line["event"], line["plugin"], line["task"].rpartition(".")[2]) for line in logs if "task" in line]
    # The second failure of a plugin's tasks within a minute is counted only, as that of a hook is.
    assert found == [("plugin_failed", "poll", "fail"), ("plugin_task_abandoned", "poll", "refuse")]
    assert [line["count"] for line in logs if line["event"] == "plugin_task_abandoned"] == [2]
    assert "SystemExit('mine')" in next(line["error"] for line in logs if line["event"] == "plugin_failed")


async def test_an_error_about_a_file_is_logged_with_the_file(tmp_path):
    async def read():
        (tmp_path / "missing").read_text()

    plugin = Plugin()
    with structlog.testing.capture_logs() as logs:
        async with world(tmp_path, 2, node2={"poll": plugin}):
            await asyncio.wait([plugin.context.spawn(read())])
    (error,) = [line["error"] for line in logs if line["event"] == "plugin_failed"]
    assert error == f"FileNotFoundError: [Errno 2] No such file or directory: '{tmp_path}/missing'"


async def test_a_directory_is_made_when_it_is_first_used_and_for_its_owner_alone(tmp_path):
    used, unused = Plugin(), Plugin()
    before = os.umask(0)
    try:
        async with world(tmp_path, 2, node2={"used": used, "unused": unused}):
            assert not (tmp_path / "2" / "plugins").exists()
            path = used.context.state_dir
            (path / "file").write_text("kept")
            assert used.context.state_dir == path
    finally:
        os.umask(before)
    assert path == tmp_path / "2" / "plugins" / "used"
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)] == [0o700, 0o700]
    assert [each.name for each in path.parent.iterdir()] == ["used"]
    again = Plugin()
    async with world(tmp_path, 2, node2={"used": again}):
        assert (again.context.state_dir / "file").read_text() == "kept"


async def test_a_directory_that_cannot_be_made_costs_only_its_plugin_and_is_tried_again(tmp_path, monkeypatch):
    full = [True]
    real = os.mkdir

    def mkdir(path, *args, **options):
        if full and "plugins" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, *args, **options)

    async def use(context):
        (context.state_dir / "file").touch()

    monkeypatch.setattr(os, "mkdir", mkdir)
    broken, other = Plugin(use), Plugin()
    with structlog.testing.capture_logs() as logs:
        async with world(tmp_path, 2, node2={"other": other, "broken": broken}):
            (line,) = [line for line in logs if line["event"] == "plugin_failed"]
            assert (line["plugin"], line["hook"]) == ("broken", "remaphore_startup")
            assert line["error"] == f"state directory {tmp_path}/2/plugins: No space left on device"
            assert line["hint"] == "free some space, or inodes, on the file system (df, df -i)"
            with pytest.raises(StateError):
                _ = broken.context.state_dir
            full.clear()
            assert broken.context.state_dir.is_dir()
            assert other.context is not None
