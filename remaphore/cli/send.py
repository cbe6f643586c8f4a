"""`remaphore -s`, `remaphore send`: send and forget. No plugin is loaded."""

from __future__ import annotations

import asyncio

from remaphore.cli import console
from remaphore.cli.options.sending import Send
from remaphore.config.settings import Config
from remaphore.runtime.node import CONNECT_SECONDS, connect


def run(options: Send) -> int:
    """Send; return 0 once the broker has it."""
    console.check(key=options.key, subject_name=options.subject)
    config = console.load_config(options.config)
    config.sender(options.verb, options.key)  # who may not send need not connect
    asyncio.run(_send(options, config))
    return 0


async def _send(options: Send, config: Config) -> None:
    limit = min(options.timeout or CONNECT_SECONDS, CONNECT_SECONDS)
    async with connect(config, timeout=limit, notice=console.say) as node:
        await node.send(
            options.verb,
            to=options.to,
            payload=options.payload,
            id=options.id,
            key=options.key,
            subject_name=options.subject,
        )
