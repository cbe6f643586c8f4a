"""The processes of this machine, as /proc shows them, and which of them belong to a program. Imports no asyncio.

A process group can be signalled atomically, but a process leaves its group with one call of setsid(2). So everything
in the session of the program and everything that descends from it is looked up as well. A process that had lost its
parent before it was first seen is not found, unless it stayed in the session: a subreaper finds it.

Example. A handler with pid 100 runs `setsid worker & sleep 600`:

    pid  parent  group  session
    100     1      100      100   the handler, leader of its session
    101   100      100      100   sleep: in the group of the handler, one signal reaches both
    102   100      102      102   worker: another group and session, but its parent is 100

Once 100 is dead, the parent of 102 is no longer 100, and nothing connects the two. So the processes are looked up
before a signal is sent, and those that were found are remembered (`seen`).

Where /proc is not mounted, as in a bare chroot, or is that of another pid namespace, nothing is found: there, only the
group of a program can be signalled.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

_SWEEPS = 5  # a process forked during one sweep is found in the next; only a fork bomb outruns five
_PR_SET_PDEATHSIG = 1  # prctl(2)
_PR_SET_CHILD_SUBREAPER = 36


class Process(NamedTuple):
    """A process as /proc shows it. start: clock ticks after boot; a later process with the same pid has another one."""

    pid: int
    start: int
    parent: int
    group: int
    session: int


def signal_group(group: int, number: signal.Signals) -> None:
    """Send *number* to the process group *group*, unless it is our own or a number with another meaning.

    To a group, because that is atomic: no member can fork its way past the signal. A group never spans two sessions,
    so if one member is in a session that is not ours, all members are.
    """
    if group > 1 and group != os.getpgrp():  # to kill(2), 0 is our own group, and -1 every process
        with contextlib.suppress(OSError):
            os.killpg(group, number)


def stop_and_kill(
    signal_all: Callable[[signal.Signals, frozenset[Process]], frozenset[Process]],
    seen: frozenset[Process] = frozenset(),
) -> frozenset[Process]:
    """Stop, then kill all that *signal_all* finds. Return what was stopped and killed.

    signal_all: sends a signal to all that is to be ended, given the processes seen so far, and returns it.
    seen: those that were found before.

    Why STOP before KILL: a supervisor starts a new worker whenever one dies. If its groups were killed one after the
    other, then while workers 1 to 3 die, it forks 4, and dies before 4 is seen; 4 survives as a child of init.
    A stopped process can neither fork nor exit. So all are stopped, in sweeps, until one finds nothing new:

        sweep 1 finds and stops   supervisor, 1, 2, 3   (while 4 is being forked)
        sweep 2 finds and stops   4
        sweep 3 finds nothing new: nothing in the tree runs any more, so KILL reaches all of it
    """
    stopped: frozenset[Process] = frozenset()
    for _ in range(_SWEEPS):
        found = signal_all(signal.SIGSTOP, seen | stopped)
        if found <= stopped:
            break
        stopped |= found
    signal_all(signal.SIGKILL, seen | stopped)
    return stopped


def process_tree(leader: int, seen: Iterable[Process]) -> frozenset[Process]:
    """Return the living processes in the session of *leader*, and descendants of it and of the living ones of *seen*.

    The leader itself is not in the result.
    """
    living = {process.pid: process for process in _processes()}
    roots = {pid for pid, process in living.items() if process.session == leader} | _known(seen, living) | {leader}
    return frozenset(living[pid] for pid in _with_descendants(roots, living) - {leader} if pid in living)


def with_descendants(seen: Iterable[Process]) -> frozenset[Process]:
    """Return the living ones of *seen*, and all their descendants."""
    living = {process.pid: process for process in _processes()}
    return frozenset(living[pid] for pid in _with_descendants(_known(seen, living), living))


def is_alive(process: Process) -> bool:
    """Return whether *process* lives, and is no other one that has got its pid."""
    return _same(process, _look_up(process.pid))


def children(parent: int) -> Iterator[tuple[Process, bool]]:
    """Yield each child of the process *parent*, and whether it has ended and waits to be reaped (a zombie)."""
    for pid in _pids():
        read = _read(pid)
        if read is not None and read[0].parent == parent:
            yield read


def is_ours() -> bool:
    """Return whether /proc is mounted, and has the pids that we have: that of another pid namespace has others."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())  # noqa: PTH115 - it is no path
    except OSError:
        return False


def set_subreaper(yes: bool, /) -> None:  # noqa: FBT001 - as prctl accepts it
    """Become the parent of all orphans among our descendants, or no longer. Raise OSError."""
    _prctl(_PR_SET_CHILD_SUBREAPER, int(yes))


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process as soon as its parent, which is *parent*, has died. Raise OSError."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call
        os.kill(os.getpid(), signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl(2) failed: {os.strerror(ctypes.get_errno())}")


def _known(seen: Iterable[Process], living: Mapping[int, Process]) -> set[int]:
    return {process.pid for process in seen if _same(process, living.get(process.pid))}


def _with_descendants(pids: set[int], living: Mapping[int, Process]) -> set[int]:
    while more := {pid for pid, process in living.items() if process.parent in pids} - pids:
        pids |= more
    return pids


def _same(process: Process, found: Process | None) -> bool:
    return found is not None and found.start == process.start


def _processes() -> Iterator[Process]:
    for pid in _pids():
        if process := _look_up(pid):
            yield process


def _pids() -> Iterator[int]:
    if not is_ours():  # a number that it shows may be that of a process which is no business of ours
        return
    with contextlib.suppress(OSError):  # it has just gone
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                yield int(entry.name)


def _look_up(pid: int) -> Process | None:
    """Return the living process with this *pid*, or None if there is none or it is a zombie."""
    read = _read(pid)
    return None if read is None or read[1] else read[0]


def _read(pid: int) -> tuple[Process, bool] | None:
    """Return what /proc shows of *pid*, and whether it has ended; None if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name, in parentheses, may contain anything; after it, all fields are separated by spaces. proc_pid_stat(5)
    state, parent, group, session, *rest = stat.rpartition(b")")[2].split()
    return Process(pid, int(rest[15]), int(parent), int(group), int(session)), state in b"ZX"
