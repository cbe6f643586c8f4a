"""The plugin `script`: runs the script on the command line of `receive` for each message.

Its arguments, its environment and its reply are those of the Go implementation, except for PATH, HOME, USER and
LOGNAME, which that one omits. Verb and payload are text that a peer chose: they may begin with `-`, and may contain
anything but a NUL byte.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Awaitable, Mapping, Sequence
from typing import cast

from remaphore import Action, Message, Reply, Step, UsageError, hookimpl
from remaphore_plugins.processes.account import Account, own_account
from remaphore_plugins.processes.active import ActiveRuns
from remaphore_plugins.processes.environment import describe_message, to_wire
from remaphore_plugins.processes.handler_log import HandlerLog
from remaphore_plugins.processes.run import RunResult, run
from remaphore_plugins.processes.subreaper import Subreaper

# A reply is one message, and a broker accepts 1 MiB by default: half of it leaves room for the rest of the message.
OUTPUT_CAP = 512 * 1024

_NO_EXIT_CODE = -1

_log = logging.getLogger("remaphore.script")


class Script:
    """Runs one script for every message. The caller keeps the order of messages."""

    def __init__(self) -> None:
        self._command: tuple[str, ...] = ()
        self._runs = ActiveRuns()
        self._subreaper = Subreaper()

    @hookimpl
    def remaphore_configure(self, options: Mapping[str, object]) -> None:
        """Use the script and its arguments, a tuple of strings: `argv` of *options*. Raise UsageError without one.

        It has no settings: a configuration file cannot make the daemon run one script for all verbs.
        """
        argv = cast("tuple[str, ...]", options.get("argv", ()))
        if not argv:
            raise UsageError("no script to run", hint="name it, and its arguments, after the options of receive")
        self._command = argv
        self._account = own_account()
        self._subreaper.watch()

    @hookimpl
    def remaphore_plan(self, message: Message) -> list[Step]:
        """Return the one step that *message* would cause: the script with its arguments."""
        argv = tuple(map(os.fsdecode, make_argv(self._command, message)))
        return [Step(action=Action.RUN, name=self._command[0], argv=argv)]

    @hookimpl
    def remaphore_acts(self, verb: str) -> bool:  # noqa: ARG002 - the hook's own argument
        """Return True: the script runs for every verb."""
        return True

    @hookimpl
    def remaphore_message(self, message: Message) -> Awaitable[Reply | None]:
        """Run the script for *message*, and return its exit code and output as the reply."""

        async def run_script() -> Reply:
            log = HandlerLog(self._command[0], message)
            result = await run(
                make_argv(self._command, message),
                env=make_environment(message, path=os.environ.get("PATH", ""), account=self._account),
                timeout=None,
                cap=OUTPUT_CAP,
                stop=self._runs.stop,
            )
            reply = make_reply(result)
            log.ended(reply.exit_code)
            return reply

        return self._runs.track(run_script)

    @hookimpl
    async def remaphore_shutdown(self, reason: str) -> None:  # noqa: ARG002 - the hook's own argument
        """End all scripts, and return when they have ended. No later message starts one."""
        await self._runs.end()


def make_argv(command: Sequence[str], message: Message) -> list[bytes]:
    """Return *command*, the verb and the payload, as the bytes they were in the message."""
    return [*map(os.fsencode, command), to_wire(message.verb), message.payload]


def make_environment(message: Message, *, path: str, account: Account) -> dict[str, bytes]:
    """Return the whole environment of the script: *path* as its PATH, the user *account*, and what *message* is."""
    return {"PATH": os.fsencode(path or os.defpath)} | account.environment() | describe_message(message)


def make_reply(result: RunResult) -> Reply:
    """Return the reply for *result*. Without an exit code, the reply has -1, and the log states why."""
    code = result.exit_code
    reason = ""
    if code is None:
        reason = result.error + (f"; {result.hint}" if result.hint else "")
    elif result.stopped:
        reason = "terminated because remaphore is shutting down"
    elif result.timed_out:
        reason = "terminated because its timeout was exceeded"
    elif result.signal is not None:
        reason = f"killed by signal {result.signal} ({signal.strsignal(result.signal)})"
    if reason:
        _log.warning("script has no exit code, so the reply is -1: %s", reason)
    output, kept = result.output, len(result.output)
    if result.output_bytes > kept:
        output += f"\nremaphore: output truncated: kept {kept} of {result.output_bytes} bytes\n".encode()
    return Reply(_NO_EXIT_CODE if reason or code is None else code, output)
