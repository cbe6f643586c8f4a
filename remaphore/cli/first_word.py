"""The first word of a line, if it is not a command: in the Go program's syntax it is the script that a receiver runs.

So a mistyped command would be a receiver: it would wait without an end, and fail at each message.
"""

from __future__ import annotations

import os
import shlex
import shutil

from remaphore.cli.commands import COMMANDS
from remaphore.errors import UsageError
from remaphore.text import closest


def check(word: str) -> None:
    """Raise UsageError if *word*, which is not a flag, is neither a command, a path nor a program in PATH.

    The script would be searched in the same PATH, as execvp(3) does: a file in the current directory is not found.
    After `--` or a flag every word is a script, which may be created later.
    """
    if word in COMMANDS or "/" in word or shutil.which(word, path=os.environ.get("PATH") or os.defpath):
        return
    from remaphore.cli.arguments import hide_keys

    shown = hide_keys(word)
    likely = closest(word, COMMANDS)
    hint = f"did you mean remaphore {likely}?" if likely else "remaphore --help lists the commands"
    if os.path.isfile(word):  # noqa: PTH113 - importing pathlib takes time
        hint += f" (to run the file in this directory: remaphore {shlex.quote('./' + shown)})"
    elif word:
        hint += f" (to wait with a script that is not in PATH yet: remaphore -- {shlex.quote(shown)})"
    raise UsageError(f"{shown!r} is neither a command nor a program in PATH", hint=hint)
