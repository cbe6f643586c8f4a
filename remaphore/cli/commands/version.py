"""`remaphore version`, `remaphore --version`: print the version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remaphore.cli import output

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser

SUMMARY = "print the version"
EXAMPLE = "remaphore version"
EXIT_CODES = {0: "printed"}


@dataclass(frozen=True, slots=True)
class Version:
    """No options."""


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    parser.description = "Print the version, as remaphore --version does."
    parser.set_defaults(options=Version)


def run(_options: Version) -> int:
    """Print the version; return 0."""
    from importlib.metadata import version

    output.write(f"remaphore {version('remaphore')}\n")
    return 0
