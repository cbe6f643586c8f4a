"""The command `remaphore`: reads the arguments, runs the command, turns errors into exit codes."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from remaphore.errors import ConfigError, PluginError, RemaphoreError, UsageError

EXIT_OK = 0
EXIT_NOTHING = 1  # no message, or no reply, before the time-out
EXIT_USAGE = 2  # usage or configuration
EXIT_ERROR = 3
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell says it

HELP = """\
remaphore: a remote semaphore. Something on machine B happens after something on machine A, over NATS, signed.

For people:
  remaphore send    [--to PATTERN] [--verb V] [--id TEXT] [PAYLOAD...]   send and forget
  remaphore request [--to PATTERN] [--verb V] [--id TEXT] [PAYLOAD...]   send, and print the replies
  remaphore receive [--verb V] [--id TEXT] [--once] [SCRIPT [ARG...]]    wait, and run SCRIPT for each message
  remaphore run     [--hooks DIR]...                                     the daemon: hooks.d/VERB/, plugins
  remaphore hooks   [VERB]                                               what the daemon would run, and why not
  remaphore explain [FILE...]                                            why a message is taken or not, check by check
  remaphore plugins                                                      what is installed, and what it can do
  remaphore broker  --data DIR                                           a broker for this machine
  remaphore demo                                                         see it work
  remaphore COMMAND --help                                               all options of a command

As the original (flags of Go: -t 5s, -t=5s, --t 5s):
  remaphore -s [-c FILE] [-S SUBJECT] [-v VERB] [-u ID] [-p KEY] [-D PATTERN] [PAYLOAD...]
  remaphore -r [the same] [-t TIME] [PAYLOAD...]
  remaphore    [-c FILE] [-S SUBJECT] [-v VERB,...] [-o] [-u ID] [-t TIME] [-d | -D PATTERN] [-p KEY] [SCRIPT [ARG...]]
  remaphore -C                                                           print an example configuration

Configuration: -c FILE, $REMAPHORE_CONFIG, /etc/remaphore/remaphore.toml, /etc/remaphore/remaphore.conf
Exit codes: 0 received, sent or answered; 1 nothing came in time; 2 usage or configuration; 3 any other error

example:  aws s3 cp bigfile s3://bucket/ && remaphore -s -u upload_done        on the uploader
          remaphore -u upload_done && aws s3 cp s3://bucket/bigfile .          on each downloader
"""


def command() -> NoReturn:
    """The console script: `main`, without what only a long life is worth.

    Collecting garbage during the imports, and taking the interpreter apart at the end, is a third of the time that
    `remaphore -s` takes. Commands that stay turn the collector on again (`console.settle_in`).
    """
    gc.disable()
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line *arguments* (default: this process's) and return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return _run(words)
    except (UsageError, ConfigError, PluginError) as error:
        return _fail(error, EXIT_USAGE)
    except RemaphoreError as error:
        return _fail(error, EXIT_ERROR)
    except BrokenPipeError:
        # Who read our stdout is gone; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _fail(error: RemaphoreError, code: int) -> int:
    from remaphore.logs import escape

    # It may quote what a server or a file says.
    print(f"remaphore: ERROR: {escape(str(error))}", file=sys.stderr)  # noqa: T201 - this is where errors are shown
    return code


def _run(words: list[str]) -> int:
    first = words[0] if words else ""
    if first in ("--help", "-help", "-h", "--h"):
        sys.stdout.write(HELP)
        return EXIT_OK
    if first in ("--version", "-version"):
        return int(import_module("remaphore.cli.version").run())
    options = import_module(_syntax(first)).read(words)
    return int(import_module(f"remaphore.cli.{options.command}").run(options))


def _syntax(first: str) -> str:
    """Return the module that reads a command line that begins with *first*."""
    if first.startswith("-"):
        return "remaphore.cli.original"
    words = import_module("remaphore.cli.words")
    return words.__name__ if first in words.WORDS else "remaphore.cli.original"
