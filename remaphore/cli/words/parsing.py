"""What the parsers of the words share: how errors are raised, types of arguments, options of several commands."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from remaphore.cli.options import Options
from remaphore.errors import UsageError
from remaphore.protocol import duration

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

# As base58 writes 64 bytes: argparse quotes what it does not understand.
_PRIVATE_KEY = re.compile(r"[1-9A-HJ-NP-Za-km-z]{80,}")

CONFIG_HELP = "configuration (default: the first that remaphore --help names)"


class Parser(argparse.ArgumentParser):
    """Raises UsageError, which says where the help is, instead of printing and exiting."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{_PRIVATE_KEY.sub('...', message)} (see {self.prog} --help)")

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Write the help. Raises OSError if it cannot be written, of which argparse takes no notice."""
        (file or sys.stdout).write(self.format_help())
        sys.stdout.flush()


class Command(NamedTuple):
    """A word: build adds what it takes to a parser, read turns what was given into options (or raises UsageError)."""

    build: Callable[[argparse.ArgumentParser], None]
    read: Callable[[argparse.Namespace], Options]


def seconds(text: str) -> float | None:
    """Return the seconds of a Go duration, None for 0 or less: no limit."""
    try:
        nanoseconds = duration.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return nanoseconds / duration.SECOND if nanoseconds > 0 else None


def split_verbs(groups: Sequence[str] | None) -> tuple[str, ...]:
    """Return the verbs of a repeatable option that takes several, with commas between them."""
    verbs = (verb.strip() for group in groups or () for verb in group.split(","))
    return tuple(filter(None, verbs))


def config(parser: argparse.ArgumentParser) -> None:
    """Add the configuration's file."""
    parser.add_argument("-c", "--config", metavar="FILE", help=CONFIG_HELP)


def common(parser: argparse.ArgumentParser) -> None:
    """Add what every command on the bus takes."""
    config(parser)
    parser.add_argument(
        "-S", "--subject", metavar="NAME", default="", help="use the subject ROOT.NAME instead of ROOT.all"
    )


def daemon(parser: argparse.ArgumentParser) -> None:
    """Add what decides what the daemon would do."""
    config(parser)
    parser.add_argument(
        "--hooks", metavar="DIR", action="append", help="handlers; repeatable, later ones replace earlier ones by name"
    )


def log_format(parser: argparse.ArgumentParser) -> None:
    """Add the choice of the log's format."""
    parser.add_argument("--log-format", choices=("console", "json"), default="console", help="of what goes to stderr")
