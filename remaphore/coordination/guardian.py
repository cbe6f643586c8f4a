"""The guardian: a small process between a lock and its command, which ends the command when the lease is over.

    remaphore lock ---- orders, events ---- guardian ---- command ---- what the command starts

It knows one number: the deadline, on CLOCK_BOOTTIME, which cannot be set and which counts while the machine sleeps. The
lock's process moves it with each renewal. If that process is killed, stopped, or hangs, the deadline stays, and the
command ends in time: TERM when what is left of the lease is the grace, KILL at the deadline. Both go to all that the
command has started, also to what has left its session and lost its parent: the guardian is a subreaper (prctl(2)) and
has no other children, so whatever descends from it belongs to the command. If the guardian itself dies, the kernel
kills the command (PR_SET_PDEATHSIG), and the lock's process, a subreaper too, kills the rest.

It is forked before asyncio is imported: a process of one thread, with a third of the memory.

On a terminal the command has a process group of its own, in the foreground, as a shell's job has: Ctrl-C reaches the
command alone, and Ctrl-Z stops the command, then the lock (`stopped`, `continue`). Where its output goes into a pipe,
the terminal stays with the pipeline, whose end may be a pager, until the command asks for it. Where stdin is no
terminal, it gets its own session. There, and in a pipeline, the lock passes Ctrl-C and Ctrl-Z on (`signal`, `stop`).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remaphore import proc
from remaphore.errors import RemaphoreError
from remaphore.proc import Process

# Seconds. poll(2) counts a clock that stands still while the machine sleeps: so the deadline is looked at this often.
TICK = 0.2
_MOST = 65_536  # bytes of one order
_STDIN, _STDOUT = 0, 1
_WANTS_TERMINAL = (signal.SIGTTIN, signal.SIGTTOU)

# What ends or stops us from a terminal is meant for the command.
_IGNORED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGPIPE,
)


def boottime() -> float:
    """Return the seconds since the machine was started, those included in which it slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class GuardianProcess:
    """A guardian that waits for orders. line: carries one JSON object a packet, in both directions."""

    pid: int
    line: socket.socket


def fork(command: Sequence[str]) -> GuardianProcess:
    """Fork the guardian of *command*, which it starts when it is told to.

    Call it before asyncio is imported and before there is a thread. Raise OSError if it cannot be started, and
    RemaphoreError if it could not find what the command starts.
    """
    if not proc.is_ours():
        hint = "mount /proc (proc(5)), in this pid namespace"
        raise RemaphoreError("cannot guard the command: /proc does not show its processes", hint=hint)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    proc.set_subreaper(True)
    inherited = {number: signal.getsignal(number) for number in _IGNORED}
    sys.stdout.flush()
    sys.stderr.flush()
    lock_group, pid = os.getpgrp(), os.fork()
    if pid:
        theirs.close()
        return GuardianProcess(pid, ours)
    code = 1
    try:
        # What kills or stops the process group of the lock, as `timeout -s KILL` does, must not reach the guardian.
        os.setpgid(0, 0)
        ours.close()
        ignored = {number for number, action in inherited.items() if action is signal.SIG_IGN}
        Guardian(theirs, command, ignored=ignored, lock_group=lock_group).run()
        code = 0
    finally:
        os._exit(code)  # nothing of the process that we were forked from is to run here


def kill_descendants(group: int = 0, *, lock_group: int) -> bool:
    """Stop, then kill all that descends from this process. Return whether there was anything.

    group: a process group of descendants that is known, and reached also if /proc cannot be read; 0 for none.
    lock_group: that of the lock's process.
    """
    return bool(proc.stop_and_kill(lambda number, seen: _signal_descendants(number, seen, group, lock_group)))


def _signal_descendants(
    number: signal.Signals, seen: frozenset[Process], known: int, lock_group: int
) -> frozenset[Process]:
    """Send *number* to all that descends from this process or from *seen*, and return it.

    It goes to whole groups, which is atomic, where a group is not our own, or the lock's. known: one of them, see
    `kill_descendants`: on a machine that has no descriptor or memory left, /proc may show nothing for a moment.
    """
    found, own = proc.process_tree(os.getpid(), seen), {os.getpgrp(), lock_group}
    for group in {known, *(process.group for process in found)} - own:
        proc.signal_group(group, number)
    for process in found:
        if process.group in own:  # on a terminal, a process of the command may have joined it
            with contextlib.suppress(OSError):
                os.kill(process.pid, number)
    return found


class Guardian:
    """What the forked process does.

    ignored: the signals that were ignored when the command line was started. lock_group: the process group of the lock.
    """

    def __init__(
        self, line: socket.socket, command: Sequence[str], *, ignored: set[signal.Signals], lock_group: int
    ) -> None:
        self._line = line
        self._lock_group = lock_group
        self._command = command
        self._ignored = ignored
        self._open = True
        self._leader = 0  # pid of the command, 0 before its start and after its end
        self._group = 0  # its process group
        self._terminal = False
        self._started = False
        self._stopping = False  # the command was stopped because the lock is to stop
        self._foreground = os.isatty(_STDOUT)  # the command is to have the terminal when the lock is in the foreground
        self._deadline = float("inf")
        self._grace = 0.0
        self._why = ""  # we end the command, because of this
        self._kill_at = float("inf")
        self._killed = False

    def run(self) -> None:
        """Obey and watch, until the command and all it started have ended and the line is closed."""
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        proc.set_subreaper(True)
        wake, write = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(self._line, select.POLLIN)
        while self._open or self._started:
            due = self._kill_at if self._why else self._deadline - self._grace
            poll.poll(1000 * max(0.001, min(TICK, due - boottime() if self._started else TICK)))
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
            if self._open and not self._obey():
                self._open = False
                poll.unregister(self._line)
                self._end("the process that holds the lock is gone")
            self._reap()
            self._enforce()

    def _obey(self) -> bool:
        """Obey all orders that wait. Return False once the line is closed."""
        while True:
            try:
                data = self._line.recv(_MOST, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            except OSError:
                data = b""
            if not data:
                return False
            order: dict[str, Any] = json.loads(data)
            self._deadline = order.get("deadline", self._deadline)
            self._grace = order.get("grace", self._grace)
            if "start" in order:
                self._start(order["start"])
            if "end" in order:
                self._end(order["end"])
            if "signal" in order and self._started:
                self._signal(signal.Signals(order["signal"]))
            if "stop" in order and self._started:
                self._stop()
            if "continue" in order and self._started:
                self._continue()

    def _start(self, variables: Mapping[str, str]) -> None:
        """Start the command. variables: what its environment has beside ours."""
        self._terminal = os.isatty(_STDIN)
        try:
            read, write = os.pipe()
            guardian, pid = os.getpid(), os.fork()
        except OSError as error:
            self._tell(failed=error.errno)
            return
        if pid == 0:
            self._execute({**os.environ, **variables}, guardian=guardian, write=write)
        os.close(write)
        failed = os.read(read, 16)  # nothing, if exec(2) has closed it
        os.close(read)
        if failed:
            os.waitpid(pid, 0)
            self._tell(failed=int(failed))
            return
        self._leader, self._group, self._started = pid, pid, True
        self._tell(started=pid)

    def _execute(self, environment: Mapping[str, str], *, guardian: int, write: int) -> None:
        """Become the command, in the forked child."""
        try:
            if self._terminal:
                os.setpgid(0, 0)
                if self._foreground:
                    self._give_terminal(self._lock_group, os.getpid())
            else:
                os.setsid()
            for number in {*_IGNORED, signal.SIGXFSZ} - (self._ignored - {signal.SIGPIPE}):
                signal.signal(number, signal.SIG_DFL)
            proc.die_with_parent(guardian)
            os.execvpe(self._command[0], list(self._command), environment)  # noqa: S606 - the command that the user typed
        except OSError as error:
            os.write(write, str(error.errno).encode())
        finally:
            os._exit(127)

    def _give_terminal(self, owner: int, group: int) -> None:
        """Make *group* the foreground of our terminal if *owner* is that now: a job in the background takes nothing."""
        if self._terminal:
            with contextlib.suppress(OSError):  # not the terminal that controls our session, or it has been closed
                if os.tcgetpgrp(_STDIN) == owner:
                    os.tcsetpgrp(_STDIN, group)

    def _signal(self, number: signal.Signals) -> None:
        """Send *number* to the command's process group; or, if the command has ended, to all that it left."""
        if self._leader:
            proc.signal_group(self._leader, number)
        else:
            self._signal_all(number)

    def _stop(self) -> None:
        """Stop the command because the lock is to stop, which it does once that is done."""
        self._stopping = True
        # The leader of a session has no shell that could continue it, and so does not heed SIGTSTP.
        self._signal(signal.SIGTSTP if self._leader and self._terminal else signal.SIGSTOP)
        if not self._leader:
            self._tell(stopped=True)

    def _continue(self) -> None:
        self._stopping = False
        if self._foreground and self._leader:
            self._give_terminal(self._lock_group, self._leader)
        self._signal(signal.SIGCONT)

    def _on_stopped(self, command: int, number: int) -> None:
        """Let the lock stop with its command; unless that only wants a terminal that is the lock's.

        In a pipeline it is, from the start; and `fg` of a job that runs in the background makes the lock's group the
        foreground, and sends no signal.
        """
        if self._why or not (self._terminal or self._stopping):
            return
        self._foreground = self._foreground or number in _WANTS_TERMINAL
        with contextlib.suppress(OSError):
            if number in _WANTS_TERMINAL and os.tcgetpgrp(_STDIN) == self._lock_group:
                self._continue()
                return
        self._give_terminal(command, self._lock_group)
        self._tell(stopped=True)

    def _end(self, why: str) -> None:
        """End all that the command has started: TERM now, KILL after the grace, at the deadline at the latest."""
        if not self._started:
            return
        self._kill_at = min(self._kill_at, boottime() + self._grace, self._deadline)
        if not self._why:
            self._why = why
            found = self._signal_all(signal.SIGTERM)
            self._signal_all(signal.SIGCONT, found)  # what is stopped gets SIGTERM only when it continues
            self._tell(sent="SIGTERM", why=why)

    def _signal_all(self, number: signal.Signals, seen: frozenset[Process] = frozenset()) -> frozenset[Process]:
        return _signal_descendants(number, seen, self._living_group(), self._lock_group)

    def _living_group(self) -> int:
        """Return the command's process group; 0 if no child of ours is in it, and its number may be of another one."""
        with contextlib.suppress(ChildProcessError):
            if self._group:
                os.waitid(os.P_PGID, self._group, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                return self._group
        return 0

    def _enforce(self) -> None:
        if not self._started:
            return
        if not self._why and boottime() >= self._deadline - self._grace:
            self._end("the lease was not renewed in time")
        if self._why and boottime() >= self._kill_at:
            kill_descendants(self._living_group(), lock_group=self._lock_group)
            if not self._killed:  # once: a line that is not read must not fill
                self._killed = True
                self._tell(sent="SIGKILL", why=self._why)
            self._kill_at = boottime() + TICK  # what is forked faster than five sweeps find

    def _reap(self) -> None:
        """Note which children have ended or stopped: the command, and the orphans that it left."""
        exit_code, children = None, True
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                children = False
                break
            if pid == 0:
                break
            if pid == self._leader and os.WIFSTOPPED(status):
                self._on_stopped(pid, os.WSTOPSIG(status))
            elif pid == self._leader:
                self._leader = 0
                self._give_terminal(pid, self._lock_group)
                exit_code = os.waitstatus_to_exitcode(status)
        if exit_code is not None:
            # What it leaves is our child by now: without one, there is no need to read /proc, which takes milliseconds.
            left = sorted(process.pid for process in proc.process_tree(os.getpid(), ())) if children else []
            self._tell(exited=exit_code, ended=self._why, left=left)
        if not children and self._started and not self._leader:
            self._started = False
            self._tell(gone=True)

    def _tell(self, **event: object) -> None:
        with contextlib.suppress(OSError):  # the lock's process is gone
            self._line.send(json.dumps(event).encode())
