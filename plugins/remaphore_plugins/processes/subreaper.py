"""Find and end orphans: what a handler left running in its own session after its parent was gone (a daemon).

An orphan is normally adopted by init. As a subreaper (prctl(2)) we adopt the orphans among our descendants instead: so
they can be found, ended with the handler if that had to be ended, or at shutdown, and reaped.

How a child of ours is recognised as an orphan: a process cannot join a session of another process, so a child that is
outside our session, and is not a handler itself, comes from a handler. The one exception is a program that another
plugin has started in a new session; so a zombie is reaped only if it was already one `SWEEP_SECONDS` ago, which leaves
the other plugin that long to reap its child itself.

How an orphan is attributed to one handler: each handler gets a random mark in its environment, which all that it
starts inherit and /proc/PID/environ shows. Example of a daemon that forks twice:

    handler 100            session 100   REMAPHORE_RUN=4fe1...
      child 101            session 101   REMAPHORE_RUN=4fe1...   setsid, fork, exit
        daemon 102         session 101   REMAPHORE_RUN=4fe1...   parent 101 is gone, so we are its parent now

If handler 100 exceeds its timeout, 102 is found by the mark. A process that leaves its session *and* clears its
environment (`env -i setsid ...`) cannot be attributed to a handler; it is ended only at shutdown.

As PID 1 of a container we adopt the orphans of all others too, such as those of a health check, whether or not a
handler ever runs. No timer knows when one of them ends; so then, and only then, SIGCHLD starts the sweeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import threading
from collections.abc import Iterable
from pathlib import Path

from remaphore import proc
from remaphore_plugins.processes import tree

SWEEP_SECONDS = 5.0  # between two searches for zombies, and how long each is left to others
_SOON_SECONDS = 1.0  # from the signal to the search: several processes of a health check end together

_MARK = "REMAPHORE_RUN"
_MARK_BYTES = 8
_PR_GET_CHILD_SUBREAPER = 37  # prctl(2)

# The programs of `run` that are not reaped yet, those of all plugins of this process: our children, and no orphans.
leaders: set[int] = set()

_log = logging.getLogger("remaphore.processes")


class Subreaper:
    """Adopts the orphans of all handlers of this process."""

    def __init__(self) -> None:
        self._zombies: dict[proc.Process, float] = {}  # each since when it is known, as the loop's clock counts
        self._timer: asyncio.TimerHandle | None = None
        self._adopts = False

    def prepare(self) -> HandlerRun:
        """Return the run of a handler that is about to be started with the `env` of that run in its environment."""
        if not self._adopts:
            self._adopts = True
            try:
                proc.set_subreaper(True)
            except OSError as error:
                _log.warning("background processes of handlers cannot be ended: %s", error)
            if not proc.is_ours():
                _log.warning("background processes of handlers cannot be ended: /proc does not show them")
        return HandlerRun(self)

    def watch(self) -> None:
        """Reap, from now on, the orphans that we adopt whatever we do: as PID 1, or as a subreaper from before exec(2).

        Only in the main thread, where Python can handle a signal, and unless the host handles SIGCHLD itself. As PID 1
        we lead our own session, so that a process that was put into the container (nsenter, docker exec) is not in it;
        a terminal that we have is kept instead.
        """
        if not _adopts_orphans() or threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGCHLD) not in (signal.SIG_DFL, signal.SIG_IGN):
            return
        if os.getpid() == 1 and not _has_terminal():
            with contextlib.suppress(PermissionError):  # we lead one already
                os.setsid()
        signal.signal(signal.SIGCHLD, self._on_child_ended)

    def schedule_sweep(self, *, soon: bool = False) -> None:
        """Look for zombies in `SWEEP_SECONDS`, or sooner if a signal has announced one."""
        loop = asyncio.get_running_loop()
        at = loop.time() + (_SOON_SECONDS if soon else SWEEP_SECONDS)
        if self._timer is not None and not self._timer.cancelled():
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at, self._sweep)

    def marked(self, mark: bytes) -> frozenset[proc.Process]:
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
        killed = await tree.kill_tree(lambda seen: proc.with_descendants(seen | self._living()), grace)
        await tree.wait_until_gone(killed, grace)
        self._reap(orphan for orphan, ended in self._orphans() if ended)

    def _living(self) -> frozenset[proc.Process]:
        if not _has_children():
            return frozenset()
        return frozenset(orphan for orphan, ended in self._orphans() if not ended)

    def _orphans(self) -> list[tuple[proc.Process, bool]]:
        own = os.getsid(0)
        found = proc.children(os.getpid())
        return [(child, ended) for child, ended in found if child.session != own and child.pid not in leaders]

    def _on_child_ended(self, _number: int, _frame: object) -> None:
        with contextlib.suppress(RuntimeError):  # no loop runs yet, or no longer
            asyncio.get_running_loop().call_soon_threadsafe(lambda: self.schedule_sweep(soon=True))  # wakes it

    def _sweep(self) -> None:
        self._timer = None
        if not _has_children():
            return
        now = asyncio.get_running_loop().time()
        self._zombies = {orphan: self._zombies.get(orphan, now) for orphan, ended in self._orphans() if ended}
        # A timer may be early, by the resolution of the clock.
        self._reap(zombie for zombie, since in self._zombies.items() if now - since > 0.99 * SWEEP_SECONDS)
        self.schedule_sweep()

    def _reap(self, zombies: Iterable[proc.Process]) -> None:
        for zombie in zombies:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(zombie.pid, os.WNOHANG)


class HandlerRun:
    """One run of a handler. env: the mark by which its orphans are recognised, to be added to its environment."""

    def __init__(self, subreaper: Subreaper) -> None:
        self._subreaper = subreaper
        # No two runs have the same mark, so one look at the orphans when they are to be ended shows whose they are.
        self.env = {_MARK: os.urandom(_MARK_BYTES).hex().encode()}

    def finish(self) -> None:
        """Record that the handler was reaped. From now on, sweeps look for what it left behind."""
        self._subreaper.schedule_sweep()

    def orphans(self) -> frozenset[proc.Process]:
        """Return the living orphans of this run."""
        return self._subreaper.marked(b"%b=%b" % (_MARK.encode(), self.env[_MARK]))


def _adopts_orphans() -> bool:
    if os.getpid() == 1:
        return True
    adopts = ctypes.c_int()
    ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(adopts), 0, 0, 0)
    return bool(adopts.value)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
