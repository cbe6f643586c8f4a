"""Find and end orphans: what a handler left running in its own session after its parent was gone (a daemon).

An orphan is normally adopted by init. As a subreaper (prctl(2)) we adopt the orphans among our descendants instead: so
they can be found, ended with the handler if that had to be ended, or at shutdown, and reaped.

How a child of ours is recognised as an orphan: a process cannot join a session of another process, so a child that is
outside our session, and is not a handler itself, comes from a handler. The one exception is a program that another
plugin has started in a new session; so a zombie is reaped only if it was already one a sweep ago, which leaves the
other plugin `SWEEP_SECONDS` to reap its child itself.

How an orphan is attributed to one handler: each handler gets a random mark in its environment, which all that it
starts inherit and /proc/PID/environ shows. Example of a daemon that forks twice:

    handler 100            session 100   REMAPHORE_RUN=4fe1...
      child 101            session 101   REMAPHORE_RUN=4fe1...   setsid, fork, exit
        daemon 102         session 101   REMAPHORE_RUN=4fe1...   parent 101 is gone, so we are its parent now

If handler 100 exceeds its timeout, 102 is found by the mark. A process that leaves its session *and* clears its
environment (`env -i setsid ...`) cannot be attributed to a handler; it is ended only at shutdown.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from remaphore_plugins.processes import tree

SWEEP_SECONDS = 5.0  # between two searches for zombies; a zombie is reaped after two at the latest

_MARK = "REMAPHORE_RUN"
_MARK_BYTES = 8
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)

_log = logging.getLogger("remaphore.processes")


class Subreaper:
    """Adopts the orphans of all handlers of this process."""

    def __init__(self) -> None:
        self._leaders: set[int] = set()
        self._zombies: frozenset[tree.Process] = frozenset()
        self._timer: asyncio.TimerHandle | None = None
        self._adopts = False

    def prepare(self) -> HandlerRun:
        """Return the run of a handler that is about to be started with the `env` of that run in its environment."""
        if not self._adopts:
            self._adopts = True
            try:
                set_subreaper(True)
            except OSError as error:
                _log.warning("background processes of handlers cannot be ended: %s", error)
        return HandlerRun(self)

    def begin(self, leader: int) -> None:
        """Record that our child *leader* is a handler, and not an orphan."""
        self._leaders.add(leader)

    def finish(self, leader: int) -> None:
        """Record that the handler *leader* was reaped. From now on, sweeps look for what it left behind."""
        self._leaders.discard(leader)
        self._schedule_sweep()

    def marked(self, mark: bytes) -> frozenset[tree.Process]:
        """Return the living orphans that were started with the variable *mark* in their environment."""

        def environment(pid: int) -> list[bytes]:
            try:
                return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:  # gone meanwhile, or not readable
                return []

        return frozenset(orphan for orphan in self._living() if mark in environment(orphan.pid))

    async def end(self, grace: float) -> None:
        """End all orphans and their descendants: TERM, *grace* seconds, KILL. Then reap them."""
        if self._timer is not None:
            self._timer.cancel()
        if not _has_children():
            return
        killed = await tree.kill_tree(lambda seen: tree.with_descendants(seen | self._living()), grace)
        await tree.wait_until_gone(killed, grace)
        self._reap(orphan for orphan, ended in self._orphans() if ended)

    def _living(self) -> frozenset[tree.Process]:
        if not _has_children():
            return frozenset()
        return frozenset(orphan for orphan, ended in self._orphans() if not ended)

    def _orphans(self) -> list[tuple[tree.Process, bool]]:
        own = os.getsid(0)
        found = tree.children(os.getpid())
        return [(child, ended) for child, ended in found if child.session != own and child.pid not in self._leaders]

    def _schedule_sweep(self) -> None:
        if self._timer is None or self._timer.cancelled():
            self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        if not _has_children():
            return
        zombies = frozenset(orphan for orphan, ended in self._orphans() if ended)
        self._reap(zombies & self._zombies)
        self._zombies = zombies
        self._schedule_sweep()

    def _reap(self, zombies: Iterable[tree.Process]) -> None:
        for zombie in zombies:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(zombie.pid, os.WNOHANG)


class HandlerRun:
    """One run of a handler. env: the mark by which its orphans are recognised, to be added to its environment."""

    def __init__(self, subreaper: Subreaper) -> None:
        self._subreaper = subreaper
        self._leader = 0
        # No two runs have the same mark, so one look at the orphans when they are to be ended shows whose they are.
        self.env = {_MARK: os.urandom(_MARK_BYTES).hex().encode()}

    def begin(self, leader: int) -> None:
        """Record the pid of the handler."""
        self._leader = leader
        self._subreaper.begin(leader)

    def finish(self) -> None:
        """Record that the handler was reaped."""
        self._subreaper.finish(self._leader)

    def orphans(self) -> frozenset[tree.Process]:
        """Return the living orphans of this run."""
        return self._subreaper.marked(b"%b=%b" % (_MARK.encode(), self.env[_MARK]))


def set_subreaper(yes: bool, /) -> None:  # noqa: FBT001 - as prctl accepts it
    """Become the parent of all orphans among our descendants, or no longer. Raise OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(yes), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
