"""Targets of the attacks: a fleet of real processes on a real broker, and a daemon on a bus in memory."""

import asyncio
from contextlib import asynccontextmanager

import pluggy
import pytest

from remaphore.hooks import specs
from remaphore.hooks.markers import PROJECT, hookimpl
from remaphore.protocol.message import Reply
from remaphore.receiving import daemon as module
from remaphore.receiving.daemon import Daemon
from remaphore.receiving.ledger.ledger import Ledger
from remaphore.tasks import spawn
from remaphore.testing import Clock
from remaphore.transport.memory import MemoryBroker
from tests.e2e.conftest import fleet, nodes
from tests.factories import NOW
from tests.nodes import make_config

__all__ = ["fleet", "nodes"]


class Target:
    """A daemon, node 2, that echoes, and what became visible of it. `wait...` is held until `release` is set."""

    def __init__(self, broker, clock):
        self.broker = broker
        self.clock = clock
        self.release = asyncio.Event()
        self.ran = []
        self.dropped = []
        self.daemon = self.status = None  # no property: some versions of pluggy read those of a plugin

    @hookimpl
    async def remaphore_message(self, message):
        self.ran.append((message.verb, message.payload))
        if message.verb.startswith("wait"):
            await self.release.wait()
        return Reply(0, message.payload)

    @hookimpl
    def remaphore_dropped(self, drop):
        self.dropped.append(drop)

    @hookimpl
    def remaphore_shutdown(self, reason):
        self.release.set()

    def replies(self):
        """Return what was published on reply subjects."""
        return [data for where, data in self.broker.published if where != "remaphore.all"]

    async def hit(self, *raws):
        """Deliver *raws*, in this order, as whoever is on the subject can."""
        bus = self.broker.connect()
        for raw in raws:
            await bus.publish("remaphore.all", raw)
        await self.quiet()

    async def quiet(self):
        """Return once nothing is on its way: no answer, no work that is not held, no write."""
        async with asyncio.timeout(20):
            while self._busy():
                await asyncio.sleep(0)

    def _busy(self):
        writing = self.daemon._ledger._writing
        working = any(not verb.startswith("wait") for verb in self.daemon._execution.queues)
        return (
            working
            or self.daemon._admission.checking
            or self.daemon._responses.pending
            or (writing is not None and not writing.done())
        )


@pytest.fixture
def target(tmp_path, monkeypatch):
    """Starts the daemon under attack. *config*: of node 2."""
    monkeypatch.setattr(module, "DRAIN_SECONDS", 0.05)

    @asynccontextmanager
    async def run(config=None):
        config = config or make_config(2)
        own = Target(MemoryBroker(), Clock(NOW))
        plugins = pluggy.PluginManager(PROJECT)
        plugins.add_hookspecs(specs)
        plugins.register(own, name="target")
        async with Ledger(tmp_path / "ledger", allow_skew_ns=config.allow_skew_ns, now=0) as ledger:
            own.daemon = Daemon(own.broker.connect(), config, plugins=plugins, ledger=ledger, clock=own.clock)
            own.status = own.daemon._counters
            ready = asyncio.Event()
            task = spawn(own.daemon.run(ready=ready.set), name="daemon under attack")
            await ready.wait()
            try:
                yield own
            finally:
                own.release.set()
                own.daemon.stop()
                await task

    (tmp_path / "ledger").mkdir(exist_ok=True)
    return run
