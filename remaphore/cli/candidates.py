"""What can stand in a command line: verbs, destinations and keys, from the configuration that it names.

Each option is known by its metavar, so that the parsers need not know that anybody completes them.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from remaphore.cli.options import DEFAULT_VERB
from remaphore.config.search import load
from remaphore.config.settings import Config
from remaphore.errors import RemaphoreError

Values = Mapping[str, str]  # what could be typed, and a few words about it, which zsh and fish show

# Segments of a destination that a pattern can name, see MAX_DESTINATION_DEPTH in `remaphore.protocol.wire`.
_MAX_DEPTH = 127

_SENDING = ("send", "request", "ping", "doctor")  # words whose KEY is one of our identities, not a peer's


def attach(parser: argparse.ArgumentParser) -> None:
    """Give every option and argument of *parser*, and of its words, its completer."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to list them
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - the same
            for inner in action.choices.values():
                attach(inner)
        elif action.choices is None:
            action.completer = _completer(action)  # type: ignore[attr-defined] # argcomplete looks for it


def _nothing(**_asked: Any) -> Values:
    """Offer nothing: a time or a payload is the user's to write."""
    return {}


def _completer(action: argparse.Action) -> Callable[..., Any]:
    from argcomplete.completers import DirectoriesCompleter, FilesCompleter

    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    kinds = re.findall(r"[A-Z]+", re.split(r"[\[. ]", metavar)[0])
    if {"FILE", "SCRIPT"} & {*kinds}:
        return FilesCompleter()
    if "DIR" in kinds:
        return DirectoriesCompleter()
    sources = [_SOURCES[kind] for kind in kinds if kind in _SOURCES]
    several = "," in metavar

    def values(prefix: str, parser: argparse.ArgumentParser, parsed_args: argparse.Namespace, **_asked: Any) -> Values:
        before = prefix[: prefix.rfind(",") + 1] if several else ""
        found = {text: about for source in sources for text, about in _from(source, parser, parsed_args)}
        return {before + text: about for text, about in sorted(found.items())}

    return values if sources else _nothing


class _Asked(NamedTuple):
    """The configuration of the line, and whether the line sends: then a KEY is one of our own."""

    config: Config
    sending: bool


_Source = Callable[[_Asked], Iterator[tuple[str, str]]]


def _from(source: _Source, parser: argparse.ArgumentParser, given: argparse.Namespace) -> Iterator[tuple[str, str]]:
    try:
        config = load(getattr(given, "config", None), os.environ)
    except RemaphoreError:
        return  # the command itself will say what is wrong with it
    sending = parser.prog.rpartition(" ")[2] in _SENDING or getattr(given, "s", False) or getattr(given, "r", False)
    yield from source(_Asked(config, sending))


def _verbs(asked: _Asked) -> Iterator[tuple[str, str]]:
    config = asked.config
    verbs = {verb for identity in config.identities for verb in identity.verbs}
    if not asked.sending or "*" in verbs:
        verbs |= {DEFAULT_VERB, *config.verbs, *(verb for peer in config.peers for verb in peer.verbs)}
    if not asked.sending:
        verbs |= {entry.name for folder in config.hooks if folder.is_dir() for entry in folder.iterdir()}
    yield from ((verb, "verb") for verb in verbs - {"*"})


def _patterns(asked: _Asked) -> Iterator[tuple[str, str]]:
    yield "**", "all"
    for peer in asked.config.peers:
        yield peer.destination, "peer"
        parts = peer.destination.split(".", _MAX_DEPTH)
        yield from ((".".join((*parts[:count], "**")), "all below") for count in range(1, len(parts)))


def _keys(asked: _Asked) -> Iterator[tuple[str, str]]:
    if asked.sending:
        yield from ((identity.key, "ours") for identity in asked.config.identities)
    else:
        yield from ((peer.key, peer.destination) for peer in asked.config.peers)


def _destinations(asked: _Asked) -> Iterator[tuple[str, str]]:
    yield from ((peer.destination, "peer") for peer in asked.config.peers)


_SOURCES: Mapping[str, _Source] = {
    "VERB": _verbs,
    "VERBS": _verbs,
    "PATTERN": _patterns,
    "KEY": _keys,
    "DESTINATION": _destinations,
}
