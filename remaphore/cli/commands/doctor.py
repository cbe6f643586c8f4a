"""`remaphore doctor`: check the broker and the peers, and what they permit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remaphore.cli import output
from remaphore.cli.commands.request import EXIT_MISSING
from remaphore.protocol.match import ALL

if TYPE_CHECKING:
    from collections.abc import Callable

    from remaphore.cli.arguments import Parser

DEFAULT_SECONDS = 5.0

SUMMARY = "check the broker and the peers, and what they permit"
EXAMPLE = """\
remaphore doctor
remaphore doctor --to 'com.example.**'
remaphore doctor --to 'com.example.web.[1-3]' --to com.example.db"""
EXIT_CODES = {
    0: "no errors, and every peer replied (there may be warnings)",
    1: "at least one error",
    EXIT_MISSING: "no errors, but at least one peer did not reply; a peer that runs the Go implementation need not",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor:
    """Options of doctor. to: patterns and node sets to ask, none for all; timeout: seconds for each step."""

    config: str | None = None
    to: tuple[str, ...] = ()
    timeout: float = DEFAULT_SECONDS
    json: bool = False


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    from remaphore.cli.arguments import add_config, add_json, positive_seconds
    from remaphore.cli.selection import EXPLAINED, METAVAR

    parser.description = (
        "Connect to each server, ask each peer with the verb `permissions`, and report which peers reply, whose clock"
        " is off, and what the peers and this node permit each other. Peers report their permissions if they have the"
        " plugin `permissions` enabled. When all have replied, doctor waits until --timeout or Ctrl-C for a second"
        " machine with the key of one of them. Each finding is printed with a hint on how to fix it. Equal findings"
        f" about several peers are printed as one line. {EXPLAINED}"
    )
    add_config(parser)
    parser.add_argument(
        "--to",
        metavar=METAVAR,
        action="append",
        default=[],
        help="ask only these peers: patterns or node sets; repeatable (default: ** for all)",
    )
    parser.add_argument(
        "--timeout",
        type=positive_seconds,
        metavar="TIME",
        default=DEFAULT_SECONDS,
        help=f"give up each step after TIME (default: {DEFAULT_SECONDS:.0f}s)",
    )
    add_json(parser)
    parser.set_defaults(options=Doctor)


def run(options: Doctor) -> int:
    """Run the checks; return 0, 1 if there is an error among the findings, else 4 if a peer did not reply."""
    import asyncio
    import os

    from remaphore import tasks
    from remaphore.cli.configuration import load_config
    from remaphore.cli.findings import FindingPrinter
    from remaphore.cli.selection import addressees
    from remaphore.diagnostics.doctor import examine
    from remaphore.diagnostics.local_agent import examine_agent, examine_without_keys
    from remaphore.errors import ConfigError
    from remaphore.interrupts import heeded, on_interrupt

    printer = FindingPrinter(to_json=options.json)
    try:
        config = load_config(options.config)
        config.identity().load()
    except ConfigError as error:
        way = examine_without_keys(os.environ, error, chosen=options.config, timeout=options.timeout)
        if not (findings := tasks.run(way)):
            raise
        printer.show(*findings)
        return printer.conclude()
    to = addressees("--to", options.to or (ALL,), config) if config.peers else ()
    output.configure_logs(level="WARNING")

    def on_listening(stop: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        on_interrupt(lambda _number: loop.call_soon_threadsafe(stop), signals=heeded())

    async def examine_all() -> None:
        for finding in await examine_agent(os.environ, chosen=options.config, timeout=options.timeout):
            printer.show(finding)
        await examine(config, to=to, timeout=options.timeout, report=printer.show, on_listening=on_listening)

    tasks.run(examine_all())
    return printer.conclude()
