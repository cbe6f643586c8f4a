"""How to end a program with all that belongs to it, as `remaphore.proc` finds it: TERM, a grace, STOP, KILL."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable

from remaphore import proc
from remaphore.proc import Process

# After KILL: enough for the end of a large process. One that waits for a file system, or is another user's, stays.
KILLED_SECONDS = 2.0
GRACE_SECONDS = 2.0  # between TERM and KILL: enough to remove a lock file, not to finish the work

_POLL_SECONDS = 0.02  # how often it is checked whether all have ended before the grace is over


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
    STOP, KILL and the wait for *exited*, of at most KILLED_SECONDS, still happen: see `proc.stop_and_kill`.
    """

    def signal_all(number: signal.Signals, seen: frozenset[Process]) -> frozenset[Process]:
        found = find(seen)
        for group in {leader, *(process.group for process in found)}:
            proc.signal_group(group, number)
        return found

    seen = signal_all(signal.SIGTERM, frozenset())  # each group once: a second TERM would run a trap twice
    try:
        await wait_until_gone(seen, grace, exited=exited)
    finally:
        stopped = proc.stop_and_kill(signal_all, seen)
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
        if (exited is None or exited.done()) and not any(map(proc.is_alive, seen)):
            return
        await asyncio.sleep(_POLL_SECONDS)
