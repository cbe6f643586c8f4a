"""`remaphore semaphore`: run a command while at most N - 1 other nodes hold the same semaphore."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remaphore.cli import holding
from remaphore.cli.holding import Holding

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser

SUMMARY = "run a command while few other nodes do"
EXAMPLE = """\
remaphore semaphore --slots 3 backup -- rsync -a /srv/ backup:/srv/"""
EXIT_CODES = holding.EXIT_CODES


@dataclass(frozen=True, slots=True, kw_only=True)
class Semaphore(Holding):
    """Options of semaphore. slots: how many may hold it."""


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    from remaphore.cli.arguments import add_config, positive_integer

    parser.usage = "remaphore semaphore --slots N [OPTION...] NAME\n           -- COMMAND [ARG...]"
    parser.description = (
        "Run COMMAND while this node holds one of the N slots of NAME. All nodes give the same N. remaphore lock list,"
        " show and release are for semaphores too. All else is as for remaphore lock, which has one slot."
    )
    parser.before_command = parser
    add_config(parser)
    parser.add_argument("name", metavar="NAME", help="name of the semaphore: a-z, 0-9, - and _")
    parser.add_argument(
        "--slots", type=positive_integer, metavar="N", required=True, help="how many may run their command at once"
    )
    holding.add_options(parser)
    parser.set_defaults(options=Semaphore.from_arguments)


def run(options: Semaphore) -> int:
    """Run the command; return its exit code, or one of ours."""
    return holding.run(options)
