"""The manual as data, read from the parsers. Man pages and the site's reference are made from it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from remaphore.cli import overview
from remaphore.cli.arguments import Parser, make_parser
from remaphore.cli.commands import COMMANDS
from remaphore.cli.legacy import description
from remaphore.cli.main import EXIT_CODES

TITLE = overview.TITLE
DESCRIPTION = (
    "Run something on machine B after something happened on machine A. A sender signs a message: destinations, a verb,"
    " an id and a payload. A NATS broker carries it. Each receiver checks the signature, the permissions of the sender,"
    " the time and the destination; then a waiting shell line continues, or a script runs and its signed result is sent"
    " back to the requester."
)
CONFIGURATION = overview.CONFIGURATION
LEGACY_USAGE = overview.LEGACY_USAGE
EXAMPLE = overview.EXAMPLE

_COMMON_CODES = {code: meaning for code, meaning in EXIT_CODES.items() if code > 1}  # 0 and 1 differ by command


@dataclass(frozen=True)
class Option:
    """An option or an argument. name: as it is typed, with its value."""

    name: str
    text: str


@dataclass(frozen=True)
class Group:
    """Options under a common title; it is empty for the general ones."""

    title: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Command:
    """A command, or an action of one. name: without `remaphore`; summary: a few words; actions: its subcommands.

    exit_codes: all of a command, none of an action. example: lines to paste.
    """

    name: str
    summary: str
    usage: str
    text: str
    groups: tuple[Group, ...]
    exit_codes: Mapping[int, str]
    example: str
    actions: tuple[Command, ...] = ()


def commands() -> Iterator[Command]:
    """Yield every command, in the order of `remaphore --help`."""
    for name, summary in COMMANDS.items():
        yield _command(make_parser(name), summary)


def legacy() -> Command:
    """Return the command line of the Go implementation."""
    return _command(description.describe(), "")


def exit_codes() -> dict[int, str]:
    """Return the meaning of each exit code that any command has; where only one has it, with the command's name."""
    found = dict(EXIT_CODES)
    for command in commands():
        for code, meaning in command.exit_codes.items():
            found.setdefault(code, f"{command.name}: {meaning}")
    return dict(sorted(found.items()))


def _command(parser: Parser, summary: str) -> Command:
    own = parser.exit_codes
    return Command(
        name=parser.prog.partition(" ")[2],
        summary=summary,
        usage=" ".join(parser.format_usage().removeprefix("usage:").split()),
        text=" ".join((parser.description or "").split()),
        groups=tuple(_groups(parser)),
        exit_codes=dict(sorted({**_COMMON_CODES, **own}.items())) if own else {},
        example=parser.example,
        actions=tuple(
            _command(inner, "")
            for action in parser._actions
            if isinstance(action, argparse._SubParsersAction)
            for inner in action.choices.values()
        ),
    )


def _groups(parser: Parser) -> Iterator[Group]:
    formatter = parser._get_formatter()
    for group in parser._action_groups:
        options = tuple(
            Option(_name(formatter, action), formatter._expand_help(action))
            for action in group._group_actions
            if not isinstance(action, argparse._SubParsersAction) and action.help != argparse.SUPPRESS
        )
        if options:
            general = group in (parser._positionals, parser._optionals)
            yield Group("" if general else group.title or "", options)


def _name(formatter: argparse.HelpFormatter, action: argparse.Action) -> str:
    if not action.option_strings:
        metavar = action.metavar or action.dest
        return str(metavar) if action.choices is None else "{" + ",".join(map(str, action.choices)) + "}"
    return formatter._format_action_invocation(action)
