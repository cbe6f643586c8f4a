"""The process boundary: reads the arguments, runs the command, turns errors into messages and exit codes."""

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

from remaphore import interrupts
from remaphore.errors import ConfigError, PluginError, RemaphoreError, UsageError

EXIT_OK = 0
EXIT_USAGE = 2
EXIT_ERROR = 3
EXIT_SIGNAL = 128  # plus the number of the signal, as in a shell
EXIT_PIPE = 141  # 128 + SIGPIPE, which ends the Go program and most other tools in this case

# Of every command. A command's own codes are in its module.
EXIT_CODES = {
    EXIT_OK: "success",
    1: "no message or reply before the timeout, or a problem was found",
    EXIT_USAGE: "usage or configuration error",
    EXIT_ERROR: "any other error",
    130: "interrupted (Ctrl-C)",
    EXIT_PIPE: "stdout was closed (SIGPIPE)",
}

# They run until they are stopped, so a signal that stops them before they have begun is no failure either.
_SERVICES = ("run", "broker")

# Errors of our own output. Where other files are written, they are reported there.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def command() -> NoReturn:
    """Run `main` as the console script, without what pays off only in a long-running process.

    Garbage collection during the imports and the teardown of the interpreter are a third of the time of `remaphore -s`.
    Long-running commands call `enable_gc`.
    """
    gc.disable()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller has closed it: what is written to it is lost, without an error
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 - importing pathlib takes time
    if "_ARGCOMPLETE" in os.environ:  # a shell requests completions
        import_module("remaphore.cli.commands.completion").complete()
    interrupts.begin(reloads=sys.argv[1:2] == ["run"])
    os._exit(main())


def enable_gc() -> None:
    """Enable garbage collection for a long-running command. Objects that exist now are never examined again.

    The transport is imported first, so that its objects are among those. Nothing is collected here: that takes as long
    as the start of the interpreter, and imports leave only a few hundred objects to collect.
    """
    import_module("remaphore.transport.nats_client")
    gc.freeze()
    gc.enable()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line *arguments* (default: those of the process) and return its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return _run_and_report(given)
    except KeyboardInterrupt as interrupt:  # also while an error is written to a stderr that is not read
        number = interrupt.number if isinstance(interrupt, interrupts.Interrupted) else 2  # SIGINT
        return EXIT_OK if given[:1] and given[0] in _SERVICES else EXIT_SIGNAL + number


def _run_and_report(arguments: list[str]) -> int:
    """Run the command line *arguments*; return its exit code, and report its error."""
    try:
        code = run_command(arguments)
        sys.stdout.flush()
    except (UsageError, ConfigError, PluginError) as error:
        return _fail(error, EXIT_USAGE)
    except RemaphoreError as error:
        return _fail(error, EXIT_ERROR)
    except BrokenPipeError:
        return EXIT_PIPE
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        hint = "free some space and run the command again"
        return _fail(RemaphoreError(f"cannot write output: {error.strerror}", hint=hint), EXIT_ERROR)
    return code


def _fail(error: RemaphoreError, code: int) -> int:
    """Write *error* and its hint to stderr; return *code*."""
    from remaphore.logs import escape

    with contextlib.suppress(OSError):
        sys.stdout.flush()  # results before the error
    # Both may quote a server or a file, hence `escape`. If stderr is closed, the exit code still reports the error.
    with contextlib.suppress(OSError):
        sys.stderr.write(f"remaphore: error: {escape(str(error))}\n")
        if error.hint:
            sys.stderr.write(f"remaphore: hint: {escape(error.hint)}\n")
    return code


def run_command(arguments: list[str]) -> int:
    """Run the command line *arguments* in either syntax; return its exit code. Raises RemaphoreError."""
    first = arguments[0] if arguments else ""
    if first in ("--help", "-help", "-h", "--h"):
        from remaphore.cli.overview import overview

        sys.stdout.write(overview())
        return EXIT_OK
    if first in ("--version", "-version"):
        from importlib.metadata import version

        sys.stdout.write(f"remaphore {version('remaphore')}\n")
        return EXIT_OK
    from remaphore.cli.commands import COMMANDS

    # A command must be the very first argument; any other line has the syntax of the Go implementation.
    syntax = "remaphore.cli.arguments" if first in COMMANDS else "remaphore.cli.legacy.flags"
    options = import_module(syntax).read(arguments)
    # The class of the options is defined in the module of the command.
    return int(import_module(type(options).__module__).run(options))
