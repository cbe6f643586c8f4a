"""The commands as words with long options, for people. A word counts only as the very first argument.

One module a group of commands; only that of the given word is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from remaphore.cli.options import Options

if TYPE_CHECKING:
    from remaphore.cli.words.parsing import Command, Parser

# Where the parser of each is: its module's `COMMANDS` has it.
WORDS = {
    "send": "sending",
    "request": "requesting",
    "receive": "receiving",
    "run": "daemon",
    "hooks": "daemon",
    "explain": "explain",
    "plugins": "daemon",
    "check": "health",
    "doctor": "health",
    "ping": "health",
    "init": "nodes",
    "keygen": "nodes",
    "peer": "nodes",
    "config": "nodes",
    "broker": "local",
    "demo": "local",
    "completion": "local",
}


def read(words: Sequence[str]) -> Options:
    """Return what *words* ask for. Raises UsageError; `--help` prints and exits."""
    return _command(words[0]).read(parser(words[0]).parse_args(words[1:]))


def parser(word: str) -> Parser:
    """Return the parser of what follows *word*."""
    from remaphore.cli.words.parsing import Parser

    made = Parser(prog=f"remaphore {word}", allow_abbrev=False)
    _command(word).build(made)
    return made


def tree() -> Parser:
    """Return a parser with all words beneath it, for who describes or completes them: reading is done by `read`."""
    from remaphore.cli.words.parsing import Parser

    made = Parser(prog="remaphore", allow_abbrev=False)
    beneath = made.add_subparsers(metavar="COMMAND", parser_class=Parser)
    for word in WORDS:
        command = beneath.add_parser(word, help=parser(word).description, allow_abbrev=False)
        _command(word).build(command)
    return made


def _command(word: str) -> Command:
    commands: dict[str, Command] = import_module(f"remaphore.cli.words.{WORDS[word]}").COMMANDS
    return commands[word]
