"""`remaphore completion`, and what the shell then asks for at each TAB.

argcomplete (the extra `operator`) does the talking to the shell. A shell that completes calls the command without
arguments and with a variable in its environment: then nothing but completing may happen.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from remaphore.cli.options.local import Completion
from remaphore.errors import UsageError


def run(options: Completion) -> int:
    """Print the script for the shell; return 0. Raises UsageError without argcomplete."""
    try:
        from argcomplete.shell_integration import shellcode
    except ImportError:
        raise UsageError(
            "completion needs the package argcomplete, which is not installed; pip install 'remaphore[operator]'"
        ) from None
    sys.stdout.write(shellcode(["remaphore"], shell=options.shell).strip() + "\n")
    return 0


def complete() -> NoReturn:
    """Answer the shell that asks what could come next, and end the process."""
    try:
        import argcomplete
    except ImportError:
        os._exit(1)
    from remaphore.cli import candidates, words
    from remaphore.cli.words import flags

    # What is typed after a flag of the original is no word: the two syntaxes do not mix.
    _, *typed = os.environ.get("COMP_LINE", "").split()
    parser = flags.build() if typed and typed[0].startswith("-") else words.tree()
    candidates.attach(parser)
    # Options are offered once a dash is typed: before it, what the line needs next is worth more.
    argcomplete.autocomplete(parser, always_complete_options=False)
    os._exit(1)
