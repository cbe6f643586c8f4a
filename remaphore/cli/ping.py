"""`remaphore ping`: who is there, how far away, and what its clock says. Live lines, then a summary on stderr."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys

from remaphore import logs, tasks
from remaphore.cli import console
from remaphore.cli.options.health import Ping
from remaphore.config.settings import Config
from remaphore.diagnostics.findings import quote
from remaphore.diagnostics.pinger import Pinger, Tally, told_version
from remaphore.diagnostics.probe import Answer
from remaphore.diagnostics.replies import PING
from remaphore.node import CONNECT_SECONDS, connect
from remaphore.protocol import duration
from remaphore.requesting.requester import expect

SOME = 4  # some answers are missing, as `request --check` has it


def run(options: Ping) -> int:
    """Ping; return 0 if all answered each time, 1 if nobody ever did, 4 if some answers are missing."""
    config = console.load_config(options.config)
    config.sender(PING).load()
    expect(config, options.to)
    logs.configure("console", level=logging.WARNING)
    tally = tasks.run(_ping(options, config))
    (_write_summary if options.json else _say_summary)(tally)
    if not tally.answered.total():
        return 1
    return SOME if tally.missing else 0


async def _ping(options: Ping, config: Config) -> Tally:
    async with connect(config, timeout=CONNECT_SECONDS, on_notice=console.say) as node:
        pinger = Pinger(
            node.bus,
            config,
            to=options.to,
            count=options.count,
            interval=options.interval,
            timeout=options.timeout,
        )
        loop = asyncio.get_running_loop()
        tasks.on_interrupt(lambda: loop.call_soon_threadsafe(pinger.stop))
        loop.add_signal_handler(signal.SIGTERM, pinger.stop)
        async for number, answer in pinger.answers():
            sys.stdout.write(_to_json(number, answer) if options.json else to_line(number, answer))
            sys.stdout.flush()
        return pinger.tally


def to_line(number: int, answer: Answer) -> str:
    """Return *answer* to the ping *number* as one line, with its end. Nothing in it can do anything to a terminal."""
    reply = answer.reply
    code = "" if reply.exit_code is None else f" exit={reply.exit_code}"
    line = (
        f"{reply.peer}: seq={number} time={_ms(answer.round_trip_ns):.1f} ms skew={_ms(answer.skew_ns):+.1f} ms{code}"
    )
    return logs.escape(f"{line} {_first_line(reply.output)}").rstrip() + "\n"


def _first_line(output: bytes) -> str:
    return quote(output.decode(errors="replace").strip().partition("\n")[0])


def _to_json(number: int, answer: Answer) -> str:
    reply = answer.reply
    row = {
        "kind": "reply",
        "seq": number,
        "peer": reply.peer,
        "round_trip_ms": _ms(answer.round_trip_ns),
        "skew_ms": _ms(answer.skew_ns),
        "exit_code": reply.exit_code,
        "output": _first_line(reply.output),
        "version": told_version(reply.output),
        "bound": reply.bound,
    }
    return json.dumps(row) + "\n"


def _write_summary(tally: Tally) -> None:
    least, average, most = _round_trips(tally)
    row = {
        "kind": "summary",
        "pings": tally.rounds,
        "peers": {
            name: {"asked": asked, "answered": tally.answered[name]} for name, asked in sorted(tally.asked.items())
        },
        "missing": sorted(tally.missing),
        "round_trip_ms": {"min": least, "avg": average, "max": most},
    }
    sys.stdout.write(json.dumps(row) + "\n")


def _say_summary(tally: Tally) -> None:
    asked, answered = tally.asked.total(), tally.answered.total()
    console.say(f"{tally.rounds} {'ping' if tally.rounds == 1 else 'pings'}, {answered} of {asked} answers")
    for name, number in sorted(tally.missing.items()):
        console.say(f"missing: {name}, {number} of {tally.asked[name]}")
    if answered:
        least, average, most = _round_trips(tally)
        console.say(f"round trip min/avg/max {least:.1f}/{average:.1f}/{most:.1f} ms")


def _round_trips(tally: Tally) -> tuple[float, float, float]:
    least, total, most = tally.round_trips_ns
    return _ms(least), _ms(total) / max(tally.answered.total(), 1), _ms(most)


def _ms(nanoseconds: int) -> float:
    return nanoseconds / duration.MILLISECOND
