"""Completers: verbs, destinations and keys that can stand in a command line, from the configuration that it names.

An option is recognised by its metavar, so that parsers need not mention completion.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from remaphore.cli.arguments import kinds_of, make_parser
from remaphore.cli.commands import COMMANDS
from remaphore.cli.requests import DEFAULT_VERB
from remaphore.config.search import load
from remaphore.config.settings import Config
from remaphore.errors import RemaphoreError

Values = Mapping[str, str]  # completions, each with a short description, which zsh and fish show

# Segments of a destination that a pattern can name, see MAX_DESTINATION_DEPTH in `remaphore.protocol.wire`.
_MAX_DEPTH = 127

_SENDING = {"send", "request", "ping", "doctor", "identity"}  # whose KEY is that of an own identity, not of a peer


def attach(parser: argparse.ArgumentParser) -> None:
    """Give every option and argument of *parser*, and of its subparsers, its completer."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to list them
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - the same
            for inner in action.choices.values():
                attach(inner)
        elif action.choices is None:
            action.completer = _make_completer(action)  # type: ignore[attr-defined] # where argcomplete looks for it


class Line(NamedTuple):
    """What is known about the line. sending: whether it sends, so that a KEY is that of an own identity."""

    config: Config
    sending: bool


_Source = Callable[[Line], Iterator[tuple[str, str]]]


def _make_completer(action: argparse.Action) -> Callable[..., Any]:
    from argcomplete.completers import DirectoriesCompleter, FilesCompleter

    kinds = kinds_of(action)
    if {"FILE", "SCRIPT"} & kinds:
        return FilesCompleter()
    if "DIR" in kinds:
        return DirectoriesCompleter()
    if "COMMAND" in kinds:
        return _complete_command
    sources = [_SOURCES[kind] for kind in sorted(kinds) if kind in _SOURCES]
    words = [each for each in str(action.metavar).split("|") if each.isalpha() and each.islower()]  # all, of N|N%|all
    several = isinstance(action.metavar, str) and "," in action.metavar

    def complete(prefix: str, parser: argparse.ArgumentParser, parsed_args: argparse.Namespace, **_: Any) -> Values:
        if not sources:
            return dict.fromkeys(words, "")  # none of a time or a payload: without a completer, files would be offered
        try:
            config = load(getattr(parsed_args, "config", None), os.environ)
        except RemaphoreError:
            return {}  # the command itself reports the error
        sending = bool(_SENDING & {*parser.prog.split()}) or any(getattr(parsed_args, flag, False) for flag in "sr")
        line = Line(config, sending)
        before = prefix[: prefix.rfind(",") + 1] if several or "NODES" in kinds else ""
        if before.count("[") > before.count("]"):
            return {}  # numbers of a node set
        found = {text: about for source in sources for text, about in source(line)}
        return {before + text: about for text, about in sorted(found.items())}

    return complete


def _complete_command(parsed_args: argparse.Namespace, **_: Any) -> Collection[str]:
    """Return the commands, or after one of them, as in `help peer`, its actions."""
    words = [each for each in parsed_args.words or () if each]
    if not words:
        return COMMANDS
    return tuple(make_parser(words[0]).commands()) if len(words) == 1 and words[0] in COMMANDS else ()


def verbs(line: Line) -> Iterator[tuple[str, str]]:
    """Yield the verbs that the line can name: those of own identities if it sends, else all that are known."""
    config = line.config
    found = {verb for identity in config.identities for verb in identity.verbs}
    if not line.sending or "*" in found:
        found |= {DEFAULT_VERB, *config.verbs, *(verb for peer in config.peers for verb in peer.verbs)}
    if not line.sending:
        found |= {entry.name for folder in config.hooks if folder.is_dir() for entry in folder.iterdir()}
    yield from ((verb, "verb") for verb in found - {"*"})


def patterns(line: Line) -> Iterator[tuple[str, str]]:
    """Yield every destination, and every pattern that ends in `**` and matches one."""
    yield "**", "all"
    for peer in line.config.peers:
        yield peer.destination, "peer"
        parts = peer.destination.split(".", _MAX_DEPTH)
        yield from ((".".join((*parts[:count], "**")), "all below") for count in range(1, len(parts)))


def keys(line: Line) -> Iterator[tuple[str, str]]:
    """Yield the public keys that the line can name."""
    if line.sending:
        yield from ((identity.key, "ours") for identity in line.config.identities)
    else:
        yield from ((peer.key, peer.destination) for peer in line.config.peers)


def destinations(line: Line) -> Iterator[tuple[str, str]]:
    """Yield the destinations of the peers."""
    yield from ((peer.destination, "peer") for peer in line.config.peers)


_SOURCES: Mapping[str, _Source] = {
    "VERB": verbs,
    "VERBS": verbs,
    "PATTERN": patterns,
    "NODES": patterns,
    "KEY": keys,
    "DESTINATION": destinations,
}
