"""Many receivers in this process, on a real broker: each with a key and a connection of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager, contextmanager

import remaphore
from remaphore.config.settings import Auth, Config, Identity
from remaphore.messaging.replier import send_reply
from remaphore.messaging.signer import Signer
from remaphore.protocol import wire
from remaphore.protocol.drop import Drop
from remaphore.protocol.gate import Filters
from remaphore.protocol.message import Reply
from remaphore.protocol.peers import Peer
from remaphore.receiving.gates import make_gate
from remaphore.tasks import spawn
from tests.harness.factories import make_key
from tests.harness.nats_server import running
from tests.harness.node_files import Entry, write_toml

SECONDS = 30
ADMIN = 0  # the number of the requester's key
SUBJECT = "remaphore.all"
HOUR_NS = 3600 * 10**9


def destination(number):
    return f"com.db.{number}"


class Simulated:
    """Receivers com.db.1 to com.db.N; *answer* returns what number N replies to a message, None for silence.

    It may be a coroutine, which delays no other receiver.
    """

    def __init__(self, folder, number, answer):
        self.received = []  # (number, verb, payload), in the order in which they were accepted
        self.config = folder / "admin.toml"
        self._folder = folder
        self._numbers = range(1, number + 1)
        self._answer = answer

    @asynccontextmanager
    async def run(self):
        async with running(self._folder / "server") as server:
            self._write(server.url)
            ready = asyncio.Semaphore(0)
            tasks = [spawn(self._receive(server.url, each, ready), name=destination(each)) for each in self._numbers]
            try:
                async with asyncio.timeout(SECONDS):
                    for _ in tasks:
                        await ready.acquire()
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

    async def _receive(self, url, number, ready):
        config = self._node_config(url, number)
        async with remaphore.connect(config, timeout=SECONDS) as node:
            inbox = asyncio.Queue()
            gate = make_gate(config, Filters(), subject=SUBJECT)
            await node.bus.subscribe(SUBJECT, lambda raw: inbox.put_nowait(gate.admit(raw, time.time_ns())))
            ready.release()
            while True:
                message = await inbox.get()
                if not isinstance(message, Drop):
                    self.received.append((number, message.verb, message.payload))
                    reply = self._answer(number, message)
                    if asyncio.iscoroutine(reply):
                        reply = await reply
                    if reply is not None and message.wants_reply:
                        await node.reply(message, *reply)

    def _node_config(self, url, number):
        key = make_key(number)
        return Config(
            source=destination(number),
            destination=destination(number),
            servers=(url,),
            auth=Auth(kind="none"),
            identities=(Identity(key=key.public, verbs=frozenset("*"), load=lambda: key),),
            peers=(Peer(destination="com.admin", key=make_key(ADMIN).public, verbs=frozenset("*")),),
            allow_skew_ns=HOUR_NS,
        )

    def _write(self, url):
        write_toml(
            self.config,
            ADMIN,
            "com.admin",
            servers=[url],
            settings='allow_skew = "1h"\n',
            peers=[Entry(destination(number), number, []) for number in self._numbers],
        )


class Crowd(Simulated):
    """The same receivers behind one connection, for many messages that are each to one of them.

    Each message is checked by the gate of its destination only: a thousand receivers would check a thousand messages a
    thousand times.
    """

    @asynccontextmanager
    async def run(self):
        async with running(self._folder / "server") as server:
            self._write(server.url)
            gates, signers = {}, {}
            for number in self._numbers:
                config = self._node_config(server.url, number)
                gates[number], signers[number] = make_gate(config, Filters(), subject=SUBJECT), Signer(config)
            async with remaphore.connect(config, timeout=SECONDS) as node:
                inbox = asyncio.Queue()
                await node.bus.subscribe(SUBJECT, inbox.put_nowait)
                task = spawn(self._serve(node, inbox, gates, signers), name="crowd")
                try:
                    yield
                finally:
                    task.cancel()
                    await asyncio.wait({task})

    async def _serve(self, node, inbox, gates, signers):
        replies = set()
        while True:
            raw = await inbox.get()
            to = wire.decode(raw).destination
            for number in self._numbers if "*" in to else [int(to.rpartition(".")[2])]:
                message = gates[number].admit(raw, time.time_ns())
                if isinstance(message, Drop):
                    continue
                self.received.append((number, message.verb, message.payload))
                reply = self._answer(number, message)
                if reply is not None and message.wants_reply:
                    code, output = reply
                    sent = Reply(code, output.encode())
                    replies.add(spawn(send_reply(node.bus, node.config, signers[number], message, sent), name="reply"))


@contextmanager
def simulated(folder, number, answer, kind=Simulated):
    """Run receivers in a thread of their own, so that the test can wait for the commands that it starts."""
    fleet = kind(folder, number, answer)
    ready = threading.Event()
    ended = []
    loop = asyncio.new_event_loop()

    async def run():
        stop = asyncio.Event()
        ended.append(stop)
        async with fleet.run():
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        assert ready.wait(SECONDS)
        yield fleet
    finally:
        loop.call_soon_threadsafe(ended[0].set)
        thread.join(SECONDS)
        loop.close()
