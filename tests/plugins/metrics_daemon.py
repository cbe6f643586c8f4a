"""A daemon on an in-memory bus with the plugin `metrics`, loaded and configured as by the command; a scraper."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from remaphore import Config, Reply, hookimpl
from remaphore.hooks import manager
from remaphore.node import Node
from remaphore.receiving.daemon import Daemon
from remaphore.transport.memory import MemoryBroker
from remaphore_plugins.metrics import Metrics
from tests.harness.daemon import running_daemon
from tests.harness.metrics import Series, scrape
from tests.harness.nodes import clock, make_config

FREE_PORT = "127.0.0.1:0"


class Handler:
    """Acts by verb: `fail` raises, `bad` has exit code 3, `none` no reply; `wait` waits for the release."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.started = 0

    @hookimpl
    async def remaphore_message(self, message):
        self.started += 1
        if message.verb == "fail":
            raise RuntimeError("it failed")
        if message.verb.startswith("wait"):
            await self.release.wait()
        return None if message.verb == "none" else Reply(3 if message.verb == "bad" else 0)

    @hookimpl
    def remaphore_shutdown(self, reason):
        self.release.set()


class Served:
    """The daemon under test with everything it needs. It is node 2, and *sender* is node 1."""

    daemon: Daemon

    def __init__(self, config: Config, listen: str) -> None:
        self.broker = MemoryBroker()
        self.bus = self.broker.connect()
        self.sender = Node(self.broker.connect(), make_config(1), clock=clock)
        self.handler = Handler()
        self.plugins = manager.load(["metrics"])
        manager.configure(self.plugins, replace(config, plugins={"metrics": {"listen": listen}}))
        self.plugins.register(self.handler, name="handler")
        self.metrics: Metrics = self.plugins.get_plugin("metrics")

    async def send(self, *verbs: str) -> None:
        for verb in verbs:
            await self.sender.send(verb)

    async def handled(self, number: int) -> None:
        """Return when *number* messages have been handled."""
        async with asyncio.timeout(30):
            while sum(self.daemon.stats().handled.values()) < number:
                await asyncio.sleep(0)

    async def scrape(self) -> Series:
        """Return the value of each series by its name and the values of its labels, in the order of their names."""
        return await asyncio.to_thread(scrape, self.metrics.url)


@asynccontextmanager
async def serving(folder: Path, config: Config | None = None, *, listen: str = FREE_PORT) -> AsyncIterator[Served]:
    """Run the daemon with this configuration (default: node 2's), its ledger in a new directory of *folder*."""
    config = config or make_config(2)
    state = Path(tempfile.mkdtemp(dir=folder))
    served = Served(config, listen)
    async with running_daemon(served.bus, state, config=config, plugins=served.plugins) as served.daemon:
        try:
            yield served
        finally:
            served.handler.release.set()
