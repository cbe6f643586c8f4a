"""Run the handlers of a verb, one after the other, and make one reply of their results."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from remaphore import Action, Config, Message, PluginError, Reply, Step, VerbSettings
from remaphore.text import escape
from remaphore.trust import UnsafeError
from remaphore_plugins.hooks_d.account import look_up
from remaphore_plugins.hooks_d.plan import (
    SEARCH_PATH,
    Plan,
    explain_name,
    find_handler_obstacle,
    list_problems,
    make_argv,
    nothing_runs,
    prepare,
    to_steps,
    with_hint,
)
from remaphore_plugins.hooks_d.scan import has_directory
from remaphore_plugins.hooks_d.trust import TrustedFile, check_same, recheck
from remaphore_plugins.processes import tree
from remaphore_plugins.processes.account import Account
from remaphore_plugins.processes.environment import describe_message
from remaphore_plugins.processes.exit_watch import check_exit_watch
from remaphore_plugins.processes.handler_log import HandlerLog
from remaphore_plugins.processes.run import RunResult, run
from remaphore_plugins.processes.subreaper import Subreaper

UMASK = 0o022

# Linux limits an argument or environment variable to 131,072 bytes: less `REMAPHORE_MSG=` and the NUL at the end.
MAX_ARGUMENT = 131_057

# Exit codes in replies: 126 is the shell's "cannot be executed", 124 is timeout(1)'s, 143 is 128 + SIGTERM.
NOT_STARTED = -1
TIMED_OUT = 124
UNSAFE = 126
STOPPED = 143

# Of env(1), which did not find the interpreter, and of shells that cannot read their script.
_INTERPRETER_FAILED = (2, 126, 127)

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
        if result.survived:
            note = f"{note.removeprefix('terminated because ')}, but {result.error}; {result.hint}"
        if note:
            self.note(handler, note)
        self.code = self.code or code
        return code

    def fail(self, handler: TrustedFile, code: int, note: str) -> None:
        """Add that *handler* was not run, and why."""
        self.note(handler, note)
        self.code = self.code or code

    def explain(self, handler: TrustedFile, account: Account) -> None:
        """Add why *handler*, which its interpreter could not run, cannot be started by *account*, if that is known."""
        fault = find_handler_obstacle(handler, account)
        if fault is not None:
            self.note(handler, f"cannot start: {fault.reason}; {fault.hint}")

    def note(self, handler: TrustedFile, text: str) -> None:
        """Add *text* about *handler* to the reply and to the log."""
        _log.warning("%s: %s", escape(handler.path), text)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setup:
    """What a configuration means for handlers. own: the user that we run as; accounts: the users of verbs, if others.

    An account that cannot be used is the error that states why: its verb is rejected, not run as another user.
    """

    config: Config
    hooks: tuple[str, ...]
    own: Account
    accounts: Mapping[str, Account | PluginError]

    def account(self, verb: str) -> Account | PluginError:
        """Return the user that the handlers of *verb* run as."""
        return self.accounts.get(verb, self.own)


class Handlers:
    """Runs the handlers under hooks.d. `apply_config` replaces the configuration while handlers are running."""

    def __init__(self, config: Config, own: Account) -> None:
        """Use *config*. Raise PluginError for a user that handlers cannot run as, or if none can be run here.

        *own*: the user of the daemon, which is ours unless nothing is to be run but only judged.
        """
        check_exit_watch()
        # Kept for reloads: the directory may be deleted while we run, and has no path then.
        self._folder = _current_directory() if any(not folder.is_absolute() for folder in config.hooks) else Path("/")
        self._subreaper = Subreaper()
        self._own = own
        self._failure: PluginError | None = None
        self.apply_config(config)
        for account in self._setup.accounts.values():
            if isinstance(account, PluginError):
                raise account
        self._subreaper.watch()

    def apply_config(self, config: Config) -> None:
        """Use *config* for all later messages, and log what in its directories will not run, and why.

        If that fails, nothing of *config* is used, and all messages are rejected until a later one can be applied: the
        old settings may be what the new ones were to end, such as handlers that run as root.
        """
        try:
            setup = _make_setup(config, self._folder, self._own)
            lines = list(list_problems(setup.hooks, setup.account, own=self._own))
        except Exception as error:
            what = f"the last reload failed: {type(error).__name__}: {error}"
            self._failure = PluginError(what, hint="correct the cause, and reload (systemctl reload remaphore)")
            raise
        self._setup, self._failure = setup, None
        for line in lines:
            _log.warning("%s", line)

    def plan(self, message: Message) -> list[Step]:
        """Return what *message* would run now, and what not."""
        plan = self.prepare(message.verb)
        account = self._account(message.verb)
        if plan is None:
            return explain_name(message.verb, self._setup.hooks)
        if isinstance(account, PluginError):
            return [Step(action=Action.UNSAFE, name=message.verb, reason=str(account), hint=account.hint)]
        stdin = self._setup.config.verb(message.verb).payload == "stdin"
        return to_steps(plan, message, account, stdin=stdin)

    def prepare(self, verb: str) -> Plan | None:
        """Return what would run for *verb* now, None if there is nothing for it."""
        return prepare(verb, self._setup.hooks, own=self._own)

    def has_directory(self, verb: str) -> bool:
        """Return whether there may be something that would run for *verb*."""
        return has_directory(verb, self._setup.hooks)

    async def run(self, message: Message, *, stop: asyncio.Future[None]) -> Reply | None:
        """Run what there is for *message* now, until *stop* is done. Return None if that is no handler.

        The handlers are checked here, and the first one is started before anything else can run in this thread.
        """
        plan = self.prepare(message.verb)
        if plan is None:
            return None
        settings, account = self._setup.config.verb(message.verb), self._account(message.verb)
        rejection = _reject(message, plan, settings=settings, account=account)
        if rejection is not None:
            _log.warning("%s", escape(rejection.output.decode()))
            return rejection
        if not plan.handlers:
            _log.warning("%s", nothing_runs(message.verb, plan))
            return None
        assert not isinstance(account, PluginError)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + settings.timeout_seconds  # one for all handlers together
        report = _Report(settings.cap)
        env = make_environment(message, settings=settings, account=account)
        for number, handler in enumerate(plan.handlers):
            timed_out = loop.time() >= deadline
            problem = _why_not_now(handler, first=not number, timed_out=timed_out, stopping=stop.done())
            if problem is not None:
                report.fail(handler, *problem)
                break
            log = HandlerLog(handler.path, message)
            result = await run(
                make_argv(handler, message, stdin=settings.payload == "stdin"),
                env=env | {"REMAPHORE_HANDLER": os.fsencode(handler.path)},
                cwd="/",
                umask=UMASK,
                stdin=message.payload,
                timeout=deadline - loop.time(),
                cap=settings.cap - report.kept,
                stop=stop,
                account=None if account is self._setup.own else account,
                subreaper=self._subreaper,
            )
            code = report.add(handler, result)
            log.ended(code)
            if result.exit_code in _INTERPRETER_FAILED:
                report.explain(handler, account)
            if result.timed_out or result.stopped or (code and settings.exit_on_error):
                break
        return report.reply()

    def start(self) -> None:
        """Reap what ended before the event loop ran. Only needed in the loop, once."""
        self._subreaper.schedule_sweep()

    def _account(self, verb: str) -> Account | PluginError:
        return self._failure or self._setup.account(verb)

    async def end(self) -> None:
        """End what handlers left in the background. No handler may be running."""
        await self._subreaper.end(tree.GRACE_SECONDS)


def _make_setup(config: Config, folder: Path, own: Account) -> _Setup:
    accounts: dict[str, Account | PluginError] = {}
    for verb, settings in config.verbs.items():
        if settings.user:
            try:
                setting = f"{config.source}: verbs.{verb}.user"
                accounts[verb] = look_up(settings.user, setting=setting, daemon=own.uid)
            except PluginError as error:
                accounts[verb] = error
    # Not normalised: what `..` means after a link is resolved when the path is checked, component by component.
    hooks = tuple(str(folder / each) for each in config.hooks)
    return _Setup(config=config, hooks=hooks, own=own, accounts=accounts)


def _current_directory() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise PluginError(
            f"a hook directory has a relative path, and the current directory cannot be used: {error.strerror}",
            hint="write its absolute path, or change to a directory that exists (cd /)",
        ) from error


def make_environment(message: Message, *, settings: VerbSettings, account: Account) -> dict[str, bytes]:
    """Return the whole environment of a handler, but for REMAPHORE_HANDLER."""
    environment = {"PATH": os.fsencode(SEARCH_PATH)} | describe_message(message)
    if settings.payload == "stdin":
        del environment["REMAPHORE_MSG"]
    return environment | account.environment() | {"LC_ALL": b"C.UTF-8"}


def _reject(message: Message, plan: Plan, *, settings: VerbSettings, account: Account | PluginError) -> Reply | None:
    """Return the reply if no handler of *plan* may be started at all, None if they may.

    The prefix `remaphore: refused: ` is part of the protocol: the requester recognises a rejection by it.
    """
    faults = [with_hint(fault) for fault in plan.faults]
    if isinstance(account, PluginError):
        faults.append(escape(f"{account}; {account.hint}"))
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


def _why_not_now(handler: TrustedFile, *, first: bool, timed_out: bool, stopping: bool) -> tuple[int, str] | None:
    """Return exit code and reason if *handler* must not be started, although the verb was found safe."""
    if stopping:
        return STOPPED, "not started because remaphore is shutting down"
    if timed_out:
        return TIMED_OUT, "not started because the timeout of its verb was exceeded"
    try:
        if first:
            check_same(handler)
        else:  # the one before may have run for minutes, or have changed this one itself
            recheck(handler, user=os.geteuid())
    except UnsafeError as fault:
        return UNSAFE, f"not started because it is unsafe: {with_hint(fault)}"
    return None
