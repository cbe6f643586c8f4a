"""`remaphore`, `remaphore receive`: wait for messages, and run a script for each."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import structlog

from remaphore import logs, tasks
from remaphore.cli import console
from remaphore.cli.options.receiving import Receive
from remaphore.config.settings import Config
from remaphore.errors import BrokerUnavailableError
from remaphore.hooks.manager import configure, load
from remaphore.node import connect
from remaphore.receiving.receiver import Receiver

if TYPE_CHECKING:
    import pluggy

_log = structlog.get_logger()


def run(options: Receive) -> int:
    """Receive; return 0 if a message was handled, 1 if none came in time, 128 + n after signal n."""
    console.check(key=options.key, subject_name=options.subject)
    config = console.load_config(options.config)
    config.identity().load()  # a receiver that could not sign its replies should say so now
    logs.configure(options.log_format)
    plugins = load(("log", "exec-script") if options.script else ("log",))
    configure(plugins, config, options={"exec-script": {"argv": options.script}})
    console.settle_in()
    return tasks.run(_receive(options, config, plugins))


async def _receive(options: Receive, config: Config, plugins: pluggy.PluginManager) -> int:
    loop = asyncio.get_running_loop()
    deadline = None if options.timeout is None else loop.time() + options.timeout
    try:
        async with connect(config, timeout=options.timeout, on_notice=console.say) as node:
            receiver = Receiver(
                node.bus,
                config,
                filters=console.filters(options),
                plugins=plugins,
                subject_name=options.subject,
                once=options.once,
            )
            stopped_by = _stop_on_signals(receiver)
            handled = await receiver.run(deadline=deadline, ready=lambda: _log.info("Ready"))
    except BrokerUnavailableError as error:
        console.say(str(error))  # the time is over, and no message came: that is what 1 says
        return 1
    if stopped_by:
        return 128 + stopped_by[0]
    return 0 if handled else 1


def _stop_on_signals(receiver: Receiver) -> list[int]:
    """Stop *receiver* on SIGINT and SIGTERM; return the list that then holds the signal's number."""
    received: list[int] = []

    def stop(number: signal.Signals) -> None:
        received.append(number)
        receiver.stop("signal")

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    return received
