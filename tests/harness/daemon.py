"""A daemon on a bus in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pluggy

from remaphore.config.settings import Config
from remaphore.node import DaemonNode
from remaphore.receiving.daemon import Daemon
from remaphore.receiving.ledger.ledger import Ledger
from remaphore.tasks import spawn
from remaphore.transport.bus import Bus
from tests.harness.factories import NOW
from tests.harness.nodes import clock, make_config


class Mute:
    """A bus that publishes nothing: each attempt raises *error*."""

    def __init__(self, bus: Bus, error: Exception | type[Exception]) -> None:
        self._bus = bus
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    async def publish(self, subject: str, data: bytes, *, timeout: float | None = None) -> None:
        raise self._error


@asynccontextmanager
async def running_daemon(
    bus: Bus,
    folder: Path,
    *,
    config: Config | None = None,
    plugins: pluggy.PluginManager,
    clock: Callable[[], int] = clock,
    created: int = NOW - 1,
    instance: str = "main",
) -> AsyncIterator[Daemon]:
    """Run a daemon (default: node 2) for the length of a block; stop it, and wait for its end, after it.

    Its ledger in *folder* is as old as *created* if it is new: it rejects what was signed before.
    """
    config = config or make_config(2)
    async with Ledger(folder, allow_skew_ns=config.allow_skew_ns, now=created) as ledger:
        daemon = Daemon(
            bus,
            config,
            plugins=plugins,
            ledger=ledger,
            folder=folder,
            make_node=DaemonNode,
            instance=instance,
            clock=clock,
        )
        ready = asyncio.Event()
        task = spawn(daemon.run(ready=ready.set), name="daemon under test")
        await ready.wait()
        try:
            yield daemon
        finally:
            daemon.stop()
            await task
