"""`remaphore agent`: the local agent, which sends, requests and receives for local users, and keeps the keys."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from remaphore.cli import output

if TYPE_CHECKING:
    import socket

    from remaphore.agent.server import Agent as AgentServer
    from remaphore.cli.arguments import Parser
    from remaphore.config.settings import Config
    from remaphore.receiving.systemd import Notifier

SUMMARY = "run the local agent: send for users who cannot read the keys"
EXAMPLE = """\
remaphore agent
remaphore agent --whoami
remaphore agent --agent /tmp/remaphore/agent.sock -c remaphore.toml"""
EXIT_CODES = {0: "stopped by SIGTERM or SIGINT; --whoami: printed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """Options of agent. agent: the path of its socket. whoami: ask a running one. verbose: log debug events too."""

    config: str | None = None
    agent: str | None = None
    whoami: bool = False
    log_format: Literal["console", "json"] = "console"
    verbose: bool = False


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    from remaphore.cli.arguments import add_config, add_log

    parser.description = (
        "Run the local agent: it listens on a Unix socket, and sends, requests and receives for the users that"
        " [[agent.allow]] names. Only the agent reads the keys. SIGHUP reloads the configuration."
    )
    add_config(parser)
    parser.add_argument(
        "--agent",
        metavar="PATH",
        help="socket to create (default: that of systemd, else [agent] socket, else /run/remaphore/agent.sock for root"
        " and $XDG_RUNTIME_DIR/remaphore/agent.sock for others)",
    )
    parser.add_argument(
        "--whoami", action="store_true", help="print, as JSON, what the running agent permits you, and why, and exit"
    )
    add_log(parser)
    parser.set_defaults(options=Agent)


def run(options: Agent) -> int:
    """Run until SIGTERM or SIGINT; return 0. With --whoami, only print what a running agent says about us."""
    from contextlib import closing

    from remaphore import tasks
    from remaphore.agent import listener
    from remaphore.cli import deferred
    from remaphore.cli.main import enable_gc
    from remaphore.cli.writer import continue_unread

    if options.whoami:
        return print_whoami(options)
    continue_unread()
    output.configure_logs(options.log_format, level="DEBUG" if options.verbose else "INFO")
    deferred.forget_used()
    config = _load_config(options)
    passed = listener.activated(os.environ, pid=os.getpid())
    enable_gc(collect=True)
    if passed is not None:
        with closing(passed):
            tasks.run(serve(options, config, passed))
        return 0
    uid = os.geteuid()
    path = listener.socket_path(options.agent, config, os.environ, uid=uid)
    with listener.created(path, uid=uid) as created:
        tasks.run(serve(options, config, created))
    return 0


def print_whoami(options: Agent) -> int:
    """Print what a running agent permits us; return 0. Raise AgentError."""
    import json
    import sys

    from remaphore import tasks
    from remaphore.agent import client, place
    from remaphore.errors import AgentError

    path = place.find(os.environ, named=options.agent, config=options.config)
    if path is None:
        hint = "start it, or name its socket with --agent"
        raise AgentError("you use no agent: there is none, or you have a configuration of your own", hint=hint)
    sys.stdout.write(json.dumps({"agent": path, **tasks.run(client.whoami(path))}, indent=2) + "\n")
    return 0


def _load_config(options: Agent) -> Config:
    """Return the configuration, whose keys can be read: without them nothing can be sent."""
    from remaphore.cli.configuration import load_config

    config = load_config(options.config, trusted=True)
    for identity in config.identities:
        identity.load()
    return config


async def serve(options: Agent, config: Config, listener: socket.socket) -> None:
    """Serve clients until a signal stops the agent; it serves, and says so, before its broker is reached."""
    import asyncio
    import signal

    import structlog

    from remaphore.agent.metrics import served
    from remaphore.agent.server import Agent as AgentServer
    from remaphore.cli.main import return_memory
    from remaphore.receiving.systemd import Notifier
    from remaphore.tasks import on_stop, spawn
    from remaphore.transport.nats_client import NatsBus

    log = structlog.get_logger()
    notifier = Notifier(os.environ)
    stopped = asyncio.Event()
    on_stop(lambda _number: stopped.set(), signal.SIGINT, signal.SIGTERM)

    def report(event: str, line: str) -> None:
        log.warning(event, detail=line)
        notifier.status(line)
        server.notify(line)

    bus = NatsBus.start(
        config.servers,
        auth=config.auth,
        tls=config.tls,
        on_notice=lambda line: report("broker_disconnected", line),
        on_reconnect=lambda line: report("broker_reconnected", line),
        on_protocol_error=lambda line: log.warning("broker_protocol_error", detail=line),
    )
    server = AgentServer(bus, config)
    _reload_on_hangup(options, server, notifier)
    tasks = {spawn(server.serve(listener), name="agent"), spawn(stopped.wait(), name="agent stop")}
    log.info("ready", detail=f"Ready, listening on {listener.getsockname()}", rules=len(config.agent.allow))
    notifier.ready(f"serving {len(config.agent.allow)} rules")
    return_memory()
    try:
        async with served(config.agent.metrics, server.collect_metrics):
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(*done)  # raises what has ended the server
    finally:
        notifier.stopping()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await bus.close()
        notifier.close()
    log.info("stopped", operations=server.counts.total)


def _reload_on_hangup(options: Agent, server: AgentServer, notifier: Notifier) -> None:
    """Let SIGHUP reload the configuration, and reload it now if there was one since the command started."""
    import asyncio
    import signal

    import structlog

    from remaphore import interrupts
    from remaphore.errors import RemaphoreError

    log = structlog.get_logger()

    def reload() -> None:
        notifier.reloading()
        note = ""
        try:
            server.apply_config(_load_config(options))
        except RemaphoreError as error:
            effect, note = "the old configuration stays in effect", "; the reload failed, see the log"
            log.error("reload_rejected", error=str(error), effect=effect, hint=error.hint)  # noqa: TRY400
        else:
            log.info("reloaded", rules=len(server.config.agent.allow), source=server.config.source)
        notifier.ready(f"serving {len(server.config.agent.allow)} rules{note}")

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload)
    if interrupts.hangups:
        loop.call_soon(reload)
