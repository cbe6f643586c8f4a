"""`remaphore run`: the daemon."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from remaphore.cli import output
from remaphore.receiving.ledger.state import DEFAULT_INSTANCE

if TYPE_CHECKING:
    from pathlib import Path

    import pluggy

    from remaphore.cli.arguments import Parser
    from remaphore.config.settings import Config
    from remaphore.receiving.daemon import Daemon
    from remaphore.receiving.systemd import Notifier
    from remaphore.transport.nats_client import NatsBus

# Always loaded; `[plugins] enable` adds others.
PLUGINS = ("hooks-d", "log")
WAITING = "waiting for the broker"  # in `systemctl status`

SUMMARY = "run the daemon: handlers in hooks.d/VERB/, and plugins"
EXAMPLE = """\
remaphore run --check
remaphore run --hooks /etc/remaphore/hooks.d"""
EXIT_CODES = {0: "stopped by SIGTERM or SIGINT; --check: the daemon would start"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Options of run. hooks: handler directories; check: only report whether the daemon would start.

    verbose: log debug events too.
    """

    config: str | None = None
    hooks: tuple[str, ...] = ()
    instance: str = DEFAULT_INSTANCE
    check: bool = False
    log_format: Literal["console", "json"] = "console"
    verbose: bool = False


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    from remaphore.cli.arguments import add_daemon, add_log

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
    add_log(parser)
    parser.set_defaults(options=Run)


def run(options: Run) -> int:
    """Run until SIGTERM or SIGINT; return 0. With --check, only report whether the daemon would start."""
    from remaphore import tasks
    from remaphore.cli import deferred
    from remaphore.cli.main import enable_gc
    from remaphore.cli.writer import continue_unread
    from remaphore.hooks.manager import configure, load
    from remaphore.receiving.ledger import state

    continue_unread()
    output.configure_logs(options.log_format, level="DEBUG" if options.verbose else "INFO")
    deferred.forget_used()
    config = _load_config(options)
    plugins = load((*PLUGINS, *config.enabled_plugins))
    configure(plugins, config)
    folder = state.directory(config, options.instance, os.environ)
    if options.check:
        state.check(folder)
        _check_machine(folder)
        output.notice(f"{config.source}: {len(config.peers)} peers; the daemon would start")
        return 0
    enable_gc(collect=True)
    with state.locked(folder):
        tasks.run(serve(options, config, plugins, folder))
    return 0


def _check_machine(folder: Path) -> None:
    """Raise RemaphoreError if the ledger in *folder* would have no locks or no thread."""
    from concurrent.futures import ThreadPoolExecutor

    from remaphore.receiving.ledger import locks
    from remaphore.receiving.threads import start_threads

    locks.probe(next(each for each in (folder, *folder.parents) if os.path.exists(each)))  # noqa: PTH110
    with ThreadPoolExecutor(1) as threads:
        start_threads(threads, 1)


def _load_config(options: Run) -> Config:
    """Return the configuration, whose key can be read: without it, handlers would run, and no reply be sent."""
    from remaphore.cli.configuration import load_daemon_config

    config = load_daemon_config(options.config, options.hooks, trusted=True)
    config.identity().load()
    return config


async def serve(options: Run, config: Config, plugins: pluggy.PluginManager, folder: Path) -> None:
    """Run the daemon with the state directory *folder* until a signal stops it.

    Nothing waits before the signals are handled, and the service is reported as up before its broker is reached.
    """
    import signal
    from contextlib import AsyncExitStack

    import structlog

    from remaphore.cli.main import return_memory
    from remaphore.node import DaemonNode
    from remaphore.receiving.daemon import Daemon
    from remaphore.receiving.ledger.ledger import Ledger
    from remaphore.receiving.status_file import StatusFile
    from remaphore.receiving.systemd import Notifier
    from remaphore.tasks import on_stop

    # `daemon` exists when the loop runs this: there is no await in between.
    on_stop(lambda _number: daemon.stop(), signal.SIGINT, signal.SIGTERM)
    log = structlog.get_logger()
    notifier = Notifier(os.environ)

    def report(event: str, line: str) -> None:
        log.warning(event, detail=line)
        notifier.status(line)

    def ready() -> None:
        log.info("ready", detail=f"Ready, receiving as {daemon.destination}")  # scripts wait for the word of `receive`
        notifier.receiving(daemon.destination)
        return_memory()

    ledger = Ledger(folder, allow_skew_ns=config.allow_skew_ns, now=time.time_ns())
    bus = _start_bus(config, report)
    daemon = Daemon(
        bus, config, plugins=plugins, ledger=ledger, folder=folder, make_node=DaemonNode, instance=options.instance
    )
    _reload_on_hangup(options, daemon, plugins, notifier)
    async with ledger, StatusFile(folder, daemon, bus), AsyncExitStack() as stack, _watchdog(notifier):
        stack.callback(notifier.close)
        stack.push_async_callback(bus.close)
        notifier.ready(WAITING)
        await daemon.run(ready=ready)
        notifier.stopping()
    stats = daemon.stats()
    log.info("stopped", received=stats.received, handled=sum(stats.handled.values()))


def _start_bus(config: Config, report: Callable[[str, str], None]) -> NatsBus:
    """Return the bus, which connects in the background. report: gets event and line of each outage and its end."""
    from functools import partial

    import structlog

    from remaphore.transport.nats_client import NatsBus

    return NatsBus.start(
        config.servers,
        auth=config.auth,
        tls=config.tls,
        on_notice=partial(report, "broker_disconnected"),
        on_reconnect=partial(report, "broker_reconnected"),
        on_protocol_error=lambda line: structlog.get_logger().warning("broker_protocol_error", detail=line),
    )


def _reload_on_hangup(options: Run, daemon: Daemon, plugins: pluggy.PluginManager, notifier: Notifier) -> None:
    """Let SIGHUP reload the configuration, and reload it now if there was one since the command started."""
    import asyncio
    import signal

    from remaphore import interrupts
    from remaphore.hooks import manager

    enabled: dict[str, pluggy.PluginManager] = {}  # by name, what was enabled since the start, and is not started yet

    def load() -> Config:
        config = _load_config(options)
        # What takes effect at a restart. An error is reported now, not when the daemon no longer starts. A plugin is
        # loaded once: a second object of it could find taken what the first one has registered.
        for name in config.enabled_plugins:
            if not plugins.has_plugin(name) and name not in enabled:
                enabled[name] = manager.load((name,))
        for each in (plugins, *(found for name, found in enabled.items() if name in config.enabled_plugins)):
            manager.read_settings(each, config)
        return config

    def reload() -> None:
        notifier.reloading()
        applied = False
        try:
            applied = daemon.reload(load)
        finally:  # the service manager waits for it
            state = f"receiving as {daemon.destination}" if daemon.stats().connected else WAITING
            notifier.ready(state if applied else f"{state}; the reload failed, see the log")

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload)
    if interrupts.hangups:
        loop.call_soon(reload)


@asynccontextmanager
async def _watchdog(notifier: Notifier) -> AsyncIterator[None]:
    """Report to the service manager that the event loop runs, if it has a watchdog interval."""
    import asyncio

    from remaphore.tasks import spawn

    seconds = notifier.watchdog_seconds

    async def turn() -> None:
        while seconds:
            notifier.alive()  # which never raises
            await asyncio.sleep(seconds)

    task = spawn(turn(), name="watchdog")
    try:
        yield
    finally:
        task.cancel()
