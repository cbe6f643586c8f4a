"""`remaphore demo`: run a demonstration on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser

SUMMARY = "run a demonstration on this machine"
EXAMPLE = "remaphore demo"
EXIT_CODES = {0: "every command succeeded"}


@dataclass(frozen=True, slots=True)
class Demo:
    """No options."""


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    parser.description = (
        "Run a demonstration on this machine: a broker, a sender and three receivers. Nothing is left behind. Needs"
        " nats-server: the extra `embedded`, or one in PATH."
    )
    parser.set_defaults(options=Demo)


def run(_options: Demo) -> int:
    """Show it; return 0. Raise TransportError without nats-server."""
    from remaphore.demo import show
    from remaphore.embedded.broker import find_server

    find_server()  # before anything is shown
    show()
    return 0
