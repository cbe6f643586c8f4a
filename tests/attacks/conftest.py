"""The target of the attacks: a daemon on a bus in memory. The fixture `fleet` has real processes on a real broker."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from remaphore.hooks.markers import hookimpl
from remaphore.protocol.message import Reply
from remaphore.receiving import daemon as module
from remaphore.testing import Clock
from remaphore.transport.memory import MemoryBroker
from tests.harness.daemon import running_daemon
from tests.harness.factories import NOW
from tests.harness.plugins import plugin_manager


class Target:
    """A daemon, node 2, that echoes, and its visible effects. `wait...` is held until `release` is set."""

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
        """Deliver *raws*, in this order, as every client on the subject can."""
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
        own = Target(MemoryBroker(), Clock(NOW))
        async with running_daemon(
            own.broker.connect(),
            tmp_path / "ledger",
            config=config,
            plugins=plugin_manager(target=own),
            clock=own.clock,
            created=0,
        ) as own.daemon:
            own.status = own.daemon._counters
            try:
                yield own
            finally:
                own.release.set()

    (tmp_path / "ledger").mkdir(exist_ok=True)
    return run
