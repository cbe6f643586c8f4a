"""Who belongs to a program: its session, and what descends from it, as /proc shows them.

A group can be signalled at once, but a process leaves its group with one call of setsid. What has no parent left before
it was ever seen is not found, unless it kept the session.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process as /proc shows it. start, in clock ticks after boot, makes it this one and not a later one's pid."""

    pid: int
    start: int
    parent: int
    group: int
    session: int


def find(leader: int, seen: Iterable[Process]) -> frozenset[Process]:
    """Return who lives in the session of *leader*, or descends from it or from one of *seen* that lives."""
    living = {process.pid: process for process in _processes()}
    kin = {pid for pid, process in living.items() if process.session == leader} | _known(seen, living) | {leader}
    return frozenset(living[pid] for pid in _with_descendants(kin, living) - {leader} if pid in living)


def family(seen: Iterable[Process]) -> frozenset[Process]:
    """Return those of *seen* that live, and who descends from them."""
    living = {process.pid: process for process in _processes()}
    return frozenset(living[pid] for pid in _with_descendants(_known(seen, living), living))


def children(parent: int) -> Iterator[tuple[Process, bool]]:
    """Yield the children of the process *parent*, and whether each has ended and only waits to be reaped."""
    for pid in _pids():
        read = _read(pid)
        if read is not None and read[0].parent == parent:
            yield read


def any_alive(seen: Iterable[Process]) -> bool:
    """Tell whether one of *seen* lives still."""
    return any(_same(process, _look_up(process.pid)) for process in seen)


def _known(seen: Iterable[Process], living: Mapping[int, Process]) -> set[int]:
    return {process.pid for process in seen if _same(process, living.get(process.pid))}


def _with_descendants(kin: set[int], living: Mapping[int, Process]) -> set[int]:
    while more := {pid for pid, process in living.items() if process.parent in kin} - kin:
        kin |= more
    return kin


def _same(process: Process, found: Process | None) -> bool:
    return found is not None and found.start == process.start


def _processes() -> Iterator[Process]:
    for pid in _pids():
        if process := _look_up(pid):
            yield process


def _pids() -> Iterator[int]:
    with contextlib.suppress(OSError):  # without /proc, as in a bare chroot, there still is the group
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                yield int(entry.name)


def _look_up(pid: int) -> Process | None:
    """Return the process with this *pid*, None if there is none, or only what its parent has not reaped of it."""
    read = _read(pid)
    return None if read is None or read[1] else read[0]


def _read(pid: int) -> tuple[Process, bool] | None:
    """Return what /proc says of *pid*, and whether it has ended; None if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name, in parentheses, may hold anything; from the state on, all fields are words. proc_pid_stat(5)
    state, parent, group, session, *rest = stat.rpartition(b")")[2].split()
    return Process(pid, int(rest[15]), int(parent), int(group), int(session)), state in b"ZX"
