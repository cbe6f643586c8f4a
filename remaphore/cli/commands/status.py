"""`remaphore status`: what the daemon of this machine, or of peers, does now: what runs, what waits, the last ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remaphore.cli import output
from remaphore.cli.commands.request import EXIT_FAILED, EXIT_MISSING, EXIT_REJECTED, notice_repeats
from remaphore.receiving.ledger.state import DEFAULT_INSTANCE

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser
    from remaphore.config.settings import Config
    from remaphore.diagnostics.status import Local, PeerStatus
    from remaphore.protocol.drop import Drop, DropReason
    from remaphore.protocol.status import Ended, Running, Status

DEFAULT_SECONDS = 5.0
METAVAR = "NODES"
HEADER = ("WHAT", "VERB", "ID", "PEER", "SINCE", "FOR", "RESULT")

SUMMARY = "show what the daemon of this machine, or of peers, does now"
EXAMPLE = """\
remaphore status
remaphore status 'com.example.**'
remaphore status --json 'com.example.web.[1-3]' com.example.db"""
EXIT_CODES = {
    0: "the daemon runs; with NODES: each peer replied with its status",
    1: "the status of the daemon is out of date; with NODES: no reply before the timeout",
    3: "no daemon is running with this state directory, or another error",
    EXIT_MISSING: "some replies are missing",
    EXIT_FAILED: "at least one reply is no status",
    EXIT_REJECTED: "at least one peer rejected the request",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowStatus:
    """Options of status. to: patterns and node sets to ask, none for the daemon of this machine.

    instance: the name of that daemon; None: the default. timeout: seconds to wait for replies; None: the default.
    """

    config: str | None = None
    to: tuple[str, ...] = ()
    instance: str | None = None
    timeout: float | None = None
    json: bool = False


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    from remaphore.cli.arguments import add_config, add_json, positive_seconds
    from remaphore.cli.selection import EXPLAINED

    parser.description = (
        "Show what a daemon does now: the messages that run and for whom, those that wait, and how the last ones ended."
        " Without NODES it is the daemon of this machine, from its state directory, without using the network. With"
        " NODES, each peer is asked with the verb `remaphore-status`, which it must permit; Ctrl-C ends the waiting and"
        f" shows what has arrived. Payloads and outputs are not shown. {EXPLAINED}"
    )
    add_config(parser)
    parser.add_argument(
        "to", metavar=METAVAR, nargs="*", default=[], help="patterns or node sets to ask (default: this machine)"
    )
    parser.add_argument(
        "--instance", metavar="NAME", help=f"name of the daemon of this machine (default: {DEFAULT_INSTANCE})"
    )
    parser.add_argument(
        "--timeout",
        type=positive_seconds,
        metavar="TIME",
        help=f"wait at most TIME for the replies (default: {DEFAULT_SECONDS:.0f}s)",
    )
    add_json(parser, "print one JSON document")
    parser.set_defaults(options=ShowStatus)


def run(options: ShowStatus) -> int:
    """Show the status; return the exit code. Raise UsageError for an option that has no effect."""
    from remaphore.errors import UsageError

    if options.to and options.instance is not None:
        hint = "leave out NODES for the daemon of this machine, or --instance"
        raise UsageError("--instance cannot be combined with NODES", hint=hint)
    if not options.to and options.timeout is not None:
        raise UsageError("--timeout needs NODES", hint="without NODES, nothing is sent")
    return run_remote(options) if options.to else run_local(options)


def run_local(options: ShowStatus) -> int:
    """Show the daemon of this machine; return 0, or 1 if its status is out of date."""
    from remaphore.cli.configuration import load_config
    from remaphore.diagnostics.status import read_local
    from remaphore.receiving.ledger import state

    config = load_config(options.config)
    instance = DEFAULT_INSTANCE if options.instance is None else options.instance
    folder = state.directory(config, instance, os.environ)
    local = read_local(folder, default=config.state_dir is None)
    if options.json:
        output.write_json({"nodes": [to_local_row(local)]})
    else:
        write_status(local.content.status, describe_local(local), older=local.age_seconds)
    if not local.stale:
        return 0
    output.notice(f"warning: the daemon last wrote its status {format_seconds(local.age_seconds)} ago")
    output.notice(
        "hint: its event loop is blocked, or its disk: look for plugin_blocked and status_file_failed in its log"
    )
    return 1


def run_remote(options: ShowStatus) -> int:
    """Ask the peers and show what they report; return the exit code."""
    from remaphore import tasks
    from remaphore.cli.configuration import load_config
    from remaphore.cli.selection import addressees
    from remaphore.errors import NoReceiversError
    from remaphore.protocol.status import VERB
    from remaphore.requesting.requester import expect_each

    config = load_config(options.config)
    config.sender(VERB).load()
    try:
        to = addressees(METAVAR, options.to, config)
        expect_each(config, to)
    except NoReceiversError as error:
        if config.destination not in options.to:
            raise
        what = f"{config.destination} is this node, and not one of its peers"
        raise NoReceiversError(what, hint="leave out NODES: remaphore status") from error
    output.configure_logs(level="WARNING")
    dropped: set[DropReason] = set()
    reports = tasks.run(ask_peers(config, to, timeout=options.timeout or DEFAULT_SECONDS, dropped=dropped))
    if options.json:
        output.write_json({"nodes": list(map(to_row, reports))})
    else:
        for report in reports:
            if report.status is not None:
                write_status(report.status, describe(report.status), name=report.peer)
    for line in problem_lines(reports):
        output.notice(line)
    notice_repeats(dropped)  # another daemon, of which nothing is shown
    return exit_code(reports)


async def ask_peers(config: Config, to: Sequence[str], *, timeout: float, dropped: set[DropReason]) -> list[PeerStatus]:
    """Return the reports of the peers that *to* addresses. Raise TransportError. *dropped* gets why replies were."""
    import asyncio

    from remaphore.diagnostics.status import ask
    from remaphore.interrupts import heeded, on_interrupt
    from remaphore.node import CONNECT_SECONDS, connect

    def on_asking(stop: Callable[[], object]) -> None:
        loop = asyncio.get_running_loop()
        on_interrupt(lambda _number: loop.call_soon_threadsafe(stop), signals=heeded())

    def on_drop(drop: Drop) -> None:
        dropped.add(drop.reason)

    async with connect(config, timeout=CONNECT_SECONDS, on_notice=output.notice) as node:
        return await ask(node, to, timeout=timeout, on_asking=on_asking, on_drop=on_drop)


def exit_code(reports: Sequence[PeerStatus]) -> int:
    """Return the first that applies, as for `request`: 1 no reply at all; 4 some missing; 5 no status; 6 rejected."""
    from remaphore.diagnostics.status import Problem

    found = [report.problem for report in reports]
    if all(problem is Problem.NO_REPLY for problem in found):
        return 1
    if Problem.NO_REPLY in found:
        return EXIT_MISSING
    if Problem.UNAVAILABLE in found or Problem.UNREADABLE in found:
        return EXIT_FAILED
    return EXIT_REJECTED if Problem.REJECTED in found else 0


def problem_lines(reports: Iterable[PeerStatus]) -> Iterator[str]:
    """Yield the problems, equal ones as one line with the names of the peers, each with its hint."""
    from remaphore import nodeset

    together: dict[tuple[str, str], list[str]] = {}
    for report in reports:
        if report.problem is not None:
            together.setdefault((report.what, report.hint), []).append(report.peer)
    for (what, hint), peers in together.items():
        yield f"{nodeset.fold(peers)}: {what}"
        yield f"hint: {hint}"


def to_row(report: PeerStatus) -> dict[str, object]:
    """Return *report* as the object that --json prints."""
    from remaphore.protocol.status import to_document

    if report.status is not None:
        return {"peer": report.peer, "status": to_document(report.status)}
    return {"peer": report.peer, "problem": report.problem, "what": report.what, "hint": report.hint}


def to_local_row(local: Local) -> dict[str, object]:
    """Return the daemon of this machine as the object that --json prints."""
    from remaphore.protocol.status import to_document

    content = local.content
    daemon = {
        "pid": content.pid,
        "connected": content.connected,
        "connection_ns": content.connection_ns,
        "written_ns": content.written_ns,
        "age_seconds": round(local.age_seconds, 3),
        "stale": local.stale,
    }
    return {"daemon": daemon, "status": to_document(content.status)}


def describe(status: Status, *, older: float = 0.0) -> str:
    """Return a line about the daemon as a whole. older: the age of *status*."""
    instance = f", instance {status.invocation.instance}" if status.invocation.instance != DEFAULT_INSTANCE else ""
    problem = f"; nothing can run: {status.problem}" if status.problem else ""
    up = format_seconds(status.uptime_seconds + older)
    return f"{status.state}, up {up}, remaphore {status.version}{instance}{problem}"


def describe_local(local: Local) -> str:
    """Return a line about the daemon of this machine."""
    content = local.content
    connection = "connected" if content.connected else "waiting for the broker"
    line = describe(content.status, older=local.age_seconds)
    return f"{line}; pid {content.pid}, {connection} since {format_time(content.connection_ns)}"


def write_status(status: Status, line: str, *, name: str = "", older: float = 0.0) -> None:
    """Write the section of one daemon: *line*, and a table. name: of the peer. older: the age of *status*."""
    output.write(output.wrap(output.printable(f"{name or status.destination}: {line}"), indent=4))
    rows = list(table_rows(status, older))
    if rows:
        output.write_table(HEADER, rows)
    left_out = zip(status.omitted, ("running", "queues", "ended"), strict=True)
    if omitted := ", ".join(f"{number} more {what}" for number, what in left_out if number):
        output.write(f"not listed: {omitted}\n")


def table_rows(status: Status, older: float) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table: what runs, what waits, and the last ends."""
    for running in status.running:
        since, seconds = format_time(running.since_ns), format_seconds(running.seconds + older)
        yield (running.state, running.verb, shown_id(running), running.peer, since, seconds, "")
    for queue in status.waiting:
        messages = f"{queue.messages} message{'' if queue.messages == 1 else 's'}"
        yield ("waiting", queue.verb, "", "", "", format_seconds(queue.oldest_seconds + older), messages)
    for end in status.ended:
        ago = f"{format_seconds(end.ago_seconds + older)} ago"
        took = "" if end.seconds is None else format_seconds(end.seconds)
        yield ("ended", end.verb, shown_id(end), end.peer, format_time(end.ended_ns), took, f"{result_of(end)}, {ago}")


def result_of(end: Ended) -> str:
    """Return how a message ended, in a few words."""
    if end.result != "handled":
        return f"{end.result}: {end.reason}" if end.reason else end.result
    code = "no exit code" if end.exit_code is None else f"exit code {end.exit_code}"
    return f"{code}, reply not sent" if end.reply_sent is False else code


def shown_id(row: Running | Ended) -> str:
    """Return the id of a message as in the log."""
    from remaphore.protocol.message import show_id

    return show_id(row.uuid) if row.uuid else ""


def format_seconds(seconds: float) -> str:
    """Return *seconds* for people: `0.2s`, `42s`, `3d 4h`."""
    from remaphore.protocol.ping import format_uptime

    return f"{seconds:.1f}s" if seconds < 10 else format_uptime(seconds)


def format_time(time_ns: int) -> str:
    """Return a time as in the log, to the second: `2026-11-30T22:35:24Z`."""
    from datetime import UTC, datetime, timedelta

    try:
        when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_ns // 1000)
    except OverflowError:
        return f"{time_ns} ns"
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"
