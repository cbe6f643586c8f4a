"""Cutting a network silently: no FIN, no RST, the connection just carries nothing any more."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from remaphore.tasks import spawn
from tests.harness.nats_server import NatsServer

_CHUNK = 65_536


@dataclass
class Wire:
    """What lies between the daemon and the broker."""

    url: str

    def cut(self) -> None:
        """Carry nothing more, without notice to either side."""
        raise NotImplementedError

    def restore(self) -> None:
        """Carry what comes from now on."""
        raise NotImplementedError


@dataclass
class Proxy(Wire):
    """A TCP proxy that can stop forwarding; works everywhere."""

    port: int = 0
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    _back: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _dropped: set[asyncio.Task[None]] = field(default_factory=set)

    def cut(self) -> None:
        self._open.clear()
        self._back.clear()

    def mute(self) -> None:
        """Carry nothing more to the client: what it asks for is done, and it gets no answer."""
        self._back.clear()

    def restore(self) -> None:
        # What was under way is lost with its connections, as after a cut that outlasts them.
        for task in self._tasks:
            task.cancel()
        self._open.set()
        self._back.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(asyncio.CancelledError, ConnectionError):
            await self._open.wait()
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                there = spawn(self._carry(reader, server_writer, self._open), name="there")
                back = spawn(self._carry(server_reader, writer, self._back), name="back")
                try:
                    await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    there.cancel()
                    back.cancel()
                    await asyncio.wait({there, back})
            finally:
                server_writer.close()
        writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(_CHUNK):
                await gate.wait()
                writer.write(chunk)
                await writer.drain()


@asynccontextmanager
async def proxied(server: NatsServer) -> AsyncIterator[Proxy]:
    """A proxy before *server*."""
    proxy = Proxy("", server.port)
    proxy.restore()
    listener = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"nats://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        listener.close()
        tasks = set(proxy._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


@dataclass
class Veth(Wire):
    """A network namespace with the broker in it, at the other end of a veth pair that can be set down."""

    name: str = ""

    def cut(self) -> None:
        _ip("-n", self.name, "link", "set", f"{self.name}b", "down")

    def restore(self) -> None:
        _ip("-n", self.name, "link", "set", f"{self.name}b", "up")


@asynccontextmanager
async def namespace(folder: Path) -> AsyncIterator[Wire]:
    """A server in a network namespace of its own. Needs root, and the command `ip`."""
    number = os.getpid() % 2**16
    # RFC 2544: 198.18.0.0/15 is for tests. Two addresses of this process's own.
    net = f"198.18.{number >> 8}.{number & 0xFC}".rpartition(".")
    near, far = (f"{net[0]}.{int(net[2]) + host}" for host in (1, 2))
    wire = Veth("", f"rm{number}")
    _ip("netns", "add", wire.name)
    try:
        _ip("link", "add", f"{wire.name}a", "type", "veth", "peer", "name", f"{wire.name}b", "netns", wire.name)
        _ip("addr", "add", f"{near}/30", "dev", f"{wire.name}a")
        _ip("link", "set", f"{wire.name}a", "up")
        _ip("-n", wire.name, "addr", "add", f"{far}/30", "dev", f"{wire.name}b")
        wire.restore()
        server = NatsServer(folder, host=far, within=("ip", "netns", "exec", wire.name))
        try:
            await server.start()
            wire.url = server.url
            yield wire
        finally:
            await server.stop()
    finally:
        _ip("netns", "del", wire.name)  # the pair goes with it


def can_make_namespaces() -> bool:
    """Return whether this machine permits it."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"probe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    return made and subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False).returncode == 0


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
