"""The words that say whether it works: `check`, `doctor`, `ping`."""

from __future__ import annotations

import argparse

from remaphore.cli.options.health import Check, Doctor, Ping
from remaphore.cli.words.parsing import Command, config, daemon, seconds

DOCTOR_SECONDS = 5.0
PING_SECONDS = 5.0
PING_INTERVAL = 1.0


def _build_check(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Look at what is on this machine, without a network: configuration, files and their modes, keys, login, peers,"
        " plugins, handlers, state directory, systemd unit, clock. Each finding is a line, with what mends it."
    )
    parser.epilog = "example: remaphore check -c ./remaphore.toml; exit code: 0 no errors, 1 errors, 2 usage"
    daemon(parser)
    parser.add_argument("--json", action="store_true", help="one object a line")


def _build_doctor(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Ask each server, and each peer with the verb `permissions`: who answers, whose clock is off, what we permit"
        " each other, and what mends it. Peers say what they permit us if they have the plugin `permissions` enabled."
    )
    parser.epilog = (
        "example: remaphore doctor --to 'com.**'; exit code: 0 no errors, 1 errors, 2 usage or configuration"
    )
    config(parser)
    parser.add_argument("--to", metavar="PATTERN", default="**", help="ask only these peers, such as 'com.crypto.**'")
    parser.add_argument(
        "--timeout", type=_limit, metavar="TIME", default=DOCTOR_SECONDS, help="limit of each step (5s)"
    )
    parser.add_argument("--json", action="store_true", help="one object a line")


def _build_ping(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Send `ping` again and again, and print each answer: how long it took, how far its clock is off, and what it"
        " says. Ends after --count, or with Ctrl-C, with a summary on stderr. A receiver that waits for any message"
        " takes a ping for one."
    )
    parser.epilog = "example: remaphore ping --count 3 'com.**'; exit code: 0 all answered each time, 1 nobody, 4 some"
    config(parser)
    parser.add_argument("to", metavar="PATTERN", nargs="?", default="**", help="destinations to ask (**)")
    parser.add_argument("--count", type=_number, metavar="N", help="end after so many (default: when interrupted)")
    parser.add_argument("--interval", type=_limit, metavar="TIME", default=PING_INTERVAL, help="between two (1s)")
    parser.add_argument("--timeout", type=_limit, metavar="TIME", default=PING_SECONDS, help="wait for answers (5s)")
    parser.add_argument("--json", action="store_true", help="one object a line, the summary too")


def _limit(text: str) -> float:
    limit = seconds(text)
    if limit is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not more than 0; write for example 5s")
    return limit


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of pings; write 1 or more")
    return int(text)


def _read_check(given: argparse.Namespace) -> Check:
    return Check(**{**vars(given), "hooks": tuple(given.hooks or ())})


def _read_doctor(given: argparse.Namespace) -> Doctor:
    return Doctor(**vars(given))


def _read_ping(given: argparse.Namespace) -> Ping:
    return Ping(**vars(given))


COMMANDS = {
    "check": Command(_build_check, _read_check),
    "doctor": Command(_build_doctor, _read_doctor),
    "ping": Command(_build_ping, _read_ping),
}
