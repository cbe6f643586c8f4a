"""The processes that belong to a program, as /proc shows them: how to find them, and how to kill all of them.

A process group can be signalled atomically, but a process leaves its group with one call of setsid(2). So everything
in the session of the program and everything that descends from it is looked up as well. A process that had lost its
parent before it was first seen is not found, unless it stayed in the session; `subreaper` finds it.

Example. A handler with pid 100 runs `setsid worker & sleep 600`:

    pid  parent  group  session
    100     1      100      100   the handler, leader of its session
    101   100      100      100   sleep: in the group of the handler, one signal reaches both
    102   100      102      102   worker: another group and session, but its parent is 100

Once 100 is dead, the parent of 102 is no longer 100, and nothing connects the two. So the processes are looked up
before a signal is sent, and those that were found are remembered (`seen`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

# After KILL: enough for the end of a large process. One that waits for a file system, or is another user's, stays.
KILLED_SECONDS = 2.0
GRACE_SECONDS = 2.0  # between TERM and KILL: enough to remove a lock file, not to finish the work

_POLL_SECONDS = 0.02  # how often it is checked whether all have ended before the grace is over
_SWEEPS = 5  # a process forked during one sweep is found in the next; only a fork bomb outruns five


class Process(NamedTuple):
    """A process as /proc shows it. start: clock ticks after boot; a later process with the same pid has another one."""

    pid: int
    start: int
    parent: int
    group: int
    session: int


async def kill_tree(
    find: Callable[[frozenset[Process]], frozenset[Process]],
    grace: float,
    *,
    leader: int = 0,
    exited: asyncio.Future[None] | None = None,
) -> frozenset[Process]:
    """End all that *find* returns: TERM, up to *grace* seconds, STOP, KILL. Return what was stopped and killed.

    find: gets the processes seen so far; returns the living ones that are to be ended. It is called before each
    signal, because a process whose parent dies of the signal can no longer be attributed afterwards.
    leader: a child of ours whose process group is signalled even if *find* returns nothing, as without /proc.
    exited: done once that child has exited; without one, the caller waits. Being cancelled cuts the grace short, but
    STOP, KILL and the wait for *exited*, of at most KILLED_SECONDS, still happen.

    Why STOP before KILL: a supervisor starts a new worker whenever one dies. If its groups were killed one after the
    other, then while workers 1 to 3 die, it forks 4, and dies before 4 is seen; 4 survives as a child of init.
    A stopped process can neither fork nor exit. So all are stopped, in sweeps, until one finds nothing new:

        sweep 1 finds and stops   supervisor, 1, 2, 3   (while 4 is being forked)
        sweep 2 finds and stops   4
        sweep 3 finds nothing new: nothing in the tree runs any more, so KILL reaches all of it
    """

    def signal_all(number: signal.Signals, seen: frozenset[Process]) -> frozenset[Process]:
        found = find(seen)
        for group in {leader, *(process.group for process in found)}:
            signal_group(group, number)
        return found

    seen = signal_all(signal.SIGTERM, frozenset())  # each group once: a second TERM would run a trap twice
    stopped: frozenset[Process] = frozenset()
    try:
        await wait_until_gone(seen, grace, exited=exited)
    finally:
        for _ in range(_SWEEPS):
            found = signal_all(signal.SIGSTOP, seen | stopped)
            if found <= stopped:
                break
            stopped |= found
        signal_all(signal.SIGKILL, seen | stopped)
        if exited is not None:
            await asyncio.wait({exited}, timeout=KILLED_SECONDS)
    return stopped


async def wait_until_gone(
    seen: Iterable[Process], seconds: float, *, exited: asyncio.Future[None] | None = None
) -> None:
    """Return when no process of *seen* is alive and *exited* is done, but after *seconds* at the latest."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    # Polled: watching would need a file descriptor for each process, and there may be many.
    while loop.time() < deadline:
        if (exited is None or exited.done()) and not any(_same(each, _look_up(each.pid)) for each in seen):
            return
        await asyncio.sleep(_POLL_SECONDS)


def signal_group(group: int, number: signal.Signals) -> None:
    """Send *number* to the process group *group*, unless it is our own or a number with another meaning.

    To a group, because that is atomic: no member can fork its way past the signal. A group never spans two sessions,
    so if one member is in a session that is not ours, all members are.
    """
    if group > 1 and group != os.getpgrp():  # to kill(2), 0 is our own group, and -1 every process
        with contextlib.suppress(OSError):
            os.killpg(group, number)


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


def children(parent: int) -> Iterator[tuple[Process, bool]]:
    """Yield each child of the process *parent*, and whether it has ended and waits to be reaped (a zombie)."""
    for pid in _pids():
        read = _read(pid)
        if read is not None and read[0].parent == parent:
            yield read


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
    with contextlib.suppress(OSError):  # without /proc, as in a bare chroot, only the group can be signalled
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
