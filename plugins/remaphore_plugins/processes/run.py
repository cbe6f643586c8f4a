"""Run one program to its end: with its output capped, its time limited, and nothing left behind.

Linux only. `subprocess.Popen` starts it (with vfork, so a large parent costs nothing); `exit_watch` notices that it has
exited. It leads its own session and process group, and inherits nothing of our signals (`signals`). `run` returns when
the program has exited and was reaped, or cannot be killed. What the program left running in the background is left
alone if the program ended by itself, and ended with it if the program had to be ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from remaphore import proc
from remaphore_plugins.processes import tree
from remaphore_plugins.processes.account import Account
from remaphore_plugins.processes.exit_watch import ExitWatch
from remaphore_plugins.processes.failures import explain_failure
from remaphore_plugins.processes.pipes import Input, Output
from remaphore_plugins.processes.signals import default_signals
from remaphore_plugins.processes.subreaper import HandlerRun, Subreaper, leaders

_SIGNALLED = 128  # added to the number of the signal, as shells do
_LOST = ("exit status was lost", "look for a plugin that waits for all children (waitpid -1), or that ignores SIGCHLD")
# For how long its output is not read as it comes. A program that fills its pipe within this waits for the rest of it.
SOON_SECONDS = 0.005
# kill(2) is denied for processes of another user, and one that waits for a file system ends when that answers.
_UNKILLED = "pid {} still runs, because it cannot be killed"
_UNKILLED_HINT = "end it as root; it is another user's (sudo, setuid), or waits for a disk or a network file system"
_MOMENT = 0.1  # seconds in which a killed program has exited, unless it cannot be killed
_UNWATCHED_HINT = (
    "the daemon lacks a resource: look at its memory, and at its limits of descriptors and of epoll watches"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended.

    exit_code: 128 + the number of the signal that killed it; None if there is none, and then `error` states why (it
    could not be started, could not be watched, or its status was lost) and `hint` how to fix it. timed_out, stopped: it
    was ended because its time limit was reached, or because the caller requested it. survived: it could not be ended.
    output: the first bytes that it wrote, up to the cap; output_bytes: how many bytes it wrote.
    """

    exit_code: int | None
    signal: int | None = None
    timed_out: bool = False
    stopped: bool = False
    survived: bool = False
    output: bytes = b""
    output_bytes: int = 0
    error: str = ""
    hint: str = ""


async def run(
    argv: Sequence[bytes],
    *,
    env: Mapping[str, bytes],
    cwd: str | None = None,
    umask: int = -1,
    stdin: bytes | None = None,
    timeout: float | None,
    cap: int,
    stop: asyncio.Future[None] | None = None,
    account: Account | None = None,
    subreaper: Subreaper | None = None,
) -> RunResult:
    """Run *argv* with exactly the environment *env*; a name without a slash is looked up in the PATH of *env*.

    cwd, umask: the caller's unless given. stdin: the bytes it reads; None for /dev/null. timeout: seconds. cap: bytes
    of output to keep, stdout and stderr together. stop: ends the run once it is done. Being cancelled ends it too.
    account: the user it runs as, if not ours. subreaper: finds processes that have left both session and parent.
    Ending it means TERM, `tree.GRACE_SECONDS`, KILL, for its group and all its descendants. Raise only CancelledError.
    """
    if stop is not None and stop.done():
        return RunResult(exit_code=None, stopped=True, error="not started: shutting down")
    handler_run = None if subreaper is None else subreaper.prepare()
    env = env if handler_run is None else {**env, **handler_run.env}
    output = given = None
    try:
        output = Output(cap)
        given = Input(stdin) if stdin else None
        process = _start(argv, env=env, cwd=cwd, umask=umask, stdin=given, output=output, account=account)
    except BaseException as error:
        _close(output, given)
        if not isinstance(error, OSError | ValueError | subprocess.SubprocessError):
            raise
        reason, hint = explain_failure(argv, error, env=env, account=account, cwd=cwd)
        return RunResult(exit_code=None, error=f"cannot start {os.fsdecode(argv[0])!r}: {reason}", hint=hint)
    try:
        child = _Child(process, given, output, handler_run)
    except OSError as error:
        return _unwatched(error)
    return await _follow(child, stop, timeout)


async def _follow(child: _Child, stop: asyncio.Future[None] | None, timeout: float | None) -> RunResult:
    """Return the result of *child* when it has ended, or was ended because of *stop* or *timeout*."""
    now = child.time()
    deadline = math.inf if timeout is None else now + timeout
    unwatched: OSError | None = None
    try:
        try:
            # Most programs write little and end soon: then it is enough to read once, after their end.
            ended = await child.wait(stop, min(now + SOON_SECONDS, deadline))
            if not ended:
                child.output.watch()
                ended = await child.wait(stop, deadline)
        except OSError as error:
            unwatched, ended = error, False
        finally:
            stopped = not child.exited.done() and stop is not None and stop.done()
            if not child.exited.done():
                await child.end()
    finally:
        status = child.close()
    if unwatched is not None:
        return _unwatched(unwatched)
    return _result(child, status, stopped=stopped, timed_out=not ended and not stopped)


def _start(
    argv: Sequence[bytes],
    *,
    env: Mapping[str, bytes],
    cwd: str | None,
    umask: int,
    stdin: Input | None,
    output: Output,
    account: Account | None,
) -> subprocess.Popen[bytes]:
    # Pipes of our own: the file objects that Popen makes cost a fifth of it.
    try:
        with default_signals():
            return subprocess.Popen(  # noqa: S603 - no shell, and the caller has decided what may run
                argv,
                bufsize=0,
                stdin=subprocess.DEVNULL if stdin is None else stdin.program_end,
                stdout=output.program_end,
                stderr=output.program_end,
                env=env,
                cwd=cwd,
                umask=umask,
                start_new_session=True,
                user=None if account is None else account.uid,
                group=None if account is None else account.gid,
                extra_groups=None if account is None else account.groups,  # setgroups(2): none of ours remain
            )
    finally:
        output.give()
        if stdin is not None:
            stdin.give()


def _result(child: _Child, status: int | None, *, stopped: bool, timed_out: bool) -> RunResult:
    number = -status if status is not None and status < 0 else None
    error, hint = _LOST if status is None else ("", "")
    if child.survived:
        error, hint = _UNKILLED.format(child.pid), _UNKILLED_HINT
    return RunResult(
        exit_code=status if number is None else _SIGNALLED + number,
        signal=number,
        timed_out=timed_out,
        stopped=stopped,
        survived=child.survived,
        output=bytes(child.output.kept),
        output_bytes=child.output.total,
        error=error,
        hint=hint,
    )


def _unwatched(error: OSError) -> RunResult:
    what = f"started, then killed, because it could not be watched: {error.strerror}"
    return RunResult(exit_code=None, error=what, hint=_UNWATCHED_HINT)


def _close(*pipes: Input | Output | None) -> None:
    for pipe in pipes:
        if pipe is not None:
            pipe.give()
            pipe.close()


class _Child:
    """A started program. It is reaped last: until then, no other process can get its pid, which is also its group's."""

    def __init__(
        self, process: subprocess.Popen[bytes], given: Input | None, output: Output, handler_run: HandlerRun | None
    ) -> None:
        """Watch *process* and its pipes. If that raises OSError, it was ended and reaped."""
        self._process = process
        self._input = given
        self._handler_run = handler_run
        self._watch: ExitWatch | None = None
        self._status: int | None = None
        self.output = output
        self.pid = process.pid
        self.survived = False
        leaders.add(process.pid)
        try:
            self._watch = ExitWatch(process.pid)
            if given is not None:
                given.watch()
        except BaseException:
            self._abandon()
            raise
        self.exited = self._watch.exited
        self.wait, self.time = self._watch.wait, self._watch.time

    def _abandon(self) -> None:
        """End and reap a program that cannot be watched.

        One that cannot be killed is reaped by a later Popen (`subprocess._cleanup`): waiting for it here would stop all
        else that we do.
        """
        proc.signal_group(self.pid, signal.SIGKILL)
        _close(self.output, self._input)
        until = time.monotonic() + _MOMENT
        while self._process.poll() is None and time.monotonic() <= until:
            time.sleep(0.001)
        if self._watch is not None:
            self._watch.close()
        leaders.discard(self.pid)

    async def end(self) -> None:
        """End it and all its descendants; return when it has exited, or cannot be killed.

        Being cancelled only cuts the grace short.
        """

        def find(seen: frozenset[proc.Process]) -> frozenset[proc.Process]:
            orphans = frozenset() if self._handler_run is None else self._handler_run.orphans()
            return proc.process_tree(self.pid, seen | orphans)

        with contextlib.suppress(OSError):  # it may write, and wait for room, before it ends
            self.output.watch()
        await tree.kill_tree(find, tree.GRACE_SECONDS, leader=self.pid, exited=self.exited)

    def close(self) -> int | None:
        """Close its pipes and reap it. Return its status as Popen counts it, None if that was lost, or if it survived.

        One that cannot be killed is reaped when it exits: waiting for it here would stop all else that we do.
        """
        until = time.monotonic()
        if not self.exited.done():
            proc.signal_group(self.pid, signal.SIGKILL)
            until += _MOMENT
        _close(self.output, self._input)
        while not self._reap():
            if time.monotonic() > until:
                self.survived = True
                self.exited.add_done_callback(lambda _exited: self._reap())
                break
            time.sleep(0.001)
        return self._status

    def _reap(self) -> bool:
        """Reap it, and watch it no longer; return False if it has not exited."""
        # Not Popen.wait: it reports a lost status as success. A status is lost if other code of this process took it.
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            self._process.returncode = 0  # else Popen warns that it still runs
        else:
            if not pid:
                return False
            self._status = self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._watch is not None:
            self._watch.close()
        leaders.discard(self.pid)
        if self._handler_run is not None:
            self._handler_run.finish()
        return True
