"""500 receivers whose broker comes back do not come back at the same moment."""

from __future__ import annotations

import asyncio
import json
import math
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path

import pytest

from remaphore.transport import nats_client, outage
from tests.harness.nats_server import NatsServer, connected, running
from tests.harness.waiting import until

RECEIVERS = 500
SLICE = 0.1  # seconds
# Spread evenly over the two seconds between two attempts, a slice would hold a twentieth of them.
MOST = RECEIVERS // 5

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def busiest(moments: Iterable[float]) -> int:
    """Return how many of *moments* (seconds) lie in the busiest slice."""
    return max(Counter(math.floor(moment / SLICE) for moment in moments).values())


async def logins(server: NatsServer) -> list[float]:
    """Return when each open connection was accepted, by the server's own record, in Unix seconds."""
    url = f"http://127.0.0.1:{server.ports['monitoring']}/connz?limit={2 * RECEIVERS}"
    listed = json.loads(await asyncio.to_thread(lambda: _opener.open(url, timeout=20).read()))["connections"]
    return [datetime.fromisoformat(entry["start"][:26].rstrip("Z") + "+00:00").timestamp() for entry in listed]


async def test_500_receivers_spread_their_attempts_and_their_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[float] = []

    def noted(tries: int = 0) -> Iterator[float]:
        for delay in outage.delays(tries):
            planned.append(time.monotonic() + delay)
            yield delay

    monkeypatch.setattr(nats_client, "delays", noted)
    async with running(tmp_path, 'http: "127.0.0.1:-1"\n') as server, AsyncExitStack() as stack:
        buses = [await stack.enter_async_context(connected(server)) for _ in range(RECEIVERS)]
        for bus in buses:
            await bus.subscribe("remaphore.all", lambda _raw: None)
        server.kill()
        await until(lambda: not any(bus.connected for bus in buses))
        # Until each has tried some five times: its delays are the longest then, and the first attempts are over.
        await until(lambda: len(planned) > 6 * RECEIVERS)
        latest = planned[-RECEIVERS:]
        await server.start()
        await until(lambda: all(bus.connected for bus in buses))
        started = await logins(server)
    assert len(started) == RECEIVERS
    # When each meant to come, whatever this machine's two processors made of it; and what the server saw.
    assert busiest(latest) < MOST
    assert max(started) - min(started) > 1
