"""`remaphore keygen`: create a key pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remaphore.cli import output

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser

SUMMARY = "create a key pair"
EXAMPLE = "remaphore keygen /etc/remaphore/next.key"
EXIT_CODES = {0: "created"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Keygen:
    """Options of keygen. file: the file for the private key."""

    file: str


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    parser.description = "Create a key pair: the private key is written to FILE (mode 0600), the public key to stdout."
    parser.add_argument("file", metavar="FILE", help="file for the private key; an existing one is not overwritten")
    parser.set_defaults(options=Keygen)


def run(options: Keygen) -> int:
    """Write the private key; print the public one; return 0."""
    from pathlib import Path

    from remaphore.config.creation import create_key
    from remaphore.errors import ConfigError, UsageError

    try:
        public = create_key(Path(options.file))
    except ConfigError as error:
        # There is no configuration here, so a hint to its man page would not help.
        hint = "choose a file that does not exist, in a directory that you can write to"
        raise UsageError(str(error), hint=hint if error.hint == ConfigError.default_hint else error.hint) from None
    output.write(f"{public}\n")
    return 0
