"""The broker is killed, stopped, or cut off: the daemon says so in time and comes back by itself."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from remaphore.node import Node
from remaphore.tasks import spawn
from tests.faults.conftest import MakeSite
from tests.faults.fault_site import FaultSite, ask, asked, in_touch, metrics, said
from tests.harness.metrics import total
from tests.harness.nats_server import NatsServer, running
from tests.harness.processes import Process
from tests.harness.proxies import Wire, can_make_namespaces, namespace, proxied
from tests.harness.waiting import until

PING = 2  # seconds, not the 10 of a real daemon
TICK = 0.5  # seconds between two signs of life to the watchdog
# The network is cut by a proxy that forwards nothing more, and, where the machine lets us, in the kernel.
WAYS = ["stopped", "proxy", *(["namespace"] if can_make_namespaces() else [])]


async def serves(node: Node, site: FaultSite, payload: str) -> None:
    """Fail unless a request is answered, and its handler was started once."""
    assert await ask(node, "note", payload) == (0, "")
    assert site.started[payload] == 1


async def confirmed(daemon: Process) -> None:
    """Return once the broker has confirmed the daemon's reply: the requester may have it before."""
    deadline = time.monotonic() + 30
    while total(await metrics(daemon), "remaphore_replies_total") < 1:
        assert time.monotonic() < deadline, daemon.lines
        await asyncio.sleep(0.01)


async def serves_again(daemon: Process, node: Node, site: FaultSite) -> None:
    """Fail unless the daemon comes back by itself, to where the requester is."""
    await in_touch(daemon, 1)
    await until(lambda: node.bus.connected)
    await serves(node, site, "after")


@contextmanager
def manager(folder: Path) -> Iterator[list[str]]:
    """Stands for systemd: a list of the daemon's notifications."""
    notifications: list[str] = []
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(folder / "notify"))
        loop.add_reader(listener, lambda: notifications.append(listener.recv(4096).decode()))
        try:
            yield notifications
        finally:
            loop.remove_reader(listener)


@pytest.mark.parametrize("seconds", [0, 2, pytest.param(20, marks=pytest.mark.long)])
async def test_a_broker_that_was_killed_is_found_again(seconds: int, server: NatsServer, sites: MakeSite) -> None:
    site = sites(server.url)
    daemon = await site.daemon(site.counting("note"))
    async with site.requester() as node:
        await serves(node, site, "before")
        server.kill()
        await until(lambda: not node.bus.connected)
        meanwhile = spawn(asked(node, "note", "meanwhile", timeout=seconds + 3), name="meanwhile")
        if seconds:
            await said(daemon, "broker_disconnected detail=no broker yet")
            await in_touch(daemon, 0)
            await asyncio.sleep(seconds - 1)  # it has been away for one second before that is said
        await server.start()
        # The daemon may be the later of the two to come back, and core NATS keeps nothing for absent clients.
        assert await meanwhile in {"answered", "lost"}
        await serves_again(daemon, node, site)
        await said(daemon, f"broker_reconnected detail=connected to {server.url} after ")
    assert site.started["meanwhile"] <= 1
    assert daemon.stop()[0] == 0


async def test_a_broker_that_is_stopped_for_five_seconds_costs_nothing_but_them(
    server: NatsServer, sites: MakeSite
) -> None:
    site = sites(server.url)
    daemon = await site.daemon(site.counting("note"))
    async with site.requester() as node:
        await serves(node, site, "before")
        # Nothing is under way any more: what waits for its confirmation gives up a broker that is silent for 5 s.
        await confirmed(daemon)
        await node.bus.publish("remaphore.fence", b"")
        await server.pause()
        await asyncio.sleep(4)
        meanwhile = spawn(ask(node, "note", "meanwhile", timeout=20), name="meanwhile")
        await asyncio.sleep(1)
        server.resume()
        assert await meanwhile == (0, "")
        assert node.bus.reconnects == 0
    assert (await metrics(daemon))["remaphore_reconnects_total",] == 0
    assert site.started == {"before": 1, "meanwhile": 1}


async def missed(daemon: Process, notifications: list[str]) -> None:
    """Fail unless the daemon, whose broker has just fallen silent, says so everywhere within three ping intervals."""
    cut = len(notifications)
    await until(lambda: any("no broker yet" in text for text in notifications[cut:]))
    # Time is measured by the daemon's own watchdog: on a busy machine both wait for the same processor.
    said_at = next(number for number, text in enumerate(notifications) if number >= cut and "no broker yet" in text)
    assert notifications[cut:said_at].count("WATCHDOG=1") <= 3 * PING / TICK
    await said(daemon, "broker_disconnected detail=no broker yet")
    await in_touch(daemon, 0)
    silent = len(notifications)
    daemon.popen.send_signal(signal.SIGHUP)  # a new configuration brings no broker back
    await until(lambda: "READY=1\nSTATUS=waiting for the broker" in notifications[silent:])
    await until(lambda: "WATCHDOG=1" in notifications[silent:])  # its loop runs: it recovers, and must not be restarted


def notified(site: FaultSite) -> dict[str, str]:
    """The environment of a service with a watchdog, which is notified twice in its interval."""
    return {"NOTIFY_SOCKET": str(site.folder / "notify"), "WATCHDOG_USEC": str(int(2 * TICK * 1e6))}


@dataclass
class Stopped(Wire):
    """A broker that is stopped and continued, as a kind of cut."""

    server: NatsServer

    def cut(self) -> None:
        self.server.signal(signal.SIGSTOP)

    def restore(self) -> None:
        self.server.resume()


@asynccontextmanager
async def wired(way: str, folder: Path) -> AsyncIterator[Wire]:
    """A wire to a broker of its own that can be cut in this way."""
    if way == "namespace":
        async with namespace(folder) as wire:
            yield wire
        return
    async with running(folder) as server:
        if way == "stopped":
            yield Stopped(server.url, server)
            return
        async with proxied(server) as wire:
            yield wire


async def cut_and_restored(way: str, folder: Path, site: FaultSite) -> None:
    """Let the broker of a daemon fall silent, and speak again."""
    async with wired(way, folder / way) as wire:
        site.servers = (wire.url,)
        with manager(site.folder) as notifications:
            daemon = await site.daemon(site.counting("note"), ping=PING, env=notified(site))
            wire.cut()
            await missed(daemon, notifications)
            wire.restore()
            await said(daemon, "connected to")
            await until(lambda: any("STATUS=connected to" in text for text in notifications))
            async with site.requester() as node:
                await serves_again(daemon, node, site)
        await asyncio.to_thread(site.end)


async def test_a_broker_that_falls_silent_without_a_word_is_missed_in_time(tmp_path: Path, sites: MakeSite) -> None:
    # All ways at the same time, since each of them is mostly waiting.
    await asyncio.gather(*(cut_and_restored(way, tmp_path, sites()) for way in WAYS))


async def test_a_server_that_is_away_when_the_daemon_starts_is_waited_for(tmp_path: Path, sites: MakeSite) -> None:
    async with running(tmp_path / "first") as server:
        url = server.url
        port = server.port
    site = sites(url)
    starting = spawn(site.daemon(site.counting("note")), name="starting")
    await until(lambda: site.processes and any("no broker yet" in line for line in site.processes[0].lines))
    server = NatsServer(tmp_path / "second")
    server.port = port
    try:
        await server.start()
        daemon = await starting
        async with site.requester() as node:
            await serves_again(daemon, node, site)
    finally:
        await server.stop()
