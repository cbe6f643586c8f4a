"""The manual, taken out of the parsers: one structure, of which man pages and the site's reference are made."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass

from remaphore.cli.main import HELP
from remaphore.cli.words import WORDS, flags, parser

DESCRIPTION = (
    "Something on machine B happens after something on machine A. A sender signs a message: for whom, which verb, an"
    " id, a payload. A NATS broker carries it. Each receiver checks the signature, what that peer may say, the time and"
    " the address; then a waiting shell line goes on, or a script runs, and its result goes back, signed, to who asked."
)


@dataclass(frozen=True)
class Option:
    """An option or an argument. name: as it is typed, with what it takes."""

    name: str
    text: str


@dataclass(frozen=True)
class Group:
    """Options that belong together; title is empty for those that every command would have."""

    title: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Command:
    """A command, or one beneath another. name: without `remaphore`; brief: a few words; commands: those beneath it."""

    name: str
    brief: str
    usage: str
    text: str
    groups: tuple[Group, ...]
    notes: tuple[str, ...]
    example: str
    commands: tuple[Command, ...] = ()


def commands() -> Iterator[Command]:
    """Return what the parsers say about each word, in the order of `remaphore --help`."""
    listed = re.findall(r"^  (\w+) .*?  +(\S.*)", HELP.partition("\nas the original")[0], re.MULTILINE)
    for word, brief in listed:
        if word in WORDS:
            yield _command(parser(word), brief)


def original() -> Command:
    """Return the command line of the original."""
    return _command(flags.build(), "")


def paragraphs() -> dict[str, str]:
    """Return what `remaphore --help` says at its end: `configuration`, `exit codes`, `example`, as one line each."""
    found = re.findall(r"^(\w[\w ]*): +(.*(?:\n {3,}.*)*)", HELP, re.MULTILINE)
    return {name: " ".join(text.split()) if name != "example" else text for name, text in found}


def _command(made: argparse.ArgumentParser, brief: str) -> Command:
    example, notes = _epilog(made.epilog or "")
    return Command(
        name=made.prog.partition(" ")[2],
        brief=brief,
        usage=" ".join(made.format_usage().removeprefix("usage:").split()),
        text=" ".join((made.description or "").split()),
        groups=tuple(_groups(made)),
        notes=notes,
        example=example,
        commands=tuple(_beneath(made)),
    )


def _epilog(epilog: str) -> tuple[str, tuple[str, ...]]:
    """Return the example of *epilog*, and what else it says: behind the example, in brackets, or instead of it."""
    found = re.fullmatch(r"example: (.*?)(?:\s+\((.*)\))?", " ".join(epilog.split()))
    if found is None:
        return "", (epilog,) if epilog else ()
    return found[1], tuple(re.split(r"; (?=needs:)", found[2])) if found[2] else ()


def _groups(made: argparse.ArgumentParser) -> Iterator[Group]:
    for group in made._action_groups:
        options = tuple(
            Option(_name(made, action), made._get_formatter()._expand_help(action))
            for action in group._group_actions
            if not isinstance(action, argparse._SubParsersAction) and action.help != argparse.SUPPRESS
        )
        if options:
            usual = group in (made._positionals, made._optionals)
            yield Group("" if usual else group.title or "", options)


def _name(made: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = made._get_formatter()
    if not action.option_strings:
        metavar = action.metavar or action.dest
        return str(metavar) if action.choices is None else "{" + ",".join(map(str, action.choices)) + "}"
    if action.nargs == 0:
        return ", ".join(action.option_strings)
    value = formatter._format_args(action, action.dest.upper())
    return ", ".join(f"{option} {value}" for option in action.option_strings)


def _beneath(made: argparse.ArgumentParser) -> Iterator[Command]:
    for action in made._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from (_command(inner, "") for inner in action.choices.values())
