"""Three servers with JetStream that are one cluster, with the streams of locks below the root r."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.setup import make_streams
from remaphore.errors import CoordinationUnavailableError, TransportError
from tests.harness.nats_server import NatsServer, connected, jetstream_config
from tests.harness.ports import free_port

ROOT = "r"


@asynccontextmanager
async def cluster(folder: Path, *, replicas: int = 3) -> AsyncIterator[list[NatsServer]]:
    """Three servers, and streams with so many *replicas*; 0 for no streams."""
    routes = [free_port() for _ in range(3)]
    servers = []
    for number, port in enumerate(routes):
        others = ", ".join(f"nats://127.0.0.1:{other}" for other in routes if other != port)
        config = (
            f"server_name: s{number}\n{jetstream_config(folder / f'data{number}')}"
            f'cluster {{ name: c, listen: "127.0.0.1:{port}", routes: [{others}] }}\n'
        )
        servers.append(NatsServer(folder / f"s{number}", config))
    try:
        for server in servers:
            await server.start()
        async with connected(*servers) as bus, asyncio.timeout(60):
            while replicas:
                with suppress(TransportError, CoordinationUnavailableError):
                    await make_streams(JetStream(bus, ROOT, timeout=10), ROOT, replicas=replicas)
                    break
                await asyncio.sleep(0.2)
        yield servers
    finally:
        for server in servers:
            await server.stop(signal.SIGKILL)


async def leader(servers: Sequence[NatsServer]) -> NatsServer:
    """Return the server that leads the stream of records."""
    while True:
        with suppress(TransportError, CoordinationUnavailableError):
            async with connected(*servers) as bus:
                info = await JetStream(bus, ROOT).info(f"{ROOT}-coord")
                name = info.get("cluster", {}).get("leader", "")
                if name:
                    return servers[int(name.removeprefix("s"))]
        await asyncio.sleep(0.1)
