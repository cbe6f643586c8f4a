"""Run the handlers of a verb, one after the other, and make one reply of their results."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from remaphore import Action, Config, Message, PluginError, Reply, Step, VerbSettings
from remaphore.trust import UnsafeError
from remaphore_plugins.hooks_d.account import look_up, own_home
from remaphore_plugins.hooks_d.plan import (
    Plan,
    list_problems,
    make_argv,
    nothing_runs,
    prepare,
    show,
    to_steps,
    with_hint,
)
from remaphore_plugins.hooks_d.trust import TrustedFile, recheck
from remaphore_plugins.processes import tree
from remaphore_plugins.processes.environment import describe_message
from remaphore_plugins.processes.run import Account, RunResult, run
from remaphore_plugins.processes.subreaper import Subreaper

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
UMASK = 0o022

# Linux limits an argument or environment variable to 131,072 bytes: less `REMAPHORE_MSG=` and the NUL at the end.
MAX_ARGUMENT = 131_057

# Exit codes in replies: 126 is the shell's "cannot be executed", 124 is timeout(1)'s, 143 is 128 + SIGTERM.
NOT_STARTED = -1
TIMED_OUT = 124
UNSAFE = 126
STOPPED = 143

_log = logging.getLogger("remaphore.hooks-d")


@dataclass(slots=True)
class _Report:
    """The result of the handlers so far. cap: bytes of their output to keep; our own notes do not count."""

    cap: int
    code: int = 0
    output: bytearray = field(default_factory=bytearray)
    kept: int = 0
    total: int = 0

    def add(self, handler: TrustedFile, result: RunResult) -> int:
        """Add how *handler* ended; return its exit code."""
        self.output += result.output
        self.kept += len(result.output)
        self.total += result.output_bytes
        code, note = result.exit_code, ""
        if result.stopped:
            code, note = STOPPED, "terminated because remaphore is shutting down"
        elif result.timed_out:
            code, note = TIMED_OUT, "terminated because the timeout of its verb was exceeded"
        elif code is None:
            code, note = NOT_STARTED, result.error + (f"; {result.hint}" if result.hint else "")
        elif result.signal is not None:
            note = f"killed by signal {result.signal}"
        if note:
            self.note(handler, note)
        self.code = self.code or code
        return code

    def fail(self, handler: TrustedFile, code: int, note: str) -> None:
        """Add that *handler* was not run, and why."""
        self.note(handler, note)
        self.code = self.code or code

    def note(self, handler: TrustedFile, text: str) -> None:
        """Add *text* about *handler* to the reply and to the log."""
        _log.warning("%s: %s", show(handler.path), text)
        self._write(f"{handler.path.rpartition('/')[2]}: {text}")

    def reply(self) -> Reply:
        """Return the reply for all handlers together."""
        if self.total > self.kept:
            self._write(f"output truncated: kept {self.kept} of {self.total} bytes")
        return Reply(self.code, bytes(self.output))

    def _write(self, text: str) -> None:
        if self.output and not self.output.endswith(b"\n"):
            self.output += b"\n"
        self.output += f"remaphore: {text}\n".encode(errors="replace")


class Handlers:
    """Runs the handlers under hooks.d. `apply_config` replaces the configuration while handlers are running."""

    def __init__(self, config: Config) -> None:
        """Use *config*. Raise PluginError for a user that handlers cannot run as."""
        self._subreaper = Subreaper()
        self._accounts: dict[str, Account | PluginError] = {}
        self.apply_config(config)
        for account in self._accounts.values():
            if isinstance(account, PluginError):
                raise account

    def apply_config(self, config: Config) -> None:
        """Use *config* for all later messages, and log what in its directories will not run, and why.

        A verb whose user cannot be used is rejected: its handlers must not run as another user instead.
        """
        self._config = config
        self._home = own_home()
        # Not normalised: what `..` means after a link is resolved when the path is checked, component by component.
        self._hooks = tuple(str(folder if folder.is_absolute() else Path.cwd() / folder) for folder in config.hooks)
        self._accounts = {}
        for verb, settings in config.verbs.items():
            if settings.user:
                try:
                    self._accounts[verb] = look_up(settings.user, setting=f"{config.source}: verbs.{verb}.user")
                except PluginError as error:
                    self._accounts[verb] = error
        for line in list_problems(self._hooks):
            _log.warning("%s", line)

    def plan(self, message: Message) -> list[Step]:
        """Return what *message* would run now, and what not."""
        plan = self.prepare(message.verb)
        account = self._accounts.get(message.verb)
        if isinstance(account, PluginError):
            return [Step(action=Action.UNSAFE, name=message.verb, reason=str(account), hint=account.hint)]
        stdin = self._config.verb(message.verb).payload == "stdin"
        return [] if plan is None else to_steps(plan, message, stdin=stdin)

    def prepare(self, verb: str) -> Plan | None:
        """Return what would run for *verb* now, None if there is nothing for it."""
        return prepare(verb, self._hooks)

    async def run(self, message: Message, plan: Plan, *, stop: asyncio.Future[None]) -> Reply | None:
        """Run *plan*, just prepared for *message*, until *stop* is done. Return None if it has no handler."""
        settings, account = self._config.verb(message.verb), self._accounts.get(message.verb)
        rejection = _reject(message, plan, settings=settings, account=account)
        if rejection is not None:
            _log.warning("%s", show(rejection.output.decode()))
            return rejection
        if not plan.handlers:
            _log.warning("%s", nothing_runs(message.verb, plan))
            return None
        assert not isinstance(account, PluginError)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + settings.timeout_seconds  # one for all handlers together
        report = _Report(settings.cap)
        env = make_environment(message, settings=settings, home=self._home if account is None else account.home)
        for handler in plan.handlers:
            problem = _why_not_now(handler, timed_out=loop.time() >= deadline, stopping=stop.done())
            if problem is not None:
                report.fail(handler, *problem)
                break
            result = await run(
                make_argv(handler, message, stdin=settings.payload == "stdin"),
                env=env | {"REMAPHORE_HANDLER": os.fsencode(handler.path)},
                cwd="/",
                umask=UMASK,
                stdin=message.payload,
                timeout=deadline - loop.time(),
                cap=settings.cap - report.kept,
                stop=stop,
                account=account,
                subreaper=self._subreaper,
            )
            code = report.add(handler, result)
            if result.timed_out or result.stopped or (code and settings.exit_on_error):
                break
        return report.reply()

    async def end(self) -> None:
        """End what handlers left in the background. No handler may be running."""
        await self._subreaper.end(tree.GRACE_SECONDS)


def make_environment(message: Message, *, settings: VerbSettings, home: str) -> dict[str, bytes]:
    """Return the whole environment of a handler, but for REMAPHORE_HANDLER."""
    environment = {"PATH": os.fsencode(SEARCH_PATH)} | describe_message(message)
    if settings.payload == "stdin":
        del environment["REMAPHORE_MSG"]
    return environment | {"HOME": os.fsencode(home), "LC_ALL": b"C.UTF-8"}


def _reject(
    message: Message, plan: Plan, *, settings: VerbSettings, account: Account | PluginError | None
) -> Reply | None:
    """Return the reply if no handler of *plan* may be started at all, None if they may.

    The prefix `remaphore: refused: ` is part of the protocol: the requester recognises a rejection by it.
    """
    faults = [with_hint(fault) for fault in plan.faults]
    if isinstance(account, PluginError):
        faults.append(show(f"{account}; {account.hint}"))
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return Reply(UNSAFE, f"remaphore: refused: unsafe: {faults[0]}{more}".encode(errors="replace"))
    if not plan.handlers or settings.payload == "stdin":
        return None
    if b"\0" in message.payload:
        problem = "the payload contains a NUL byte, which an argument cannot contain"
    elif len(message.payload) > MAX_ARGUMENT:
        problem = f"the payload has {len(message.payload)} bytes, but an argument can have at most {MAX_ARGUMENT}"
    else:
        return None
    return Reply(
        NOT_STARTED, f'remaphore: not started: {problem}; set payload = "stdin" for the verb {message.verb}'.encode()
    )


def _why_not_now(handler: TrustedFile, *, timed_out: bool, stopping: bool) -> tuple[int, str] | None:
    """Return exit code and reason if *handler* must not be started, although the verb was found safe."""
    if stopping:
        return STOPPED, "not started because remaphore is shutting down"
    if timed_out:
        return TIMED_OUT, "not started because the timeout of its verb was exceeded"
    try:
        recheck(handler, user=os.geteuid())  # an earlier handler may have run for minutes, or changed this one itself
    except UnsafeError as fault:
        return UNSAFE, f"not started because it is unsafe: {with_hint(fault)}"
    return None
