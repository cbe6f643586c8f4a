"""A node changes its key with the commands of docs/howto/rotate-keys.md: what counts before, during and after."""

import asyncio
import re
from contextlib import aclosing

import pytest

from remaphore.cli import main as cli
from remaphore.config import search
from remaphore.node import Node
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.message import Message, Reply
from remaphore.tasks import spawn
from remaphore.transport.memory import MemoryBroker

SECONDS = 30  # for anything to happen; nothing waits that long unless it is broken


class Pair:
    """The configurations of com.left, which changes its key, and com.right, which knows it; read again every time."""

    def __init__(self, folder, capsys):
        self._folder, self._capsys = folder, capsys

    def type(self, node, *words):
        code = cli.main([*words, "-c", str(self._folder / f"{node}.toml")])
        shown = self._capsys.readouterr()
        assert code == 0, shown.err
        return shown.out.strip()

    def config(self, node):
        return search.load(str(self._folder / f"{node}.toml"), {})

    def begin(self, key):
        """Give com.left a second identity, which is not the default one."""
        path = self._folder / "left.toml"
        table = f'\n[[identities]]\nkey = "{key}"\nprivate_key_file = "next.key"\nverbs = ["*"]\n'
        path.write_text(path.read_text() + table)

    def switch(self, key):
        """Make *key* the default identity of com.left."""
        path = self._folder / "left.toml"
        path.write_text(re.sub(r"(?m)^default_identity = .*", f'default_identity = "{key}"', path.read_text()))

    async def received(self, key):
        """Return the message of com.left that is signed by *key*, as com.right accepts it, or the drop."""
        broker, news = MemoryBroker(), asyncio.Queue()
        listening = spawn(self._listen(broker, "right", news), name="right")
        await _subscribed(broker)
        await Node(broker.connect(), self.config("left")).send("ping", key=key)
        return await _next(news, listening)

    async def answered(self):
        """Return the reply of com.left to com.right, or why com.right does not take it."""
        broker, news, asked = MemoryBroker(), asyncio.Queue(), asyncio.Queue()
        listening = spawn(self._listen(broker, "left", asked, code=0), name="left")
        await _subscribed(broker)
        asking = spawn(self._ask(broker, news), name="right")
        try:
            return await _next(news, asking)
        finally:
            await _end(listening)

    async def _listen(self, broker, node, news, code=None):
        own = Node(broker.connect(), self.config(node))
        async with aclosing(own.receive(on_drop=news.put_nowait)) as messages:
            async for message in messages:
                news.put_nowait(message)
                if code is not None:
                    await own.reply(message, code, "here")

    async def _ask(self, broker, news):
        node = Node(broker.connect(), self.config("right"))
        async with node.request("ping", to="com.left", timeout=None, on_drop=news.put_nowait) as exchange:
            assert exchange.expected == ("com.left",)
            async for reply in exchange:
                news.put_nowait(reply)


async def _subscribed(broker):
    async with asyncio.timeout(SECONDS):
        while not broker.subscribers["remaphore.all"]:
            await asyncio.sleep(0)


async def _next(news, task):
    try:
        async with asyncio.timeout(SECONDS):
            return await news.get()
    finally:
        await _end(task)


async def _end(task):
    task.cancel()
    await asyncio.wait([task])


@pytest.fixture
def pair(tmp_path, capsys):
    pair = Pair(tmp_path, capsys)
    lines = {node: pair.type(node, "init", "--destination", f"com.{node}") for node in ("left", "right")}
    for path in tmp_path.glob("*.toml"):  # a busy machine must not make it fail
        path.write_text(path.read_text().replace('allow_skew = "5s"', 'allow_skew = "10m"'))
    pair.type("left", "peer", "add", "--verbs", "*", lines["right"])
    pair.type("right", "peer", "add", "--verbs", "ping", lines["left"])
    return pair


async def test_both_keys_count_during_the_overlap_and_only_the_new_one_after_it(pair, tmp_path, capsys):
    old = pair.config("left").default_identity
    assert cli.main(["keygen", str(tmp_path / "next.key")]) == 0
    new = capsys.readouterr().out.strip()
    pair.begin(new)

    assert (await pair.received(new)).reason is DropReason.UNKNOWN_SENDER
    assert isinstance(await pair.received(old), Message)

    pair.type("right", "peer", "add", "--rotate", "--verbs", "ping", pair.type("left", "peer", "show", new))
    assert [(await pair.received(key)).sender for key in (old, new)] == [old, new]
    reply = await pair.answered()
    assert isinstance(reply, Reply)
    assert (reply.sender, reply.peer, reply.bound) == (old, "com.left", True)

    pair.switch(new)
    assert [(await pair.received(key)).sender for key in (old, new, "")] == [old, new, new]
    reply = await pair.answered()
    assert isinstance(reply, Reply)
    assert (reply.sender, reply.peer, reply.bound) == (new, "com.left", True)

    pair.type("right", "peer", "remove", "com.left", "--key", old)
    assert (await pair.received(old)).reason is DropReason.UNKNOWN_SENDER
    assert (await pair.received(new)).sender == new
    assert (await pair.answered()).sender == new
    pair.switch(old)
    reply = await pair.answered()
    assert isinstance(reply, Drop)
    assert reply.reason is DropReason.NOT_ASKED
