"""`remaphore broker`: the embedded broker, in the foreground."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from remaphore.cli.options.local import Broker as Options
from remaphore.embedded.broker import Broker


def run(options: Options) -> int:
    """Run until SIGINT or SIGTERM; return 0."""
    asyncio.run(_run(options))
    return 0


async def _run(options: Options) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Broker(Path(options.data), port=options.port or -1) as broker:
        sys.stdout.write(f"server: {broker.url}\ncredentials: {broker.credentials}\n")
        sys.stdout.flush()
        await stop.wait()
