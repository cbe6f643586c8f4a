"""A hub and twelve spokes that do not know each other: messages that are not for a node are no alarm in its log.

All nodes share one subject, so each sees the messages of all others, and its own.
"""

import asyncio
import json
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import remaphore
from remaphore import Reply, hookimpl
from remaphore.config.settings import Auth, Config, Identity, VerbSettings
from remaphore.node import Node
from remaphore.protocol import wire
from remaphore.protocol.gate import Filters
from remaphore.protocol.match import matches
from remaphore.protocol.peers import Peer
from remaphore.receiving.receiver import Receiver
from remaphore.tasks import spawn
from remaphore.transport.memory import MemoryBroker
from remaphore_plugins.log import Log
from tests.harness.daemon import running_daemon
from tests.harness.factories import make_key
from tests.harness.metrics import scrape
from tests.harness.node_files import Entry, write_toml
from tests.harness.nodes import clock
from tests.harness.plugins import plugin_manager
from tests.harness.processes import Process

HUB = "com.example.hub"
SPOKES = [f"com.example.spoke{number}" for number in range(1, 13)]
NAMES = [HUB, *SPOKES]
NUMBERS = {name: number for number, name in enumerate(NAMES, 1)}
# Patterns that match the hub and spokes, some of them, or only the hub.
WIDE = ["**", "com.example.*", "com.**", "com.example.spoke*", "*.example.hub", "com.example.spoke1*", "com.exa*.*"]
# The hub lists itself, as with one list on all nodes; a spoke does not, so its messages to `**` come back as its own.
PEERS = {HUB: NAMES} | {name: [HUB] for name in SPOKES}
ROOM = 20_000  # a queue is no matter of this test


def permitted(name):
    """Return the verbs that *name* lets its peers send: some spokes do not let the hub deploy."""
    return ["note", "ping", "permissions"] if name in SPOKES[:9:2] else ["*"]


def legitimate(exact, wide):
    """Yield what the nodes send: sender, verb, pattern, and whether it requests replies."""
    for number in range(exact):
        spoke = SPOKES[number // 2 % 12]
        sender, to = (HUB, spoke) if number % 2 else (spoke, HUB)
        yield sender, "note", to, number % 8 < 2
    for number in range(wide):
        sender, to = HUB if number % 2 else SPOKES[number // 2 % 12], WIDE[number // 2 % len(WIDE)]
        if number % 3 == 0:
            # Few requests of this verb: a node sends five rejections a second.
            yield sender, "deploy", to, sender == HUB and number in (9, 33)
        else:
            # A spoke knows only the hub, so there is no recipient for its request to spokes alone.
            yield sender, "note", to, number % 8 < 2 and (sender == HUB or "spoke" not in to)


async def send_all(nodes, messages):
    """Send *messages*, and return when every node has seen them all: a node answers after what came before."""
    for sender, verb, to, wants_reply in messages:
        await (ask(nodes[sender], verb, to) if wants_reply else nodes[sender].send(verb, to=to))
    for name in SPOKES:
        assert await ask(nodes[HUB], "note", name) == (name,)
        assert await ask(nodes[name], "note", HUB) == (HUB,)


async def ask(node, verb, to):
    """Return who replied, once all expected nodes have."""
    async with node.request(verb, to=to) as request:
        async for _ in request:
            pass
    assert not request.summary().missing, (verb, to)
    return request.summary().answered


async def send_alarms(nodes):
    """Send the two messages that deserve a warning: each to one spoke alone, which does not permit it."""
    await nodes[SPOKES[3]].send("note", to=SPOKES[5])
    await nodes[HUB].send("deploy", to=SPOKES[0])
    await ask(nodes[HUB], "note", SPOKES[5])
    await ask(nodes[HUB], "note", SPOKES[0])


def make_config(name, servers=("nats://127.0.0.1:4222",)):
    key = make_key(NUMBERS[name])
    return Config(
        source=name,
        destination=name,
        servers=servers,
        auth=Auth(kind="none"),
        identities=(Identity(key=key.public, verbs=frozenset("*"), load=lambda: key),),
        peers=tuple(
            Peer(destination=peer, key=make_key(NUMBERS[peer]).public, verbs=frozenset(permitted(name)))
            for peer in PEERS[name]
        ),
        verbs={verb: VerbSettings(queue=ROOM) for verb in ("note", "deploy")},
    )


class Echo:
    @hookimpl
    def remaphore_message(self, message):
        return Reply(0, message.payload)


@asynccontextmanager
async def receiving(broker, folder, name):
    """Run *name* with the plugin log: daemons, three receivers, and one that uses the Python API."""
    config, bus = make_config(name), broker.connect()
    plugins = plugin_manager(echo=Echo(), log=Log())
    if name in SPOKES[9:11]:
        ready = asyncio.Event()
        receiver = Receiver(bus, config, filters=Filters(), plugins=plugins, clock=clock)
        task = spawn(receiver.run(deadline=None, ready=ready.set), name=name)
        await ready.wait()
        yield
        receiver.stop("done")
        await task
    elif name == SPOKES[11]:
        task = spawn(reply_to_all(Node(bus, config, clock=clock)), name=name)
        await asyncio.sleep(0)
        yield
        task.cancel()
        await asyncio.wait({task})
    else:
        folder = folder / name
        folder.mkdir()
        async with running_daemon(bus, folder, config=config, plugins=plugins, clock=clock, created=0):
            yield


async def reply_to_all(node):
    async for message in node.receive(on_drop=Log().remaphore_dropped):
        if message.wants_reply:
            await node.reply(message, 0)


async def test_what_a_hub_and_its_spokes_send_each_other_is_a_warning_in_no_log(tmp_path):
    broker = MemoryBroker()
    async with AsyncExitStack() as stack:
        logged = stack.enter_context(capture_logs())
        for name in NAMES:
            await stack.enter_async_context(receiving(broker, tmp_path, name))
        nodes = {name: Node(broker.connect(), make_config(name), clock=clock) for name in NAMES}
        await send_all(nodes, legitimate(48, 48))
        assert [line for line in logged if line["log_level"] not in ("debug", "info")] == []
        dropped = [line for line in logged if line["event"] == "message_dropped"]
        assert {"not-addressed", "own-message", "unknown-sender", "verb-not-permitted"} == {
            line["reason"] for line in dropped
        }
        await send_alarms(nodes)
    warnings = [line for line in logged if line["log_level"] not in ("debug", "info")]
    assert [(line["reason"], line["exact"]) for line in warnings] == [
        ("unknown-sender", True),
        ("verb-not-permitted", True),
    ]
    sent = [wire.decode(raw).destination for subject, raw in broker.published if subject == "remaphore.all"]
    elsewhere = sum(not matches(name, pattern) for pattern in sent for name in NAMES)
    dropped = [line for line in logged if line["event"] == "message_dropped" and line["reason"] == "not-addressed"]
    assert sum(line["count"] for line in dropped) == elsewhere


METRICS = '[plugins]\nenable = ["metrics"]\n[plugins.metrics]\nlisten = "127.0.0.1:0"\n'
QUEUES = "".join(f"[verbs.{verb}]\nqueue = {ROOM}\n" for verb in ("note", "deploy"))


def start(folder: Path, name: str, url: str) -> Process:
    """Start the daemon of *name*."""
    config = write_toml(
        folder / f"{name}.toml",
        NUMBERS[name],
        name,
        servers=[url],
        settings=f'allow_skew = "30s"\nstate_dir = "{folder}/{name}"\nhooks = []\n',
        peers=[Entry(peer, NUMBERS[peer], permitted(name)) for peer in PEERS[name]],
        tables=QUEUES + METRICS,
    )
    return Process(["run", "-c", config, "--log-format", "json"])


def run(words):
    """Run a command of an administrator, whatever it reports."""
    command = [sys.executable, "-m", "remaphore", *map(str, words)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    assert done.returncode in (0, 1), done


def warnings_of(process):
    lines = [json.loads(line) for line in process.lines]
    return [line for line in lines if line["level"] not in ("debug", "info")]


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_of_a_thousand_messages_thirteen_daemons_log_no_warning(tmp_path, server):
    daemons = {name: start(tmp_path, name, server.url) for name in NAMES}
    try:
        urls = {}
        for name, daemon in daemons.items():
            await asyncio.to_thread(daemon.wait_for, '"ready"')
            shown = await asyncio.to_thread(daemon.wait_for, "metrics are served on")
            urls[name] = shown.partition("served on ")[2].split('"')[0].split()[0]
        messages = list(legitimate(500, 500))
        async with AsyncExitStack() as stack:
            nodes = {}
            for name in NAMES:
                config = str(tmp_path / f"{name}.toml")
                nodes[name] = await stack.enter_async_context(remaphore.connect(config))
            await send_all(nodes, messages)
            for name in (HUB, SPOKES[1]):
                await asyncio.to_thread(run, ["ping", "--count", "1", "-c", tmp_path / f"{name}.toml"])
                await asyncio.to_thread(run, ["doctor", "-c", tmp_path / f"{name}.toml"])
            assert {name: warnings_of(daemon) for name, daemon in daemons.items()} == {name: [] for name in NAMES}
            for name in NAMES:
                series = await asyncio.to_thread(scrape, urls[name])
                assert series["remaphore_messages_received_total",] >= len(messages) + 24
            await send_alarms(nodes)
        for daemon in daemons.values():
            assert (await asyncio.to_thread(daemon.stop))[0] == 0
        alarms = {name: [line["reason"] for line in warnings_of(daemon)] for name, daemon in daemons.items()}
        assert {name: reasons for name, reasons in alarms.items() if reasons} == {
            SPOKES[5]: ["unknown-sender"],
            SPOKES[0]: ["verb-not-permitted"],
        }
    finally:
        for daemon in daemons.values():
            daemon.end()
