"""Running one program to its end: its output up to a cap, a limit in time, and nothing left behind.

Linux only. `subprocess.Popen` starts it (vfork, so a large parent costs nothing); a pidfd tells the event loop of its
exit, so that there is no thread and no SIGCHLD handler. It leads a session and a process group of its own.
`run` ends only when the program has, and is reaped. What the program left running in the background is left alone if
it ended by itself, and ended with it if it had to be.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from remaphore_plugins.exec_script import kin
from remaphore_plugins.exec_script.account import Account
from remaphore_plugins.exec_script.orphans import Brood, Orphans

GRACE_SECONDS = 2.0  # between TERM and KILL: time to remove a lock file, not to finish the work

_POLL_SECONDS = 0.02  # how often the grace is cut short because all are gone
_CHUNK = 65_536  # what a pipe holds, unless it was told otherwise
_SWEEPS = 5  # who forks while being stopped is found in the next sweep; who outruns five is a fork bomb
_SIGNALLED = 128  # added to the signal's number, as shells do

_MENDS = {
    errno.ENOENT: "check its name and PATH; if the file is there, the interpreter in its first line is not",
    errno.EACCES: "make it an executable file (chmod +x)",
    errno.ENOEXEC: "begin it with a line like #!/bin/sh",
    errno.E2BIG: "an argument and a variable of the environment hold less than 131072 bytes each",
    # Only of a program that is gone before it could be watched, and was not left for us to reap.
    errno.ESRCH: "it ran, but its exit status was lost: start remaphore with SIGCHLD not ignored",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a run ended.

    exit_code: 128 and the signal's number if a signal killed it; None if there is none, and then `error` says why: it
    could not be started, or its status was lost. timed_out, stopped: it was ended because the time was over, or because
    the caller asked. output: the first bytes of what it wrote, up to the cap; output_bytes: how many it wrote.
    """

    exit_code: int | None
    signal: int | None = None
    timed_out: bool = False
    stopped: bool = False
    output: bytes = b""
    output_bytes: int = 0
    error: str = ""


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
    orphans: Orphans | None = None,
) -> Finished:
    """Run *argv* with the environment *env* and nothing else of ours; a name without a slash is looked up in its PATH.

    cwd, umask: the caller's unless given. stdin: the bytes it reads; None for /dev/null. timeout: seconds. cap: bytes
    of output to keep, stdout and stderr together. stop: ends the run once it is done. Being cancelled ends it too.
    account: whom it runs as, if not as we do. orphans: finds what has left its session and its parents.
    To end it is TERM, `GRACE_SECONDS`, KILL, to its group and all that descends from it. Raises only CancelledError.
    """
    if stop is not None and stop.done():
        return Finished(exit_code=None, stopped=True, error="not started: stopping")
    try:
        brood = None if orphans is None else orphans.brood()
        env = env if brood is None else {**env, **brood.env}
        started = _popen(argv, env=env, cwd=cwd, umask=umask, piped=stdin is not None, account=account)
        child = _Child(started, stdin=stdin, cap=cap, brood=brood)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return Finished(exit_code=None, error=_why(argv[0], error))
    try:
        try:
            awaited = {child.exited} if stop is None else {child.exited, stop}
            await asyncio.wait(awaited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            ended = child.exited.done()
            stopped = not ended and stop is not None and stop.done()
        finally:
            if not child.exited.done():
                await child.end()
    finally:
        status = child.close()
    return _finished(status, child.output, stopped=stopped, timed_out=not ended and not stopped)


def _popen(
    argv: Sequence[bytes],
    *,
    env: Mapping[str, bytes],
    cwd: str | None,
    umask: int,
    piped: bool,
    account: Account | None,
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - no shell, and the caller has decided what may run
        argv,
        bufsize=0,
        stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=env,
        cwd=cwd,
        umask=umask,
        start_new_session=True,
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        extra_groups=None if account is None else account.groups,
    )


def _why(program: bytes, error: Exception) -> str:
    # Never str(error): it may quote an argument, and so the payload.
    what = f"cannot start {os.fsdecode(program)!r}: "
    if isinstance(error, OSError) and error.errno is not None:
        hint = _MENDS.get(error.errno)
        return what + os.strerror(error.errno) + (f"; {hint}" if hint else "")
    if isinstance(error, ValueError):
        return what + "an argument or a variable of its environment holds a NUL byte; no program can be given one"
    return what + type(error).__name__


def _finished(status: int | None, output: _Output, *, stopped: bool, timed_out: bool) -> Finished:
    number = -status if status is not None and status < 0 else None
    return Finished(
        exit_code=status if number is None else _SIGNALLED + number,
        signal=number,
        timed_out=timed_out,
        stopped=stopped,
        output=bytes(output.kept),
        output_bytes=output.total,
        error="its exit status was lost: start remaphore with SIGCHLD not ignored" if status is None else "",
    )


class _Output:
    """The read end of the one pipe for stdout and stderr: the head is kept, all is counted."""

    def __init__(self, pipe: IO[bytes], cap: int) -> None:
        self.kept = bytearray()
        self.total = 0
        self._pipe = pipe
        self._cap = cap
        self._loop = asyncio.get_running_loop()
        os.set_blocking(pipe.fileno(), False)
        self._loop.add_reader(pipe.fileno(), self._read)

    def close(self) -> None:
        """Take what is in the pipe now, without waiting for who else may hold it or be writing, and close it."""
        waiting = int.from_bytes(fcntl.ioctl(self._pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
        while waiting > 0 and (got := self._read()):
            waiting -= got
        self._loop.remove_reader(self._pipe.fileno())
        self._pipe.close()

    def _read(self) -> int:
        try:
            chunk = os.read(self._pipe.fileno(), _CHUNK)
        except BlockingIOError:
            return 0
        if not chunk:
            self._loop.remove_reader(self._pipe.fileno())
        self.kept += chunk[: self._cap - len(self.kept)]
        self.total += len(chunk)
        return len(chunk)


class _Input:
    """The write end of a pipe for stdin: fed as the program reads, closed at the end or when it reads no more."""

    def __init__(self, pipe: IO[bytes], data: bytes) -> None:
        self._pipe = pipe
        self._left = memoryview(data)
        self._loop = asyncio.get_running_loop()
        os.set_blocking(pipe.fileno(), False)
        self._write()  # most payloads fit into the pipe
        if not pipe.closed:
            self._loop.add_writer(pipe.fileno(), self._write)

    def close(self) -> None:
        if not self._pipe.closed:
            self._loop.remove_writer(self._pipe.fileno())
            self._pipe.close()

    def _write(self) -> None:
        try:
            self._left = self._left[os.write(self._pipe.fileno(), self._left) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._left = self._left[:0]
        if not self._left:
            self.close()


class _Child:
    """A started program. It is reaped last: until then nothing else can have its pid, which is its group's as well."""

    def __init__(
        self, process: subprocess.Popen[bytes], *, stdin: bytes | None, cap: int, brood: Brood | None = None
    ) -> None:
        self._process = process
        self._loop = asyncio.get_running_loop()
        try:
            self._pidfd = os.pidfd_open(process.pid)
        except OSError:
            with process:  # closes its pipes and reaps it
                _kill_group(process.pid, signal.SIGKILL)
            raise
        self.exited = self._loop.create_future()
        self._loop.add_reader(self._pidfd, self._on_exit)
        self._brood = brood
        if brood is not None:
            brood.begin(process.pid)
        assert process.stdout is not None
        self.output = _Output(process.stdout, cap)
        self._input = _Input(process.stdin, stdin) if process.stdin is not None and stdin is not None else None

    async def end(self) -> None:
        """TERM, the grace, KILL; return when it has exited. Being cancelled cuts the grace short, and no more."""
        seen = self._signal_all(signal.SIGTERM, frozenset())
        deadline = self._loop.time() + GRACE_SECONDS
        try:
            # Polled: a watch on each of them would cost a descriptor each, when there may be many.
            while self._loop.time() < deadline and self._any_alive(seen):  # noqa: ASYNC110 - no Event tells of it
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            self._kill_all(seen)
            await asyncio.wait({self.exited})

    def close(self) -> int | None:
        """Let go of everything and reap it. Return its status as Popen counts it, None if somebody else took it."""
        if not self.exited.done():
            _kill_group(self._process.pid, signal.SIGKILL)
        if self._input is not None:
            self._input.close()
        self.output.close()
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        status = self._reap()
        if self._brood is not None:
            self._brood.finish()
        return status

    def _any_alive(self, seen: frozenset[kin.Process]) -> bool:
        return not self.exited.done() or kin.any_alive(seen)

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self.exited.set_result(None)

    def _reap(self) -> int | None:
        # Not Popen.wait: it makes success of a status that is lost, as it is if SIGCHLD came to us ignored.
        try:
            _, status = os.waitpid(self._process.pid, 0)
        except ChildProcessError:
            self._process.returncode = 0  # or Popen warns that it still runs
            return None
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return self._process.returncode

    def _signal_all(self, number: signal.Signals, seen: frozenset[kin.Process]) -> frozenset[kin.Process]:
        # Looked for first: who loses its parent to the signal is a child of init, and no longer known as ours.
        found = kin.find(self._process.pid, seen if self._brood is None else seen | self._brood.orphans())
        for group in {self._process.pid, *(process.group for process in found)}:
            _kill_group(group, number)
        return found

    def _kill_all(self, seen: frozenset[kin.Process]) -> None:
        # Stopped before they are killed: else one forks another when its child dies, and dies before that is seen.
        stopped: frozenset[kin.Process] = frozenset()
        for _ in range(_SWEEPS):
            found = self._signal_all(signal.SIGSTOP, seen | stopped)
            if found <= stopped:
                break
            stopped |= found
        self._signal_all(signal.SIGKILL, seen | stopped)


def _kill_group(group: int, number: signal.Signals) -> None:
    # By groups, since to a group a signal is atomic. No session has another's group in it, so all in it is ours.
    if group > 1 and group != os.getpgrp():  # kill(2) takes 0 as our own group, and -1 as everybody
        with contextlib.suppress(OSError):
            os.killpg(group, number)
