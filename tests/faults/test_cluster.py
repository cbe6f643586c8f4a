"""A cluster of three: a client that loses its server continues with another, in the middle of its work."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from remaphore.node import Node
from remaphore.tasks import spawn
from tests.faults.accounts import Accounts
from tests.faults.conftest import MakeSite
from tests.faults.fault_site import FaultSite, ask, asked, meet, metrics
from tests.harness.nats_server import NatsServer, connected, running
from tests.harness.processes import Process
from tests.harness.waiting import until

_CONFIG = 'cluster {{ name: c, listen: "127.0.0.1:-1", routes: [{routes}] }}\nlame_duck_grace_period: "50ms"\n'
REQUESTS, AT_A_TIME = 300, 20


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[list[NatsServer]]:
    """Three servers, each of which names the two others to its clients."""
    async with AsyncExitStack() as stack:
        servers: list[NatsServer] = []
        for number in range(3):
            routes = ", ".join(f'"nats://127.0.0.1:{server.ports["cluster"]}"' for server in servers)
            config = _CONFIG.format(routes=routes)
            servers.append(await stack.enter_async_context(running(tmp_path / f"server{number}", config)))
        for server in servers:
            await knows_the_others(server)
        yield servers


async def knows_the_others(server: NatsServer) -> None:
    """Return once *server* names two others to its clients."""
    async with connected(server) as bus:
        link = bus._connection
        assert link is not None
        await until(lambda: len(list(link.discovered())) == 2)


@asynccontextmanager
async def met(site: FaultSite, server: NatsServer) -> AsyncIterator[Node]:
    """A requester on *server* that the daemon, wherever it is, has answered: the servers know where it listens."""
    async with site.requester(server.url) as node:
        await meet(node, "hello")
        yield node


async def daemon_on(server: NatsServer, sites: MakeSite, table: str = "") -> tuple[FaultSite, Process]:
    """A daemon that is connected to *server*, the only one in its configuration, with a handler that can be held up."""
    site = sites(server.url)
    site.handler("hello", "true")
    held = site.counting("held", f"while [ ! -e {site.folder}/go ]; do sleep 0.02; done")
    return site, await site.daemon(held + table)


async def reconnected(daemon: Process) -> None:
    """Return once the daemon has found another server."""
    deadline = time.monotonic() + 30
    while (await metrics(daemon))["remaphore_reconnects_total",] < 1:
        assert time.monotonic() < deadline, daemon.lines


async def handled(daemon: Process, verb: str) -> None:
    """Return once the daemon has counted a message of *verb*, and has had the time to write the reply."""
    deadline = time.monotonic() + 30
    while (await metrics(daemon)).get(("remaphore_messages_handled_total", verb), 0) < 1:
        assert time.monotonic() < deadline, daemon.lines
    await asyncio.sleep(0.1)


ends = pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR2], ids=["killed", "lame duck"])


@ends
async def test_an_idle_daemon_whose_server_ends_is_found_on_another(
    number: int, cluster: list[NatsServer], sites: MakeSite
) -> None:
    site, daemon = await daemon_on(cluster[1], sites)
    async with met(site, cluster[0]) as node:
        cluster[1].signal(number)
        await reconnected(daemon)
        await meet(node, "hello")
        assert node.bus.reconnects == 0


@ends
async def test_a_request_whose_responder_loses_its_server_is_answered_over_another(
    number: int, cluster: list[NatsServer], sites: MakeSite
) -> None:
    site, daemon = await daemon_on(cluster[1], sites)
    async with met(site, cluster[0]) as node:
        asking = spawn(ask(node, "held", "x", timeout=40), name="asking")
        await until(lambda: site.started)
        if number == signal.SIGKILL:  # it ends while the reply waits for its confirmation
            await cluster[1].pause()
            (site.folder / "go").touch()
            await handled(daemon, "held")
        cluster[1].signal(number)
        (site.folder / "go").touch()
        assert await asking == (0, "")
    assert site.started == {"x": 1}


@ends
async def test_a_request_whose_requester_loses_its_server_is_answered_over_another(
    number: int, cluster: list[NatsServer], sites: MakeSite
) -> None:
    site, _daemon = await daemon_on(cluster[1], sites)
    async with met(site, cluster[0]) as node:
        asking = spawn(ask(node, "held", "x", timeout=40), name="asking")
        await until(lambda: site.started)
        cluster[0].signal(number)
        await until(lambda: node.bus.reconnects and node.bus.connected)
        await meet(node, "hello")  # the servers know where it listens now
        (site.folder / "go").touch()
        assert await asking == (0, "")
    assert site.started == {"x": 1}


@ends
async def test_a_server_that_ends_in_the_middle_of_a_flood_leaves_no_request_unaccounted(
    number: int, cluster: list[NatsServer], sites: MakeSite
) -> None:
    site = sites(cluster[1].url)
    site.handler("hello", "true")
    daemon = await site.daemon(site.counting("note", queue=REQUESTS, concurrency=2))
    accounts, slots = Accounts(), asyncio.Semaphore(AT_A_TIME)
    async with met(site, cluster[0]) as node:

        async def one(*, calm: bool = False) -> None:
            async with slots:
                payload = accounts.open("n", calm=calm)
                accounts.ends[payload] = await asked(node, "note", payload, timeout=20 if calm else 3)

        flood = [spawn(one(), name="flood") for _ in range(REQUESTS)]
        await until(lambda: accounts.counted["answered"] > REQUESTS // 3)
        cluster[1].signal(number)
        await asyncio.wait(flood)
        await reconnected(daemon)
        await meet(node, "hello")
        await asyncio.gather(*(one(calm=True) for _ in range(REQUESTS // 3)))
    assert accounts.unexplained(site.started) == {}, accounts.counted
