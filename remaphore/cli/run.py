"""`remaphore run`: the daemon."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from remaphore import logs, tasks
from remaphore.cli import console
from remaphore.cli.options.daemon import Run
from remaphore.config.settings import DEFAULT_HOOKS, Config
from remaphore.hooks.manager import configure, load
from remaphore.node import Node, connect
from remaphore.receiving.daemon import Daemon
from remaphore.receiving.ledger import state
from remaphore.receiving.ledger.ledger import Ledger
from remaphore.receiving.systemd import Notifier
from remaphore.tasks import spawn

if TYPE_CHECKING:
    import pluggy

# Always there; what `[plugins] enable` names is added.
PLUGINS = ("exec-script", "log")

_log = structlog.get_logger()


def run(options: Run) -> int:
    """Run until SIGTERM or SIGINT; return 0. With --check, only say whether it would start."""
    logs.configure(options.log_format)
    config = read_config(options)
    config.identity().load()
    plugins = load_plugins(config)
    folder = state.directory(config, options.instance, os.environ)
    if options.check:
        console.say(f"{config.source}: {len(config.peers)} peers; the daemon would start")
        return 0
    console.settle_in()
    with state.locked(folder):
        tasks.run(_run(options, config, plugins, folder))
    return 0


def read_config(options: Run) -> Config:
    """Read the configuration; handler directories are the command line's, else the file's, else the system's."""
    config = console.load_config(options.config)
    return replace(config, hooks=tuple(map(Path, options.hooks)) or config.hooks or DEFAULT_HOOKS)


def load_plugins(config: Config) -> pluggy.PluginManager:
    """Load and configure the plugins of the daemon."""
    plugins = load((*PLUGINS, *config.enabled_plugins))
    configure(plugins, config)
    return plugins


async def _run(options: Run, config: Config, plugins: pluggy.PluginManager, folder: Path) -> None:
    notifier = Notifier(os.environ)
    notifier.status("waiting for the broker")
    ledger = Ledger(folder, allow_skew_ns=config.allow_skew_ns, now=time.time_ns())
    away, back = partial(_notice, notifier, "broker_disconnected"), partial(_notice, notifier, "broker_reconnected")
    connection = connect(
        config, timeout=None, on_notice=away, on_reconnect=back, on_protocol_error=_warn_of_protocol_error
    )
    async with ledger, connection as node:
        daemon = Daemon(node.bus, config, plugins=plugins, ledger=ledger, instance=options.instance)
        reload = _reloader(daemon, node, notifier, options)
        for number, action in {signal.SIGTERM: daemon.stop, signal.SIGINT: daemon.stop, signal.SIGHUP: reload}.items():
            asyncio.get_running_loop().add_signal_handler(number, action)
        async with _watchdog(notifier):
            await daemon.run(ready=lambda: _ready(notifier, config))
            notifier.stopping()
    stats = daemon.stats()
    _log.info("stopped", received=stats.received, handled=sum(stats.handled.values()))


def _ready(notifier: Notifier, config: Config) -> None:
    _log.info("Ready")
    notifier.ready(f"receiving as {config.destination}")


def _reloader(daemon: Daemon, node: Node, notifier: Notifier, options: Run) -> Callable[[], None]:
    def reload() -> None:
        notifier.reloading()
        taken = daemon.reload(lambda: read_config(options))
        state = "receiving" if node.bus.connected else "waiting for the broker"
        notifier.ready(state if taken else f"{state}; the new configuration was rejected, see the log")

    return reload


def _notice(notifier: Notifier, event: str, line: str) -> None:
    _log.warning(event, detail=line)
    notifier.status(line)


def _warn_of_protocol_error(line: str) -> None:
    _log.warning("broker_protocol_error", detail=line)


@asynccontextmanager
async def _watchdog(notifier: Notifier) -> AsyncIterator[None]:
    """Tell the service manager that the loop turns, for as long as it wants to hear it."""
    seconds = notifier.watchdog_seconds

    async def turn() -> None:
        while seconds:
            notifier.alive()
            await asyncio.sleep(seconds)

    task = spawn(turn(), name="watchdog")
    try:
        yield
    finally:
        task.cancel()
