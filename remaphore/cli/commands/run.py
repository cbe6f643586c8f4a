"""`remaphore run`: the daemon."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from remaphore.cli import output

if TYPE_CHECKING:
    from pathlib import Path

    import pluggy

    from remaphore.cli.arguments import Parser
    from remaphore.config.settings import Config
    from remaphore.receiving.systemd import Notifier

# Always loaded; `[plugins] enable` adds others.
PLUGINS = ("hooks-d", "log")
DEFAULT_INSTANCE = "main"

SUMMARY = "run the daemon: handlers in hooks.d/VERB/, and plugins"
EXAMPLE = """\
remaphore run --check
remaphore run --hooks /etc/remaphore/hooks.d"""
EXIT_CODES = {0: "stopped by SIGTERM or SIGINT; --check: the daemon would start"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Options of run. hooks: handler directories; check: only report whether the daemon would start."""

    config: str | None = None
    hooks: tuple[str, ...] = ()
    instance: str = DEFAULT_INSTANCE
    check: bool = False
    log_format: Literal["console", "json"] = "console"


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    from remaphore.cli.arguments import add_daemon, add_log_format

    parser.description = (
        "Run the daemon: for each message, run the handlers in hooks.d/VERB/ and the enabled plugins. SIGHUP reloads"
        " the configuration."
    )
    add_daemon(parser)
    parser.add_argument(
        "--instance",
        metavar="NAME",
        default=DEFAULT_INSTANCE,
        help=f"name of the state directory (default: {DEFAULT_INSTANCE})",
    )
    parser.add_argument("--check", action="store_true", help="only check whether the daemon would start")
    add_log_format(parser)
    parser.set_defaults(options=Run)


def run(options: Run) -> int:
    """Run until SIGTERM or SIGINT; return 0. With --check, only report whether the daemon would start."""
    from remaphore import tasks
    from remaphore.cli.configuration import load_daemon_config
    from remaphore.cli.main import enable_gc
    from remaphore.hooks.manager import configure, load
    from remaphore.receiving.ledger import state

    output.configure_logs(options.log_format)
    config = load_daemon_config(options.config, options.hooks, trusted=True)
    config.identity().load()
    plugins = load((*PLUGINS, *config.enabled_plugins))
    configure(plugins, config)
    folder = state.directory(config, options.instance, os.environ)
    if options.check:
        state.check(folder)
        output.notice(f"{config.source}: {len(config.peers)} peers; the daemon would start")
        return 0
    enable_gc()
    with state.locked(folder):
        tasks.run(serve(options, config, plugins, folder))
    return 0


async def serve(options: Run, config: Config, plugins: pluggy.PluginManager, folder: Path) -> None:
    """Run the daemon with the state directory *folder* until a signal stops it."""
    import asyncio
    import signal
    from functools import partial

    import structlog

    from remaphore.cli.configuration import load_daemon_config
    from remaphore.node import connect
    from remaphore.receiving.daemon import Daemon
    from remaphore.receiving.ledger.ledger import Ledger
    from remaphore.receiving.systemd import Notifier

    log = structlog.get_logger()
    notifier = Notifier(os.environ)
    notifier.status("waiting for the broker")
    ledger = Ledger(folder, allow_skew_ns=config.allow_skew_ns, now=time.time_ns())

    def report(event: str, line: str) -> None:
        log.warning(event, detail=line)
        notifier.status(line)

    def ready() -> None:
        log.info("ready")
        notifier.ready(f"receiving as {config.destination}")

    connection = connect(
        config,
        timeout=None,
        on_notice=partial(report, "broker_disconnected"),
        on_reconnect=partial(report, "broker_reconnected"),
        on_protocol_error=lambda line: log.warning("broker_protocol_error", detail=line),
    )
    async with ledger, connection as node:
        daemon = Daemon(node.bus, config, plugins=plugins, ledger=ledger, instance=options.instance)

        def reload() -> None:
            notifier.reloading()
            applied = daemon.reload(lambda: load_daemon_config(options.config, options.hooks, trusted=True))
            state = "receiving" if node.bus.connected else "waiting for the broker"
            notifier.ready(state if applied else f"{state}; the new configuration was rejected, see the log")

        for number, action in {signal.SIGTERM: daemon.stop, signal.SIGINT: daemon.stop, signal.SIGHUP: reload}.items():
            asyncio.get_running_loop().add_signal_handler(number, action)
        async with _watchdog(notifier):
            await daemon.run(ready=ready)
            notifier.stopping()
    stats = daemon.stats()
    log.info("stopped", received=stats.received, handled=sum(stats.handled.values()))


@asynccontextmanager
async def _watchdog(notifier: Notifier) -> AsyncIterator[None]:
    """Report to the service manager that the event loop runs, if it has a watchdog interval."""
    import asyncio

    from remaphore.tasks import spawn

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
