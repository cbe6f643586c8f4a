"""The runs of a plugin that are in progress, and their common end at shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from remaphore import Reply


class ActiveRuns:
    """Runs that are in progress. A future belongs to an event loop, so nothing is created before one is needed."""

    def __init__(self) -> None:
        self._stop: asyncio.Future[None] | None = None
        self._active: set[asyncio.Future[None]] = set()

    @property
    def stop(self) -> asyncio.Future[None]:
        """The future that ends every run once it is done. `processes.run` accepts it."""
        if self._stop is None:
            self._stop = asyncio.get_running_loop().create_future()
        return self._stop

    async def track(self, run: Callable[[], Awaitable[Reply | None]]) -> Reply | None:
        """Return the reply of *run*; until then, `end` waits for it."""
        active = asyncio.get_running_loop().create_future()
        self._active.add(active)
        try:
            return await run()
        finally:
            self._active.remove(active)
            active.set_result(None)

    async def end(self) -> None:
        """End all runs, and return when they have ended. No later run is started."""
        if not self.stop.done():
            self.stop.set_result(None)
        if self._active:
            await asyncio.wait(self._active)
