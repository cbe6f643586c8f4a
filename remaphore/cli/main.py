"""The command `remaphore`: reads the arguments, runs the command, turns errors into exit codes."""

# PYTHON_ARGCOMPLETE_OK, which activate-global-python-argcomplete looks for
from __future__ import annotations

import contextlib
import errno
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
EXIT_PIPE = 141  # 128 + SIGPIPE, which ends the original and most other tools there

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # for our output: files are their writers' business

HELP = """\
remaphore: a remote semaphore. Something on machine B happens after something on machine A, over NATS, signed.

usage: remaphore COMMAND [OPTION...] [ARGUMENT...]        remaphore COMMAND --help has all options of one
  send [PAYLOAD...]          send a message, and forget it
  request [PAYLOAD...]       send a message, and print the replies
  receive [SCRIPT [ARG...]]  wait for messages, and run SCRIPT for each
  run                        the daemon: runs hooks.d/VERB/ for each message, and plugins
  hooks [VERB]               what the daemon would run, and what not, and why
  explain [FILE...]          why a message is taken or not, check by check
  plugins                    what is installed, and what it can do
  check                      whether this machine is set up to work, and what mends it
  doctor                     whether broker and peers work with us, and what mends it
  ping [PATTERN]             who is there: round trip, clock, version
  init                       make this node's configuration and key, and print its peer line
  keygen FILE                make a key pair
  peer ACTION                add, remove, list and show the nodes that this one knows
  config ACTION              show the configuration that counts; make TOML of the original's
  broker --data DIR          a broker for this machine
  demo                       see it work
  completion SHELL           what bash, zsh or fish reads to complete all this

as the original, with flags of Go (-t 5s, -t=5s, --t 5s):
  remaphore -s [-c FILE] [-S SUBJECT] [-v VERB] [-u ID] [-p KEY] [-D PATTERN] [PAYLOAD...]     send
  remaphore -r [the same] [-t TIME] [PAYLOAD...]                                               request
  remaphore [-c FILE] [-S SUBJECT] [-v VERB,...] [-o] [-u ID] [-t TIME] [-d | -D PATTERN] [-p KEY] [SCRIPT [ARG...]]
  remaphore -C                                                 print an example configuration

configuration: -c FILE, $REMAPHORE_CONFIG, ~/.config/remaphore/remaphore.toml, /etc/remaphore/remaphore.toml or .conf
exit codes: 0 received, sent or answered; 1 nothing came in time; 2 usage or configuration; 3 any other error;
            4-6 request --check: some are missing, have failed, have rejected; 130 Ctrl-C; 141 who read stdout has gone
manual: man remaphore, man remaphore-COMMAND, man remaphore.toml

example:  aws s3 cp bigfile s3://bucket/ && remaphore -s -u upload_done        on the uploader
          remaphore -u upload_done && aws s3 cp s3://bucket/bigfile .          on each downloader
"""


def command() -> NoReturn:
    """The console script: `main`, without what only a long life is worth.

    Collecting garbage during the imports, and taking the interpreter apart at the end, is a third of the time that
    `remaphore -s` takes. Commands that stay turn the collector on again (`console.settle_in`).
    """
    gc.disable()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed by who started us: what is written there is lost, and no error
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 - pathlib is a library to load
    if "_ARGCOMPLETE" in os.environ:  # a shell completes; see remaphore.cli.completion
        import_module("remaphore.cli.completion").complete()
    os._exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line *arguments* (default: this process's) and return its exit code."""
    try:
        return _exit_code(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:  # also while an error is told to a stderr that is not read
        return EXIT_INTERRUPTED


def _exit_code(words: list[str]) -> int:
    """Run the command line *words*; return its exit code, and tell its error."""
    try:
        code = _run(words)
        sys.stdout.flush()
    except (UsageError, ConfigError, PluginError) as error:
        return _fail(error, EXIT_USAGE)
    except RemaphoreError as error:
        return _fail(error, EXIT_ERROR)
    except BrokenPipeError:
        return EXIT_PIPE
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        hint = "free some space and run the command again"
        return _fail(RemaphoreError(f"cannot write output: {error.strerror}", hint=hint), EXIT_ERROR)
    return code


def _fail(error: RemaphoreError, code: int) -> int:
    from remaphore.logs import escape

    with contextlib.suppress(OSError):
        sys.stdout.flush()  # what was found before
    # Both may quote a server or a file, hence `escape`. If stderr is closed, the exit code still reports the error.
    with contextlib.suppress(OSError):
        sys.stderr.write(f"remaphore: error: {escape(str(error))}\n")
        if error.hint:
            sys.stderr.write(f"remaphore: hint: {escape(error.hint)}\n")
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
