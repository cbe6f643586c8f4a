"""Running the handlers of a verb, one after the other, and what their ends are as one reply."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from remaphore import Action, Config, Message, PluginError, Reply, Step, VerbSettings
from remaphore_plugins.exec_script import process, script
from remaphore_plugins.exec_script.account import Account, look_up, own_home
from remaphore_plugins.exec_script.orphans import Orphans
from remaphore_plugins.exec_script.plan import Plan, make_argv, nothing_runs, prepare, show, tell, to_steps
from remaphore_plugins.exec_script.trust import Seal, UnsafeError, confirm

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
UMASK = 0o022

# Linux takes strings of up to 131,072 bytes for arguments and variables: less `REMAPHORE_MSG=` and the NUL at the end.
MAX_ARGUMENT = 131_057

# Exit codes in replies: the shell's "cannot be executed", timeout(1)'s, and 128 + SIGTERM.
NOT_STARTED = -1
TIMED_OUT = 124
UNSAFE = 126
STOPPED = 143

_log = logging.getLogger("remaphore.exec-script")


@dataclass(slots=True)
class _Report:
    """What has come of the handlers so far. Notes are our own words; the cap is for theirs."""

    cap: int
    code: int = 0
    output: bytearray = field(default_factory=bytearray)
    kept: int = 0
    total: int = 0

    def add(self, handler: Seal, finished: process.Finished) -> int:
        """Take in how *handler* ended; return its exit code."""
        self.output += finished.output
        self.kept += len(finished.output)
        self.total += finished.output_bytes
        code, note = _judge_end(finished)
        if note:
            self.note(handler, note)
        self.code = self.code or code
        return code

    def fail(self, handler: Seal, code: int, note: str) -> None:
        """Take in that *handler* was not run, and why."""
        self.note(handler, note)
        self.code = self.code or code

    def note(self, handler: Seal, text: str) -> None:
        """Say *text* about *handler*, to who asked and in the log."""
        _log.warning("%s: %s", show(handler.path), text)
        self._write(f"{handler.path.rpartition('/')[2]}: {text}")

    def reply(self) -> Reply:
        """Return what all of it comes to."""
        if self.total > self.kept:
            self._write(f"output truncated: kept {self.kept} of {self.total} bytes")
        return Reply(self.code, bytes(self.output))

    def _write(self, text: str) -> None:
        if self.output and not self.output.endswith(b"\n"):
            self.output += b"\n"
        self.output += f"remaphore: {text}\n".encode(errors="replace")


class Handlers:
    """Runs hooks.d. What it reads of the configuration may be replaced while it runs, by `take`."""

    def __init__(self, config: Config) -> None:
        """Take *config*. Raises PluginError for a user that handlers cannot run as."""
        self._orphans = Orphans()
        self._accounts: dict[str, Account | PluginError] = {}
        self.take(config)
        for account in self._accounts.values():
            if isinstance(account, PluginError):
                raise account

    def take(self, config: Config) -> None:
        """Use *config* for all messages from now on, and log what in its directories will not run, and why.

        A verb whose user cannot be had is refused: its handlers must not run as somebody else.
        """
        self._config = config
        self._home = own_home()
        # Not normalised: what `..` means behind a link is for the walk along the path to find out.
        self._hooks = tuple(str(folder if folder.is_absolute() else Path.cwd() / folder) for folder in config.hooks)
        self._accounts = {verb: _account(config, verb) for verb, settings in config.verbs.items() if settings.user}
        for line in tell(self._hooks):
            _log.warning("%s", line)

    def plan(self, message: Message) -> list[Step]:
        """Return what *message* would make run now, and what not."""
        plan = self.prepare(message.verb)
        stdin = self._config.verb(message.verb).payload == "stdin"
        account = self._accounts.get(message.verb)
        if isinstance(account, PluginError):
            return [Step(action=Action.UNSAFE, name=message.verb, reason=str(account))]
        return [] if plan is None else to_steps(plan, message, stdin=stdin)

    def prepare(self, verb: str) -> Plan | None:
        """Return what would run for *verb* now, None if there is nothing for it."""
        return prepare(verb, self._hooks)

    async def run(self, message: Message, plan: Plan, *, stop: asyncio.Future[None]) -> Reply | None:
        """Run what was just prepared for *message* until *stop* is done; None if nothing is left to run."""
        rejection = self._reject(message, plan)
        if rejection is not None or not plan.handlers:
            _log.warning(
                "%s", nothing_runs(message.verb, plan) if rejection is None else show(rejection.output.decode())
            )
            return rejection
        settings = self._config.verb(message.verb)
        account = self._accounts.get(message.verb)
        assert not isinstance(account, PluginError)
        return await self._run_all(plan.handlers, message, settings=settings, account=account, stop=stop)

    async def end(self) -> None:
        """End what handlers left in the background. None of them may be running."""
        await self._orphans.end(process.GRACE_SECONDS)

    def _reject(self, message: Message, plan: Plan) -> Reply | None:
        """Return the reply if nothing may be started at all."""
        account = self._accounts.get(message.verb)
        faults = [*map(str, plan.faults), *([str(account)] if isinstance(account, PluginError) else [])]
        if faults:
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            return Reply(UNSAFE, f"remaphore: refused: unsafe: {show(faults[0])}{more}".encode(errors="replace"))
        if plan.handlers and self._config.verb(message.verb).payload != "stdin":
            problem = _no_argument(message.payload)
            if problem:
                hint = f'set payload = "stdin" for the verb {message.verb}'
                return Reply(NOT_STARTED, f"remaphore: not started: {problem}; {hint}".encode())
        return None

    async def _run_all(
        self,
        handlers: Sequence[Seal],
        message: Message,
        *,
        settings: VerbSettings,
        account: Account | None,
        stop: asyncio.Future[None],
    ) -> Reply:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + settings.timeout_seconds
        report = _Report(settings.cap)
        home = self._home if account is None else account.home
        env = make_environment(message, settings=settings, home=home)
        for handler in handlers:
            problem = _why_not_now(handler, over=loop.time() >= deadline, stopping=stop.done())
            if problem is not None:
                report.fail(handler, *problem)
                break
            finished = await process.run(
                make_argv(handler, message, stdin=settings.payload == "stdin"),
                # Its own path, so that what it leaves in the background is told apart from what another one does.
                env=env | {"REMAPHORE_HANDLER": os.fsencode(handler.path)},
                cwd="/",
                umask=UMASK,
                stdin=message.payload,
                timeout=deadline - loop.time(),
                cap=settings.cap - report.kept,
                stop=stop,
                account=account,
                orphans=self._orphans,
            )
            code = report.add(handler, finished)
            if finished.timed_out or finished.stopped or (code and settings.exit_on_error):
                break
        return report.reply()


def make_environment(message: Message, *, settings: VerbSettings, home: str) -> dict[str, bytes]:
    """Return the whole environment of a handler."""
    environment = script.make_environment(message, path=SEARCH_PATH)
    if settings.payload == "stdin":
        del environment["REMAPHORE_MSG"]
    return environment | {"HOME": os.fsencode(home), "LC_ALL": b"C.UTF-8"}


def _account(config: Config, verb: str) -> Account | PluginError:
    try:
        return look_up(config.verb(verb).user, setting=f"{config.source}: verbs.{verb}.user")
    except PluginError as error:
        return error


def _no_argument(payload: bytes) -> str:
    if b"\0" in payload:
        return "the payload holds a NUL byte, which no argument can"
    if len(payload) > MAX_ARGUMENT:
        return f"the payload has {len(payload)} bytes, and an argument holds {MAX_ARGUMENT}"
    return ""


def _why_not_now(handler: Seal, *, over: bool, stopping: bool) -> tuple[int, str] | None:
    """Return exit code and reason if *handler* must not be started, though the verb was found safe."""
    if stopping:
        return STOPPED, "not started, because remaphore is stopping"
    if over:
        return TIMED_OUT, "not started, because the time of its verb was over"
    try:
        confirm(handler, user=os.geteuid())
    except UnsafeError as fault:
        return UNSAFE, f"not started, because it is unsafe: {show(str(fault))}"
    return None


def _judge_end(finished: process.Finished) -> tuple[int, str]:
    """Return the exit code of a handler that ended so, and what is to be said of it, if anything."""
    if finished.stopped:
        return STOPPED, "ended, because remaphore is stopping"
    if finished.timed_out:
        return TIMED_OUT, "ended, because the time of its verb was over"
    if finished.exit_code is None:
        return NOT_STARTED, finished.error
    if finished.signal is not None:
        return finished.exit_code, f"killed by signal {finished.signal}"
    return finished.exit_code, ""
