"""A server that misbehaves as no real nats-server does: it is silent, closes or lies, and records its input."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

INFO = {"server_id": "FAKE", "version": "2.10.0", "proto": 1, "headers": True, "max_payload": 1024}


@dataclass
class FakeServer:
    """*lines* are the protocol lines that arrived, of all connections; *connections* counts those.

    tls: begun after the greeting, which is sent in clear text.
    """

    greeting: bytes | None = b"INFO %s\r\n" % json.dumps(INFO).encode()
    close_after: str = ""
    tls: ssl.SSLContext | None = None
    answers: dict[str, bytes] = field(default_factory=lambda: {"PING": b"PONG\r\n"})
    lines: list[str] = field(default_factory=list)
    connections: int = 0
    url: str = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection. close_after: the first word of the line that ends it; empty greeting: at once."""
        self.connections += 1
        try:
            await self._talk(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.greeting == b"":
            return
        writer.write(self.greeting or b"")
        if self.tls is not None:
            await writer.start_tls(self.tls)
        while line := (await reader.readline()).decode().strip():
            self.lines.append(line)
            word = line.split()[0]
            if word == "PUB":
                await reader.readexactly(int(line.split()[-1]) + 2)
            writer.write(self.answers.get(word, b""))
            if word == self.close_after:
                return


@asynccontextmanager
async def fake_server(
    server: FakeServer | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[FakeServer]:
    """Run a fake server for the length of a block, and end all its connections after it."""
    fake = server or FakeServer()
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(asyncio.CancelledError):
            await fake.handle(reader, writer)

    listener = await asyncio.start_server(handle, host, port)
    fake.url = f"nats://{host}:{listener.sockets[0].getsockname()[1]}"
    try:
        yield fake
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
