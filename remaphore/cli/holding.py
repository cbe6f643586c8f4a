"""Run a command while we hold a lock: what `remaphore lock` and `remaphore semaphore` have in common.

The guardian is forked first, see `coordination.guardian`: nothing here may import asyncio before that.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from remaphore.cli import output
from remaphore.errors import RemaphoreError, UsageError, resource_hint

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser

DEFAULT_TTL, MIN_TTL, MAX_TTL = 30.0, 5.0, 3600.0  # seconds
# Of the time to live: how long a command that has lost its lock has between TERM and KILL, unless it is told, at most.
GRACE, MAX_GRACE = 1 / 6, 1 / 3
ANNOUNCE_AFTER = 1.0  # seconds of waiting

EXIT_CONFLICT = 1
EXIT_LOST = 125
EXIT_CANNOT_EXECUTE = 126
EXIT_NOT_FOUND = 127
EXIT_CODES = {
    0: "success of the command, whose exit code is ours, 128+N if signal N ended it",
    EXIT_CONFLICT: "not acquired in time (--conflict-exit-code)",
    EXIT_LOST: "the lock was lost, and the command was ended",
    EXIT_CANNOT_EXECUTE: "the command cannot be executed",
    EXIT_NOT_FOUND: "the command was not found",
}

# What the command has in its environment. NAMES: of all locks that it holds, with those of the lock around it.
NAME, SLOT, TOKEN, NAMES = "REMAPHORE_LOCK", "REMAPHORE_LOCK_SLOT", "REMAPHORE_LOCK_TOKEN", "REMAPHORE_LOCKS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Options of lock and semaphore. wait: seconds, None for no limit, 0 for not at all. ttl, grace: seconds.

    fair: wait in line. note: what `lock list` shows. log_format: empty for no log, unless it is *verbose*.
    """

    config: str | None = None
    name: str
    command: tuple[str, ...]
    slots: int = 1
    wait: float | None = None
    conflict_exit_code: int = EXIT_CONFLICT
    ttl: float = DEFAULT_TTL
    grace: float = DEFAULT_TTL * GRACE
    fair: bool = True
    note: str = ""
    log_format: Literal["", "console", "json"] = ""
    verbose: bool = False

    @classmethod
    def from_arguments(
        cls, *, name: str, command: Sequence[str] = (), grace: float | None = None, **given: Any
    ) -> Self:
        """Return the options of what the parser has read. Raise UsageError."""
        from remaphore.protocol import record

        ttl = given.setdefault("ttl", DEFAULT_TTL)
        if problem := record.name_problem(name):
            raise UsageError(f"invalid name {name!r}: {problem}", hint="choose another name for the lock")
        if not command or not command[0]:
            raise UsageError("no command", hint="write it after --, such as: remaphore lock NAME -- COMMAND")
        if not MIN_TTL <= ttl <= MAX_TTL:
            raise UsageError(f"--ttl: {ttl:.10g}s is not from {MIN_TTL:g}s to 1h", hint="the default is 30s")
        if grace is not None and grace > ttl * MAX_GRACE:
            raise UsageError(f"--grace: more than a third of --ttl, {ttl:g}s", hint="use a longer --ttl, or less grace")
        if name in os.environ.get(NAMES, "").split():
            raise UsageError(
                f"{name} is held by the command that runs this one, which would wait for itself",
                hint="use another name for the inner lock, or omit it",
            )
        given["note"] = given.get("note", command[0])
        return cls(name=name, command=tuple(command), grace=ttl * GRACE if grace is None else grace, **given)


def add_options(parser: Parser) -> None:
    """Add the options that both commands have. Without defaults, so that it can be told which ones are given."""
    from argparse import SUPPRESS

    from remaphore.cli.arguments import positive_seconds

    add, wait = parser.add_argument, parser.add_mutually_exclusive_group().add_argument
    wait(
        *("-w", "--wait"),
        type=positive_seconds,
        metavar="TIME",
        default=SUPPRESS,
        help="wait at most TIME, such as 10m (default: no limit)",
    )
    wait(*("-n", "--no-wait"), dest="wait", action="store_const", const=0.0, default=SUPPRESS, help="do not wait")
    add(
        *("-E", "--conflict-exit-code"),
        type=exit_code,
        metavar="N",
        default=SUPPRESS,
        help="exit code if it was not acquired (default: 1)",
    )
    add(
        "--ttl",
        type=positive_seconds,
        metavar="TIME",
        default=SUPPRESS,
        help="if this node is not heard for TIME, 5s to 1h, the next takes the lock (default: 30s)",
    )
    add(
        "--grace",
        type=positive_seconds,
        metavar="TIME",
        default=SUPPRESS,
        help="between TERM and KILL if the lock is lost (default: a sixth of --ttl; at most a third)",
    )
    add("--unfair", dest="fair", action="store_false", default=SUPPRESS, help="do not wait in line")
    add(
        "--note",
        metavar="TEXT",
        default=SUPPRESS,
        help="text for lock list (default: the first word of the command)",
    )
    add(
        "--log-format",
        choices=("console", "json"),
        default=SUPPRESS,
        help="also log to stderr what happens to the lock, in this format (default: no log)",
    )
    add("--verbose", action="store_true", default=SUPPRESS, help="log that, and debug events, such as each renewal")


def exit_code(text: str) -> int:
    """Return the exit code *text*."""
    import argparse

    if not (text.isascii() and text.isdigit() and int(text) <= 255):
        raise argparse.ArgumentTypeError(f"{text!r} is not an exit code, 0 to 255")
    return int(text)


def process_hint(error: OSError) -> str:
    """Return the hint if *error* means that there is no room for one more process, else an empty string."""
    if error.errno == errno.EAGAIN:
        return "end other processes of this user, or raise TasksMax of the unit, the container's limit, or ulimit -u"
    return resource_hint(error)


def run(options: Holding) -> int:
    """Wait for the lock, and run the command; return its exit code, or one of ours."""
    from remaphore.coordination import guardian

    try:
        forked = guardian.fork(options.command)
    except OSError as error:
        hint = process_hint(error) or "permit the system calls fork, prctl and socketpair, as container runtimes do"
        raise RemaphoreError(f"cannot guard the command: {error.strerror}", hint=hint) from None
    try:
        from remaphore import tasks
        from remaphore.cli.configuration import load_config
        from remaphore.cli.holder import Holder
        from remaphore.cli.main import enable_gc
        from remaphore.cli.writer import continue_unread

        continue_unread()
        if options.log_format or options.verbose:
            output.configure_logs(options.log_format or "console", level="DEBUG" if options.verbose else "INFO")
        config = load_config(options.config)
        enable_gc()
        return tasks.run(Holder(options, config, forked).hold(), patient=True)
    finally:
        forked.line.close()  # which ends the guardian
