"""A daemon on an in-memory bus with the plugin `metrics`, loaded and configured as by the command; a scraper."""

from __future__ import annotations

import asyncio
import tempfile
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from remaphore import Config, Reply, hookimpl
from remaphore.hooks import manager
from remaphore.node import Node
from remaphore.receiving.daemon import Daemon
from remaphore.receiving.ledger.ledger import Ledger
from remaphore.tasks import spawn
from remaphore.transport.memory import MemoryBroker
from remaphore_plugins.metrics import Metrics
from tests.factories import NOW
from tests.nodes import clock, make_config

FREE_PORT = "127.0.0.1:0"

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


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

    def __init__(self, config: Config, ledger: Ledger, listen: str) -> None:
        self.broker = MemoryBroker()
        self.bus = self.broker.connect()
        self.sender = Node(self.broker.connect(), make_config(1), clock=clock)
        self.handler = Handler()
        plugins = manager.load(["metrics"])
        manager.configure(plugins, replace(config, plugins={"metrics": {"listen": listen}}))
        plugins.register(self.handler, name="handler")
        self.metrics: Metrics = plugins.get_plugin("metrics")
        self.daemon = Daemon(self.bus, config, plugins=plugins, ledger=ledger, clock=clock)

    async def send(self, *verbs: str) -> None:
        for verb in verbs:
            await self.sender.send(verb)

    async def handled(self, number: int) -> None:
        """Return when *number* messages have been handled."""
        async with asyncio.timeout(30):
            while sum(self.daemon.stats().handled.values()) < number:
                await asyncio.sleep(0)

    async def scrape(self) -> dict[tuple[str, ...], float]:
        """Return the value of each series by its name and the values of its labels, in the order of their names."""
        text = await asyncio.to_thread(fetch, self.metrics.url)
        return {
            (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


@asynccontextmanager
async def serving(folder: Path, config: Config | None = None, *, listen: str = FREE_PORT) -> AsyncIterator[Served]:
    """Run the daemon with this configuration (default: node 2's), its ledger in a new directory of *folder*."""
    config = config or make_config(2)
    state = Path(tempfile.mkdtemp(dir=folder))
    async with Ledger(state, allow_skew_ns=config.allow_skew_ns, now=NOW - 1) as ledger:
        served, ready = Served(config, ledger, listen), asyncio.Event()
        task = spawn(served.daemon.run(ready=ready.set), name="daemon under test")
        await ready.wait()
        try:
            yield served
        finally:
            served.handler.release.set()
            served.daemon.stop()
            await task


def fetch(url: str, accept: str = "text/plain") -> str:
    """Return what a GET of *url* gives."""
    with _opener.open(urllib.request.Request(url, headers={"Accept": accept}), timeout=20) as answer:
        return answer.read().decode()


def total(series: dict[tuple[str, ...], float], *names: str) -> float:
    """Return the sum of all series of these metrics."""
    return sum(value for (name, *_), value in series.items() if name in names)
