"""`remaphore completion`: print a completion script; also the code that the shell then calls at each TAB.

argcomplete (the extra `operator`) speaks the protocols of the shells. A shell that completes a line runs the command
without arguments and with a variable in its environment; then nothing but completion may happen.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NoReturn

from remaphore.cli import output
from remaphore.errors import UsageError
from remaphore.extras import install_hint

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser

SUMMARY = "print a completion script for bash, zsh or fish"
EXAMPLE = """\
eval "$(remaphore completion bash)"
remaphore completion fish | source"""
EXIT_CODES = {0: "printed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Options of completion."""

    shell: Literal["bash", "zsh", "fish"]


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    parser.description = (
        "Print a script that lets a shell complete commands, options, verbs, destinations and keys; the last three are"
        " read from the configuration. Needs the extra `operator`."
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that reads the script")
    parser.set_defaults(options=Completion)


def run(options: Completion) -> int:
    """Print the script for the shell; return 0. Raise UsageError without argcomplete."""
    try:
        from argcomplete.shell_integration import shellcode
    except ImportError:
        raise UsageError("argcomplete is not installed", hint=install_hint("operator")) from None
    output.write(shellcode(["remaphore"], shell=options.shell).strip() + "\n")
    return 0


def complete() -> NoReturn:
    """Print to the shell what could come next on its line, and end the process."""
    try:
        import argcomplete
    except ImportError:
        os._exit(1)
    from remaphore.cli import arguments, completers
    from remaphore.cli.legacy import description

    # A command cannot follow a flag of the legacy syntax: the two do not mix.
    _, *typed = os.environ.get("COMP_LINE", "").split()
    parser = description.describe() if typed and typed[0].startswith("-") else arguments.make_tree()
    completers.attach(parser)
    # Options are offered after a dash only: without one, what the line needs next is more useful.
    argcomplete.autocomplete(parser, always_complete_options=False)
    os._exit(1)
