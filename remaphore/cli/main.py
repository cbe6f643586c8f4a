"""The process boundary: reads the arguments, runs the command, turns errors into messages and exit codes."""

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
from remaphore.cli import deferred
from remaphore.errors import ConfigError, PluginError, RemaphoreError, UsageError, describe, resource_hint

EXIT_OK = 0
EXIT_USAGE = 2
EXIT_ERROR = 3
EXIT_SIGNAL = 128  # plus the number of the signal, as in a shell
EXIT_PIPE = 141  # 128 + SIGPIPE, which ends the Go program and most other tools in this case

# Of every command. A command's own codes are in its module.
EXIT_CODES = {
    EXIT_OK: "success",
    1: "nothing arrived in time, or a problem found",
    EXIT_USAGE: "usage or configuration error",
    EXIT_ERROR: "any other error",
    129: "SIGHUP",
    130: "Ctrl-C",
    EXIT_PIPE: "stdout was closed (SIGPIPE)",
    143: "SIGTERM",
}

_HELP = ("--help", "-help", "-h", "--h")
_VERSION = ("--version", "-version")

# They run until they are stopped, so a signal that stops them before they have begun is no failure either.
_SERVICES = ("run", "agent", "broker")

# Of the interpreter that is started with -X utf8: the encoding in which text is written.
_ENCODING = "remaphore_encoding"

# Errors of our own output. Where other files are written, they are reported there.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def command() -> NoReturn:
    """Run `main` as the console script, without what pays off only in a long-running process.

    Garbage collection during the imports and the teardown of the interpreter are a third of the time of `remaphore -s`.
    Long-running commands call `enable_gc`.
    """
    gc.disable()
    deferred.begin()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller has closed it: what is written to it is lost, without an error
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 - importing pathlib takes time
    _use_utf8()
    if "_ARGCOMPLETE" in os.environ:  # a shell requests completions
        import_module("remaphore.cli.commands.completion").complete()
    interrupts.begin(reloads=sys.argv[1:2] in (["run"], ["agent"], ["broker"]))
    try:
        code = main()
    except Exception as error:  # noqa: BLE001 - whatever it is
        code = report_defect(error)
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()  # it may have lines that wait for their reader, see `writer.continue_unread`
    os._exit(code)


def _use_utf8() -> None:
    """Use UTF-8 for arguments, file names and files in every locale, and escape what stdout cannot encode.

    Python decodes all of these as the locale says: `zürich` would be another text with a locale of ISO-8859-1 than
    with one of UTF-8, and `東京` an error. Its UTF-8 mode (PEP 540) can be chosen at the start of the interpreter only,
    so that with such a locale it is started again, in the same process; -X does not reach the processes that we start,
    as $PYTHONUTF8 would. Text is still written in the encoding of the locale, for its terminals.
    """
    encoding = sys._xoptions.get(_ENCODING)  # noqa: SLF001 - documented, and the only place of options of our own
    if sys.getfilesystemencoding() != "utf-8" and encoding is None and sys.executable:
        options = ("-X", "utf8", "-X", f"{_ENCODING}={sys.stdout.encoding}")
        with contextlib.suppress(OSError):  # it cannot be executed again: bytes that the locale does not have fail
            os.execv(sys.executable, (sys.executable, *options, *sys.orig_argv[1:]))  # noqa: S606 - no shell
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding=encoding, errors="backslashreplace")  # type: ignore[union-attr]


def enable_gc(*, collect: bool = False) -> None:
    """Enable garbage collection for a long-running command. Objects that exist now are never examined again.

    The transport is imported first, so that its objects are among those. *collect* what the imports have left, 0.4 MiB,
    for a command that runs for weeks: it takes as long as the start of the interpreter. What the imports before that of
    the transport have left is memory for it.
    """
    if collect:
        gc.collect()
    import_module("remaphore.transport.nats_client")
    if collect:
        gc.collect()
    gc.freeze()
    gc.enable()


def return_memory() -> None:
    """Return to the kernel what starting has left free in the memory of malloc(3): 0.3 MiB."""
    import ctypes

    with contextlib.suppress(AttributeError):  # not in every C library
        ctypes.CDLL(None).malloc_trim(0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line *arguments* (default: those of the process) and return its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return _run_and_report(given)
    except KeyboardInterrupt as interrupt:  # also while an error is written to a stderr that is not read
        number = interrupt.number if isinstance(interrupt, interrupts.Interrupted) else 2  # SIGINT
        serving = given[:1] and given[0] in _SERVICES and "--check" not in given
        return EXIT_OK if serving else EXIT_SIGNAL + number


def _run_and_report(arguments: list[str]) -> int:
    """Run the command line *arguments*; return its exit code, and report its error."""
    try:
        code = run_command(arguments)
        sys.stdout.flush()
    except (UsageError, ConfigError, PluginError) as error:
        return fail(error, EXIT_USAGE)
    except RemaphoreError as error:
        return fail(error, EXIT_ERROR)
    except BrokenPipeError:
        return EXIT_PIPE
    except (OSError, MemoryError) as error:
        what, hint = f"cannot write output: {os.strerror(_errno(error))}", "free some space and run the command again"
        if _errno(error) not in _NO_SPACE:
            what, hint = os.strerror(_errno(error)).lower(), resource_hint(error)
        if not hint:
            raise
        return fail(RemaphoreError(what, hint=hint), EXIT_ERROR)
    return code


def report_defect(error: Exception) -> int:
    """Write *error*, which nothing expected, with its traceback; return the exit code of other errors.

    That of Python is 1, which is a result: for `lock`, that others have it; for `wait`, that nothing arrived.
    """
    import traceback

    with contextlib.suppress(OSError):
        traceback.print_exception(error)
    hint = "report this defect of remaphore with all of these lines"
    return fail(RemaphoreError(f"unexpected error: {describe(error)}", hint=hint), EXIT_ERROR)


def _errno(error: OSError | MemoryError) -> int:
    return (error.errno or 0) if isinstance(error, OSError) else errno.ENOMEM


def fail(error: RemaphoreError, code: int) -> int:
    """Write *error* and its hint to stderr; return *code*."""
    from remaphore.cli.output import notice

    with contextlib.suppress(OSError):
        sys.stdout.flush()  # results before the error
    with contextlib.suppress(OSError):  # if stderr is closed, the exit code still reports the error
        notice(f"error: {error}")
        if error.hint:
            notice(f"hint: {error.hint}", whole=True)
    return code


def run_command(arguments: list[str]) -> int:
    """Run the command line *arguments* in either syntax; return its exit code. Raise RemaphoreError."""
    first = arguments[0] if arguments else ""
    if first in _HELP:
        from remaphore.cli import output
        from remaphore.cli.overview import overview

        output.write(overview())  # as `remaphore help` does, whose options are of a class that takes 7 ms to make
        return EXIT_OK
    if first in _VERSION:
        from remaphore.cli.commands import version

        return version.run(version.Version())
    from remaphore.cli.commands import COMMANDS

    if arguments and first not in COMMANDS and (first == "-" or not first.startswith("-")):
        from remaphore.cli import first_word

        first_word.check(first)
    # A command must be the very first argument; any other line has the syntax of the Go implementation.
    syntax = "remaphore.cli.arguments" if first in COMMANDS else "remaphore.cli.legacy.flags"
    options = import_module(syntax).read(arguments)
    try:
        # The class of the options is defined in the module of the command.
        return int(import_module(type(options).__module__).run(options))
    except (RemaphoreError, OSError) as error:
        _check_current_directory(arguments if first in COMMANDS else [], options, error)
        raise


def _check_current_directory(arguments: list[str], options: object, error: Exception) -> None:
    """Raise ConfigError in place of *error* if its cause is that the current directory has been deleted.

    That is certain where os.getcwd() failed, whose error names no file, and where a path of *options* is relative, or
    one of *arguments*, which begin with a command.
    """
    from remaphore.config.search import check_current_directory

    given = [getattr(options, name, None) for name in ("config", "source")]  # what -s and -r have, and the payload
    if arguments:
        from remaphore.cli.arguments import typed_paths

        given += typed_paths(arguments)
    paths = [path for path in given if path and path != "-"]
    if isinstance(error, OSError) and error.errno == errno.ENOENT and error.filename is None:
        paths.append(os.curdir)
    check_current_directory(paths)
