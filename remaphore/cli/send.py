"""`remaphore -s`, `remaphore send`: send and forget. No plugin is loaded."""

from __future__ import annotations

import asyncio
from importlib import import_module

from remaphore import tasks
from remaphore.cli import console
from remaphore.cli.options.sending import Send
from remaphore.config.settings import Config
from remaphore.node import CONNECT_SECONDS, connect


def run(options: Send) -> int:
    """Send; return 0 once the broker has it."""
    console.check(key=options.key, subject_name=options.subject)
    config = console.load_config(options.config)
    config.sender(options.verb, options.key)  # who may not send need not connect
    payload: str | bytes = options.payload
    if options.source:
        payload = import_module("remaphore.cli.payload").read(options.source)
    tasks.run(_send(options, config, payload))  # a look-up of a host's name may take longer than the limit
    return 0


async def _send(options: Send, config: Config, payload: str | bytes) -> None:
    loop = asyncio.get_running_loop()
    limit = min(options.timeout or CONNECT_SECONDS, CONNECT_SECONDS)
    deadline = loop.time() + limit
    async with connect(config, timeout=limit, on_notice=console.say) as node:
        # A broker that goes away meanwhile gets what is left of the time, and then a limited one to confirm.
        await node.send(
            options.verb,
            to=options.to,
            payload=payload,
            id=options.id,
            key=options.key,
            subject_name=options.subject,
            timeout=max(0.0, deadline - loop.time()),
        )
