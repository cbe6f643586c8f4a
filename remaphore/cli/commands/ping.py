"""`remaphore ping`: measure round-trip time and clock offset of the peers. Lines as they arrive, then a summary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remaphore.cli import output
from remaphore.cli.commands.request import EXIT_MISSING
from remaphore.protocol.match import ALL

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser
    from remaphore.config.settings import Config
    from remaphore.diagnostics.pinger import PingStats
    from remaphore.diagnostics.probe import Answer

DEFAULT_SECONDS = 5.0
DEFAULT_INTERVAL = 1.0

SUMMARY = "measure round-trip time and clock offset of the peers"
EXAMPLE = """\
remaphore ping
remaphore ping --count 3 'com.example.**'
remaphore ping 'com.example.web.[1-3]' com.example.db"""
EXIT_CODES = {
    0: "every peer replied to every ping",
    1: "no peer replied, or several machines reply as one peer",
    EXIT_MISSING: "some replies are missing",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """Options of ping. to: patterns and node sets; count: None for until interrupted; interval, timeout: seconds."""

    config: str | None = None
    to: tuple[str, ...] = (ALL,)
    count: int | None = None
    interval: float = DEFAULT_INTERVAL
    timeout: float = DEFAULT_SECONDS
    json: bool = False


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    from remaphore.cli.arguments import add_config, add_json, positive_integer, positive_seconds
    from remaphore.cli.selection import EXPLAINED, METAVAR

    parser.description = (
        "Send `ping` repeatedly and print each reply: its round-trip time, the offset of the peer's clock, and its"
        " output, which is the daemon's version and uptime if it has no handler for `ping`. Each ping waits until"
        " --timeout, even if every peer has replied, to detect a second machine with the key of a peer (marked DUP)."
        " The command ends after --count pings, or at once with Ctrl-C, with a summary on stderr. A"
        f" receiver that waits for any message accepts a ping too. {EXPLAINED}"
    )
    add_config(parser)
    parser.add_argument(
        "to", metavar=METAVAR, nargs="*", default=[ALL], help="patterns or node sets to ping (default: ** for all)"
    )
    parser.add_argument(
        "--count", type=positive_integer, metavar="N", help="stop after N pings (default: until interrupted)"
    )
    parser.add_argument(
        "--interval",
        type=positive_seconds,
        metavar="TIME",
        default=DEFAULT_INTERVAL,
        help=f"wait TIME between two pings (default: {DEFAULT_INTERVAL:.0f}s)",
    )
    parser.add_argument(
        "--timeout",
        type=positive_seconds,
        metavar="TIME",
        default=DEFAULT_SECONDS,
        help=f"wait at most TIME for a reply (default: {DEFAULT_SECONDS:.0f}s)",
    )
    add_json(parser, "print one JSON object per line, also for the summary")
    parser.set_defaults(options=Ping)


def run(options: Ping) -> int:
    """Ping; return 0 if all replied each time, 1 if none did or one is several machines, 4 if some are missing."""
    from remaphore import tasks
    from remaphore.cli.configuration import load_config
    from remaphore.cli.selection import METAVAR, addressees
    from remaphore.diagnostics.findings import Level
    from remaphore.protocol.ping import VERB
    from remaphore.requesting.requester import expect_each

    config = load_config(options.config)
    config.sender(VERB).load()
    to = addressees(METAVAR, options.to, config)
    expect_each(config, to)
    output.configure_logs(level="WARNING")
    stats = tasks.run(ping(options, config, to))
    _write_summary(stats, to_json=options.json)
    if not stats.answered.total() or any(finding.level is Level.ERROR for finding in stats.findings.values()):
        return 1
    return EXIT_MISSING if stats.missing else 0


async def ping(options: Ping, config: Config, to: tuple[str, ...]) -> PingStats:
    """Ping *to* and print each reply; return the counts."""
    import asyncio

    from remaphore.diagnostics.pinger import Pinger
    from remaphore.interrupts import heeded, on_interrupt
    from remaphore.node import CONNECT_SECONDS, connect

    async with connect(config, timeout=CONNECT_SECONDS, on_notice=output.notice) as node:
        pinger = Pinger(
            node.bus,
            config,
            to=to,
            count=options.count,
            interval=options.interval,
            timeout=options.timeout,
        )
        loop = asyncio.get_running_loop()
        on_interrupt(lambda _number: loop.call_soon_threadsafe(pinger.stop), signals=heeded())
        async for number, answer in pinger.answers():
            if options.json:
                output.write_json(to_row(number, answer))
            else:
                output.write(to_line(number, answer))
        return pinger.stats


def to_line(number: int, answer: Answer) -> str:
    """Return *answer* to the ping *number* as one printable line, on a terminal wrapped."""
    reply = answer.reply
    code = "" if reply.exit_code is None else f" exit={reply.exit_code}"
    times = f"time={_ms(answer.round_trip_ns):.1f} ms skew={_ms(answer.skew_ns):+.1f} ms"
    mark = " (DUP)" if answer.further else ""
    line = f"{reply.peer}: seq={number}{mark} {times}{code} {_first_line(reply.output)}"
    return output.wrap(output.printable(line).rstrip(), indent=4)


def to_row(number: int, answer: Answer) -> dict[str, object]:
    """Return *answer* to the ping *number* as the object that --json prints."""
    from remaphore.diagnostics.machines import find_invocation
    from remaphore.diagnostics.pinger import reported_version

    reply, invocation = answer.reply, find_invocation(answer.reply)
    return {
        "kind": "reply",
        "seq": number,
        "peer": reply.peer,
        "round_trip_ms": _ms(answer.round_trip_ns),
        "skew_ms": _ms(answer.skew_ns),
        "exit_code": reply.exit_code,
        "output": _first_line(reply.output),
        "version": reported_version(reply.output),
        "invocation": invocation.number if invocation else None,
        "instance": invocation.instance if invocation else None,
        "duplicate": answer.further,
        "bound": reply.bound,
    }


def _first_line(text: bytes) -> str:
    from remaphore.text import shorten

    return shorten(text.decode(errors="replace").strip().partition("\n")[0])


def _write_summary(stats: PingStats, *, to_json: bool) -> None:
    """Write the summary: as JSON to stdout, or as notices."""
    from remaphore import nodeset
    from remaphore.cli.findings import to_row as finding_to_row
    from remaphore.diagnostics.folding import fold

    asked, answered = stats.asked.total(), stats.answered.total()
    least, total, most = stats.round_trips_ns
    times = {"min": _ms(least), "avg": _ms(total) / max(answered, 1), "max": _ms(most)}
    if to_json:
        peers = {name: {"asked": n, "answered": stats.answered[name]} for name, n in sorted(stats.asked.items())}
        output.write_json(
            {
                "kind": "summary",
                "pings": stats.pings,
                "peers": peers,
                "missing": sorted(stats.missing),
                "round_trip_ms": times,
                "findings": [finding_to_row(finding) for finding in stats.findings.values()],
            }
        )
        return
    output.notice(f"{stats.pings} {'ping' if stats.pings == 1 else 'pings'}, {answered} of {asked} answers")
    missing: dict[tuple[int, int], list[str]] = {}
    for name, number in stats.missing.items():
        missing.setdefault((number, stats.asked[name]), []).append(name)
    for (number, of), names in sorted(missing.items(), reverse=True):
        output.notice(f"missing: {nodeset.fold(names)}, {number} of {of}")
    if answered:
        output.notice("round trip min/avg/max {min:.1f}/{avg:.1f}/{max:.1f} ms".format(**times))
    for finding in fold(stats.findings.values()):
        output.notice(f"{finding.level}: {finding.where}: {finding.what}")
        if finding.hint:
            output.notice(f"hint: {finding.hint}")


def _ms(nanoseconds: int) -> float:
    return nanoseconds / 1_000_000
