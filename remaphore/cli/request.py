"""`remaphore -r`, `remaphore request`: send, and print the replies as they arrive."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from remaphore import logs
from remaphore.cli import console
from remaphore.cli.options.sending import Request
from remaphore.config.settings import Config
from remaphore.hooks.dispatch import emit, emit_plain
from remaphore.hooks.manager import configure, load
from remaphore.protocol.rejection import Rejection
from remaphore.runtime.node import CONNECT_SECONDS, connect
from remaphore.runtime.requester import expect

if TYPE_CHECKING:
    import pluggy

PLUGINS = ("log", "reply-collector")
HOOK_SECONDS = 5.0


def run(options: Request) -> int:
    """Send and collect; return 0 if a reply came that is no refusal, else 1."""
    console.check(key=options.key, subject_name=options.subject)
    config = console.load_config(options.config)
    config.sender(options.verb, options.key)
    expect(config, options.to)
    logs.configure("console", level=logging.DEBUG if options.verbose else logging.WARNING)
    plugins = load(PLUGINS)
    configure(plugins, config, config.plugins)
    return asyncio.run(_request(options, config, plugins))


async def _request(options: Request, config: Config, plugins: pluggy.PluginManager) -> int:
    hook = plugins.hook
    loop = asyncio.get_running_loop()
    deadline = None if options.timeout is None else loop.time() + options.timeout

    def rejected(rejection: Rejection) -> None:
        if options.verbose:  # anybody can send any number of them
            emit_plain(hook.remaphore_rejected, rejection=rejection)

    limit = min(options.timeout or CONNECT_SECONDS, CONNECT_SECONDS)
    async with connect(config, timeout=limit, notice=console.say) as node:
        left = None if deadline is None else max(0.0, deadline - loop.time())
        async with node.request(
            options.verb,
            to=options.to,
            payload=options.payload,
            id=options.id,
            key=options.key,
            subject_name=options.subject,
            timeout=left,
            rejected=rejected,
        ) as exchange:
            try:
                async for reply in exchange:
                    await emit(hook.remaphore_reply, timeout=HOOK_SECONDS, request=exchange.message, reply=reply)
            finally:
                summary = exchange.summary()
                await emit(hook.remaphore_finished, timeout=HOOK_SECONDS, request=exchange.message, summary=summary)
                await emit(hook.remaphore_shutdown, timeout=HOOK_SECONDS, reason="done")
    if summary.rejected and not options.verbose:
        number = "1 reply was" if summary.rejected == 1 else f"{summary.rejected} replies were"
        console.say(f"{number} not taken; --verbose shows why")
    return 0 if set(summary.answered) - set(summary.refused) else 1
