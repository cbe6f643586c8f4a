"""`remaphore help`, `remaphore --help`: print the overview, or the help of a command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remaphore.cli import output

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser

SUMMARY = "list the commands, or show the help of a command"
EXAMPLE = """\
remaphore help request
remaphore help peer add"""
EXIT_CODES = {0: "printed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Help:
    """Options of help. words: a command, and an action of it; empty for the overview."""

    words: tuple[str, ...] = ()


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    parser.usage = "remaphore help [COMMAND [ACTION]]"
    parser.description = "List the commands, as remaphore --help does, or show the help of COMMAND."
    parser.add_argument("words", metavar="COMMAND", nargs="*", help="command, and its action, to show the help of")
    parser.set_defaults(options=Help)


def run(options: Help) -> int:
    """Print the help; return 0. Raise UsageError for an unknown command."""
    if options.words:
        output.write(_find_parser(options.words).format_help())
    else:
        from remaphore.cli.overview import overview

        output.write(overview())
    return 0


def _find_parser(words: tuple[str, ...]) -> Parser:
    """Return the parser of the command, or the action of one, that *words* name. Raise UsageError."""
    from remaphore.cli.arguments import hide_keys, make_tree
    from remaphore.errors import UsageError
    from remaphore.text import closest

    parser = make_tree()
    for word in words:
        inner = parser.commands()
        if word not in inner:
            likely = closest(word, inner)
            hint = f"did you mean {parser.prog} {likely}?" if likely else f"{parser.prog} --help shows what there is"
            raise UsageError(f"{parser.prog} has no command {hide_keys(word)!r}", hint=hint)
        parser = inner[word]
    return parser
