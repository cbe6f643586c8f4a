"""The destinations that a command line names: patterns, node sets, lists in files, and the document of --retry."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remaphore import nodeset
from remaphore.cli import sources
from remaphore.cli.sources import STDIN
from remaphore.errors import RemaphoreError, UsageError
from remaphore.protocol.match import ALL

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser
    from remaphore.config.settings import Config

METAVAR = "NODES"
# For the description of a command that has the options.
EXPLAINED = "NODES is a pattern such as 'com.example.**', or a node set such as com.example.web.[1-3,7]."
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What several patterns select. to, excluded: patterns and node sets; files: of --to-file. retry: a document.

    *to* is empty with *retry*, and not empty without it, unless there are *files*.
    """

    to: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    retry: str = ""

    @classmethod
    def of(
        cls, *, to: Iterable[str], files: Iterable[str] = (), excluded: Iterable[str] = (), retry: str = ""
    ) -> str | Selection:
        """Return the one pattern that the options give (default: ** for all), or what they select. Raise UsageError."""
        to, files, excluded = tuple(to), tuple(files), tuple(excluded)
        if retry and (to or files):
            hint = "leave out --to and --to-file; --except leaves destinations out"
            raise UsageError("--retry cannot be combined with --to and --to-file", hint=hint)
        if not (to or files or retry):
            to = (ALL,)
        if len(to) == 1 and nodeset.is_plain(to[0]) and not to[0].startswith("@") and not (files or excluded):
            return to[0]
        if files.count(STDIN) > 1:
            raise UsageError("--to-file - is given twice", hint="stdin can be read once only")
        return cls(to=to, files=files, excluded=excluded, retry=retry)

    @property
    def retried(self) -> str:
        """The name of the document of --retry, for people."""
        return sources.title(self.retry)

    def check_stdin(self, source: str) -> None:
        """Raise UsageError if stdin is to be the destinations and the payload, which *source* names."""
        option = "--retry" if self.retry == STDIN else "--to-file" if STDIN in self.files else ""
        if option and source == STDIN:
            raise UsageError(f"stdin cannot be both the payload and {option}", hint="write one of them to a file")

    def patterns(self, known: Container[str]) -> tuple[str, ...]:
        """Return the patterns of --to and --to-file, with node sets expanded, each once. Raise UsageError.

        known: destinations, which stand for themselves even if they contain brackets.
        """
        lists = (each for file in self.files for each in _read_list(file))
        texts = itertools.chain((("--to", text) for text in self.to), lists)
        return _expand(texts, known, instead_of_at="give a file with --to-file FILE")

    def destinations(self, config: Config, *, verb: str) -> tuple[str, ...]:
        """Return the known destinations that are to be asked with *verb*; none if the document has none to ask again.

        Raise UsageError or NoReceiversError.
        """
        from remaphore.requesting.selection import remaining, select

        known = known_destinations(config)
        excluded = expand("--except", self.excluded, known)
        if not self.retry:
            return select(config, self.patterns(known), excluded)
        from remaphore.cli.document import read

        document = read(self.retry)
        if document.verb not in ("", verb):
            what = f"--retry: {self.retried} is about the verb {document.verb!r}, not {verb!r}"
            raise UsageError(what, hint=f"use --verb {shlex.quote(document.verb)}")
        return remaining(config, document.unsuccessful, excluded, source=self.retried)


def add_destinations(parser: Parser) -> None:
    """Add the options that name the destinations of messages."""
    parser.add_argument(
        "--to",
        metavar=METAVAR,
        action="append",
        default=[],
        help="patterns or node sets; repeatable (default: ** for all)",
    )
    parser.add_argument(
        "--to-file",
        dest="files",
        metavar="FILE",
        action="append",
        default=[],
        help="read NODES from FILE (- for stdin), one per line",
    )


def add_exceptions(parser: Parser) -> None:
    """Add the options that only a command for known destinations can have."""
    parser.add_argument(
        "--except",
        dest="excluded",
        metavar=METAVAR,
        action="append",
        default=[],
        help="leave out these destinations; repeatable",
    )
    parser.add_argument(
        "--retry",
        metavar="FILE",
        default="",
        help="ask those without success in FILE (- for stdin) again",
    )


def expand(option: str, texts: Iterable[str], known: Container[str] = ()) -> tuple[str, ...]:
    """Return the patterns that the values of *option* stand for, each once. Raise UsageError."""
    return _expand(((option, text) for text in texts), known)


def addressees(option: str, texts: tuple[str, ...], config: Config) -> tuple[str, ...]:
    """Return what *texts*, the values of *option*, let be sent a message each: one pattern, or known destinations.

    Raise UsageError or NoReceiversError.
    """
    from remaphore.requesting.selection import select

    if len(texts) == 1 and nodeset.is_plain(texts[0]):
        return texts
    return select(config, expand(option, texts, known_destinations(config)))


def known_destinations(config: Config) -> frozenset[str]:
    """Return all destinations of *config*, its own too."""
    return frozenset((config.destination, *(peer.destination for peer in config.peers)))


def _expand(
    texts: Iterable[tuple[str, str]], known: Container[str], *, instead_of_at: str = "omit the @"
) -> tuple[str, ...]:
    """Return what *texts* stand for, each once. They are pairs: where a text is from, for errors, and the text.

    instead_of_at: the hint at a text that begins with @.
    """
    found: dict[str, None] = {}
    for place, text in texts:
        if text.startswith("@"):
            raise UsageError(f"{place}: a name cannot begin with @", hint=instead_of_at)
        try:
            found |= dict.fromkeys(nodeset.expand(text, known))
        except UsageError as error:
            raise UsageError(f"{place}: {error}", hint=error.hint) from None
        if len(found) > nodeset.MAX_NAMES:
            what = f"{place}: more than {nodeset.MAX_NAMES} destinations"
            raise UsageError(what, hint="use a pattern such as 'com.example.**'")
    return tuple(found)


def _read_list(file: str) -> Iterator[tuple[str, str]]:
    """Yield the lines of *file* with their places. A list without any is an error: it must not stand for all."""
    from remaphore.config import characters

    source = sources.title(file)
    try:
        text = sources.read(file, what="destinations").decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"--to-file: {source}: not text", hint="write a destination a line") from None
    except RemaphoreError as error:
        raise UsageError(f"--to-file: {error}", hint=error.hint) from None
    empty = True
    for number, line in enumerate(text.split("\n"), start=1):
        wanted = _COMMENT.sub("", line).strip()
        if not wanted:
            continue
        place = f"--to-file: {source}:{number}"
        if deceptive := characters.describe(wanted, line=number):
            raise UsageError(f"{place}: {deceptive}", hint="delete or replace this character")
        yield place, wanted
        empty = False
    if empty:
        hint = "write a destination or pattern a line, such as com.example.**"
        raise UsageError(f"--to-file: {source}: no destinations in it", hint=hint)
