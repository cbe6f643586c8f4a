"""Parsing a command line that begins with a command: the parser class, types of arguments, options of several commands.

What is here imports argparse; the flag syntax of the Go implementation (`legacy/`) does not need it, and is faster.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from remaphore.cli.commands import COMMANDS
from remaphore.errors import DurationError, RemaphoreError, UsageError
from remaphore.text import DEFAULT_COLUMNS, closest, columns_of

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

    from remaphore.protocol.quorum import Requirement

# A private key is 64 bytes in base58. argparse quotes arguments that it does not understand.
_PRIVATE_KEY = re.compile(r"[1-9A-HJ-NP-Za-km-z]{80,}")

# What the flags of the Go program are called as options.
_OF_FLAGS = {"D": "to", "d": "any-destination", "o": "once", "p": "from", "t": "timeout", "u": "id", "v": "verb"}

_SMALLEST_WIDTH = 40  # of a help text, however narrow the window is

# Where -c of a command with actions is kept if it is written before the action. argparse would replace it by the
# default of the action.
_BEFORE_ACTION = "config_before_action"

CONFIG_HELP = "configuration file (default: see remaphore --help)"


class _HelpFormatter(argparse.HelpFormatter):
    """Prints `-c, --config FILE`, and not FILE twice."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=25, width=_help_width())

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        value = "" if action.nargs == 0 else " " + self._format_args(action, action.dest.upper())
        return ", ".join(action.option_strings) + value


def _help_width() -> int:
    """Return the width of help, as argparse does: each new option asks, and importing shutil takes 0.2 MiB."""
    columns = 0
    with suppress(ValueError):
        columns = int(os.environ.get("COLUMNS", ""))
    if columns <= 0:
        columns = columns_of(sys.stdout) or DEFAULT_COLUMNS
    return max(_SMALLEST_WIDTH, columns - 2)  # the margin of argparse


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError, and whose help ends with exit codes and examples, which are never wrapped.

    example: command lines; exit_codes: the meaning of each exit code that only this command has. before_command: parses
    what stands before `--` where a command to run stands after it; None if no command can.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False, formatter_class=_HelpFormatter)
        self.example = ""
        self.exit_codes: Mapping[int, str] = {}
        self.before_command: Parser | None = None
        self._given: set[argparse.Action] = set()

    def commands(self) -> Mapping[str, Parser]:
        """Return the parsers of the commands, or of the actions of a command, that follow these arguments, by name."""
        inner = [action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001
        return inner[0] if inner else {}

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return what argparse has read. Raise UsageError for unknown arguments, with the option that was meant.

        argparse would report those of an action where only the options of its command are known.
        """
        self._given.clear()
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            typed = next((word.partition("=")[0] for word in unknown if word.startswith("-")), "")
            lists = [each.metavar for each in self._actions if each.nargs == "*" and not each.option_strings]
            if likely := self._likely_option(typed):
                hint = f"did you mean {likely}?"
            elif self.before_command is not None and not typed:
                hint = f"write the command to run after --, as in: {self.prog} NAME -- COMMAND"
            elif lists and not typed:  # argparse reads the words of a list only up to the next option
                hint = f"write {lists[0]} in one place, before or after the options"
            else:
                hint = self._help_hint()
            raise UsageError(f"unrecognized arguments: {hide_keys(' '.join(unknown))}", hint=hint)
        return found, unknown

    def _likely_option(self, typed: str) -> str:
        """Return the option that *typed* was probably meant to be; empty if none is like it."""
        names = {option.lstrip("-"): option for option in self._option_string_actions}
        name = typed.lstrip("-")
        if len(name) > 1:
            return names.get(closest(name, names), "")
        return names.get(_OF_FLAGS.get(name, ""), "")

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """Return what argparse makes of *arg_strings*.

        A second value of an option is an error, since one would be lost, and so is an empty one, such as that of an
        unset variable of a shell: `--retry "$FILE"` would ask all.
        """
        if action.option_strings and arg_strings == [""]:
            hint = "write its value, or omit the option"
            raise argparse.ArgumentError(action, "its value is empty") from UsageError(hint=hint)
        if action.option_strings and isinstance(action, argparse._StoreAction):  # noqa: SLF001
            if action in self._given:
                raise argparse.ArgumentError(action, "given twice") from UsageError(hint="give it once")
            self._given.add(action)
        return super()._get_values(action, arg_strings)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            likely = closest(str(value), map(str, action.choices or ()))
            hint = f"did you mean {likely}?" if likely else self._help_hint()
            if self.before_command is not None:
                hint = f"to run a command: {self.prog} NAME -- COMMAND" + (f" ({hint})" if likely else "")
            raise error from UsageError(hint=hint)

    def _help_hint(self) -> str:
        return f"{self.prog} --help lists the options"

    def error(self, message: str) -> NoReturn:
        """Raise UsageError, with the hint of the error that argparse is handling if that is one of ours."""
        reason = sys.exception()  # argparse.ArgumentError <- argparse.ArgumentTypeError <- the type's own error
        while reason is not None and not isinstance(reason, RemaphoreError):
            reason = reason.__cause__ or reason.__context__
        raise UsageError(hide_keys(message), hint=self._help_hint() if reason is None else reason.hint)

    def format_help(self) -> str:
        """Return the help."""
        import textwrap

        text = super().format_help()
        width = _help_width()
        if self.exit_codes:
            text += "\nexit codes (others: see remaphore --help):\n"
            for code, meaning in self.exit_codes.items():
                indent = f"  {code:<3}  "
                text += textwrap.fill(meaning, width, initial_indent=indent, subsequent_indent=" " * len(indent)) + "\n"
        if self.example:
            text += "\nexamples:\n" + "".join(f"  {line}\n" for line in self.example.splitlines())
        return text

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Write the help. Raise OSError if it cannot be written, which argparse would ignore."""
        (file or sys.stdout).write(self.format_help())
        sys.stdout.flush()


def hide_keys(text: str) -> str:
    """Return *text*, which quotes what was typed, without the private keys in it."""
    return _PRIVATE_KEY.sub("...", text)


def read(arguments: Sequence[str]) -> object:
    """Return the options of the command line *arguments*, whose first one is a command.

    Raise UsageError. `--help` prints and exits.
    """
    try:
        _, given = _parse(arguments)
    except UsageError:
        _parse(arguments, required=False)
        raise
    make_options = given.pop("options")
    if (before := given.pop(_BEFORE_ACTION, None)) is not None:
        if given.get("config") is not None:
            raise UsageError("argument -c/--config: given twice", hint="give it once")
        if "config" not in given:
            raise UsageError("argument -c/--config: this action reads no configuration", hint="omit it")
        given["config"] = before
    if "typed" in given:  # for hints that repeat the line
        given["typed"] = tuple(arguments)
    options: object = make_options(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    )
    return options


def _parse(arguments: Sequence[str], *, required: bool = True) -> tuple[Parser, dict[str, Any]]:
    """Return the parser of the line *arguments*, which begins with a command, and what it has read.

    required: report what is missing. argparse does that before it reports an unknown option, of which it is often the
    consequence: `--dta d` for `--data d`.
    """
    parser, words, command = make_parser(arguments[0]), arguments[1:], {}
    if parser.before_command is not None and "--" in words:
        place = words.index("--")
        parser, words, command = parser.before_command, words[:place], {"command": list(words[place + 1 :])}
    if not required:
        for each in _all_parsers(parser):
            for action in each._actions:  # noqa: SLF001 - argparse has no other way to list them
                action.required = False
    return parser, {**vars(parser.parse_args(words)), **command}


def _all_parsers(parser: Parser) -> Iterator[Parser]:
    yield parser
    for inner in parser.commands().values():
        yield from _all_parsers(inner)


def make_parser(command: str) -> Parser:
    """Return the parser of the arguments of *command*."""
    parser = Parser(prog=f"remaphore {command}")
    _fill(parser, command)
    return parser


def make_tree() -> Parser:
    """Return a parser with all commands, to describe or complete them. `read` does not need the other commands."""
    tree = Parser(prog="remaphore")
    commands = tree.add_subparsers(metavar="COMMAND")
    for command, summary in COMMANDS.items():
        _fill(commands.add_parser(command, help=summary), command)
    return tree


def kinds_of(action: argparse.Action) -> frozenset[str]:
    """Return what the value of *action* is, in the words of its metavar: KEY or DESTINATION for `KEY|DESTINATION`.

    VERB[,VERB...] is a list of VERB; FILE.toml is a FILE.
    """
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    return frozenset(re.findall(r"[A-Z]+", re.split(r"[\[. ]", metavar)[0]))


def typed_paths(arguments: Sequence[str]) -> list[str]:
    """Return the names of files and directories in the command line *arguments*, whose first one is a command."""
    parser, given = _parse(arguments)
    paths: list[str] = []
    for each in _all_parsers(parser):
        for name in {action.dest for action in each._actions if {"FILE", "DIR"} & kinds_of(action)}:  # noqa: SLF001
            value = given.get(name) or ()
            paths += [value] if isinstance(value, str) else value
    return paths


def _fill(parser: Parser, command: str) -> None:
    module = import_module(f"remaphore.cli.commands.{command}")
    parser.example, parser.exit_codes = module.EXAMPLE, module.EXIT_CODES
    module.add_arguments(parser)
    if any("--config" in inner._option_string_actions for inner in parser.commands().values()):  # noqa: SLF001
        parser.add_argument("-c", "--config", dest=_BEFORE_ACTION, metavar="FILE", help=CONFIG_HELP)


def seconds(text: str) -> float | None:
    """Return the seconds of a duration such as 1m30s; None, which means no limit, for 0 and less."""
    from remaphore.protocol import duration

    try:
        nanoseconds = duration.parse(text)
    except DurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return nanoseconds / duration.SECOND if nanoseconds > 0 else None


def positive_seconds(text: str) -> float:
    """Return the seconds of a duration such as 1m30s, which must be more than 0."""
    value = seconds(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive duration") from DurationError()
    return value


def positive_integer(text: str) -> int:
    """Return the number *text*, from 1 to 999999999."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def requirement(text: str) -> Requirement:
    """Return how many destinations *text* requires: a number, a percentage, or all."""
    from remaphore.protocol.quorum import Requirement

    try:
        return Requirement.parse(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def verbs(text: str) -> tuple[str, ...]:
    """Return the verbs of *text*, which are separated by commas."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the configuration file."""
    parser.add_argument("-c", "--config", metavar="FILE", help=CONFIG_HELP)


def add_json(parser: argparse.ArgumentParser, text: str = "print one JSON object per line") -> None:
    """Add the choice of JSON."""
    parser.add_argument("--json", action="store_true", help=text)


def add_daemon(parser: argparse.ArgumentParser) -> None:
    """Add the options that determine what the daemon would do."""
    add_config(parser)
    parser.add_argument(
        "--hooks",
        metavar="DIR",
        action="append",
        default=[],
        help="handler directory; repeatable, a later one replaces handlers of an earlier one by name",
    )


def add_log(parser: argparse.ArgumentParser) -> None:
    """Add the format of log lines, and their level."""
    parser.add_argument(
        "--log-format",
        choices=("console", "json"),
        default="console",
        help="format of the log on stderr (default: console)",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="also log debug events, such as each handler and each ordinary drop"
    )


def add_verbs(parser: argparse._ActionsContainer, *names: str, text: str, dest: str = "verbs") -> None:
    """Add the option *names*, repeatable and with several verbs each. Without it there is an empty list."""
    parser.add_argument(*names, dest=dest, type=verbs, metavar="VERB[,VERB...]", action="extend", default=[], help=text)
