"""`remaphore receive`, `remaphore` with flags only: wait for messages and run a script for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from remaphore.cli import output, requests

if TYPE_CHECKING:
    import pluggy

    from remaphore.agent.receiver import AgentReceiver
    from remaphore.cli.arguments import Parser
    from remaphore.cli.route import Route
    from remaphore.config.settings import Config
    from remaphore.node import Node
    from remaphore.protocol.gate import Filters
    from remaphore.receiving.receiver import Receiver

SUMMARY = "wait for messages and run a script for each"
EXAMPLE = """\
remaphore receive --id upload_done && aws s3 cp s3://bucket/bigfile .
remaphore receive --verb deploy ./deploy.sh"""
EXIT_CODES = {
    0: "a message was received",
    1: "no message before the timeout",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Receive:
    """Options of receive. pattern: accept only messages sent to exactly it; script: command and arguments to run.

    config, agent, direct: see `remaphore.cli.route`. timeout: seconds, None for no limit. verbose: log debug events
    too. report: tell if the script is missing; it does not count when options are compared.
    """

    config: str | None = None
    agent: str | None = None
    direct: bool = False
    subject: str = ""
    verbs: tuple[str, ...] = ()
    once: bool = False
    id: str = ""
    timeout: float | None = None
    any_destination: bool = False
    pattern: str = ""
    key: str = ""
    script: tuple[str, ...] = ()
    log_format: Literal["console", "json"] = "console"
    verbose: bool = False
    report: bool = field(default=False, compare=False)

    @classmethod
    def from_arguments(cls, *, once: bool, script: tuple[str, ...], **given: Any) -> Receive:
        """Return the options of what the parser has read. Raise UsageError."""
        command = script[1:] if script[:1] == ("--",) else script
        return cls(**given, once=once or bool(given["id"]), script=command, report=True)


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    import argparse

    from remaphore.cli.arguments import add_log, add_verbs, seconds
    from remaphore.cli.route import add_route

    parser.description = "Wait for messages and run SCRIPT for each, as: SCRIPT ARG... VERB PAYLOAD."
    add_route(parser)
    requests.add_subject(parser)
    add_verbs(parser, "--verb", text="accept only these verbs; repeatable (default: all)")
    parser.add_argument("--id", metavar="TEXT", default="", help="accept only this id; implies --once")
    parser.add_argument(
        "--from",
        dest="key",
        metavar="KEY",
        default="",
        help="accept only messages signed by this public key",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--to",
        dest="pattern",
        metavar="PATTERN",
        default="",
        help="accept only messages sent to exactly this pattern (default: any that matches this node)",
    )
    where.add_argument("--any-destination", action="store_true", help="accept messages to other nodes too")
    parser.add_argument("--once", action="store_true", help="exit after the first message")
    parser.add_argument(
        "--timeout", type=seconds, metavar="TIME", help="give up after TIME, such as 10m (default: no limit)"
    )
    add_log(parser)
    parser.add_argument(
        "script", nargs=argparse.REMAINDER, metavar="SCRIPT [ARG...]", help="command to run for each message"
    )
    parser.set_defaults(options=Receive.from_arguments)


def run(options: Receive) -> int:
    """Receive; return 0 if a message was handled, 1 if none arrived in time, 128 + n after signal n."""
    import shutil

    from remaphore import tasks
    from remaphore.cli.main import enable_gc
    from remaphore.cli.route import choose
    from remaphore.cli.writer import continue_unread
    from remaphore.hooks.manager import configure, load

    requests.check_names(key=options.key, subject_name=options.subject)
    route = choose(options.config, agent=options.agent, direct=options.direct)
    config = route.config
    if not route.agent:
        config.identity().load()  # a receiver that cannot sign its replies fails here and not at the first message
    continue_unread()
    output.configure_logs(options.log_format, level="DEBUG" if options.verbose else "INFO")
    plugins = load(("log", "script") if options.script else ("log",))
    configure(plugins, config, options={"script": {"argv": options.script}})
    if options.report and options.script and shutil.which(options.script[0]) is None:
        where = "" if "/" in options.script[0] else " in PATH"
        missing = f"there is no program {options.script[0]!r}{where} yet"
        output.notice(f"warning: {missing}: until there is one, each message fails, and its reply is -1")
    if output.at_terminal():
        output.notice(describe_wait(options, config))
    enable_gc()
    return tasks.run(receive(options, route, plugins))


def describe_wait(options: Receive, config: Config) -> str:
    """Return for which messages the receiver waits, what it does with them, and how to end it."""
    from remaphore.protocol import subject

    parts = ["waiting for", "the first message" if options.once else "messages"]
    parts += [f"with the id {options.id!r}"] if options.id else []
    parts += [f"with the verb {' or '.join(options.verbs)}"] if options.verbs else []
    parts += [f"signed by {options.key}"] if options.key else []
    parts += ["to any destination"] if options.any_destination else [f"to {options.pattern or config.destination}"]
    parts += [f"on the subject {subject.for_messages(config.subject, options.subject)}"]
    parts += (
        [f"to run {options.script[0]}"]
        if options.script
        else [f"to log {'it' if options.once else 'them'}, without a script"]
    )
    return f"{' '.join(parts)}; Ctrl-C ends it, remaphore --help lists the commands"


async def receive(options: Receive, route: Route, plugins: pluggy.PluginManager) -> int:
    """Receive until the timeout, the end of --once or a signal; return the exit code."""
    import structlog

    from remaphore.errors import BrokerUnavailableError, with_hint
    from remaphore.interrupts import heeded
    from remaphore.tasks import deadline_after, on_stop

    deadline = deadline_after(options.timeout)
    filters = requests.make_filters(
        pattern=options.pattern,
        any_destination=options.any_destination,
        id=options.id,
        verbs=options.verbs,
        key=options.key,
    )
    stopped_by: list[int] = []
    try:
        async with route.connect(timeout=options.timeout, on_notice=output.notice) as node:
            receiver = _receiver(options, node, filters, plugins)

            def stop(number: int) -> None:
                stopped_by.append(number)
                receiver.stop("signal")

            on_stop(stop, *heeded())
            log = structlog.get_logger()
            handled = await receiver.run(deadline=deadline, ready=lambda: log.info("Ready"))  # as the Go program
    except BrokerUnavailableError as error:
        output.notice(with_hint(str(error), error.hint))  # the timeout: no message arrived, which is exit code 1
        return 1
    if stopped_by:
        return 128 + stopped_by[0]
    return 0 if handled else 1


def _receiver(
    options: Receive, node: Node, filters: Filters, plugins: pluggy.PluginManager
) -> Receiver | AgentReceiver:
    """Return the receiver for *node*: the agent verifies and signs, or we do."""
    from remaphore.agent.client import AgentNode

    if isinstance(node, AgentNode):
        from remaphore.agent.receiver import AgentReceiver

        return AgentReceiver(
            node, id=options.id, filters=filters, plugins=plugins, subject_name=options.subject, once=options.once
        )
    from remaphore.receiving.receiver import Receiver

    return Receiver(
        node.bus,
        node.config,
        filters=filters,
        plugins=plugins,
        subject_name=options.subject,
        once=options.once,
    )
