"""Orphans: what a handler left running, in a session of its own, when its parent was gone.

As their subreaper we become their parent, where otherwise init would: so they can be found, ended with the handler if
it had to be, or at the stop, and reaped. A process cannot join another's session; so a child of ours that is outside of
our session, and that is no handler itself, comes from a handler. Only another plugin that starts sessions of its own
could have made it, and to that one is left the time of a sweep to reap its child itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
from pathlib import Path

from remaphore_plugins.exec_script import kin

SWEEP_SECONDS = 5.0  # between two looks for who has ended; a zombie lives no longer than two

_RUN = "REMAPHORE_RUN"
_RUN_BYTES = 8
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_POLL_SECONDS = 0.02
_SWEEPS = 5


_log = logging.getLogger("remaphore.exec-script")


class Orphans:
    """The orphans of this process, of all handlers."""

    def __init__(self) -> None:
        self._leaders: set[int] = set()
        self._ended: frozenset[kin.Process] = frozenset()
        self._timer: asyncio.TimerHandle | None = None
        self._adopts = False

    def brood(self) -> Brood:
        """Prepare for a handler that is about to be started, with the brood's `env` in its environment."""
        if not self._adopts:
            self._adopts = True
            try:
                set_subreaper(True)
            except OSError as error:
                _log.warning("what handlers leave in the background cannot be ended: %s", error)
        return Brood(self)

    def begin(self, leader: int) -> None:
        """Take note that our child *leader* is a handler."""
        self._leaders.add(leader)

    def finish(self, leader: int) -> None:
        """Take note that the handler *leader* was reaped. From now on it is looked for what it has left."""
        self._leaders.discard(leader)
        self._watch()

    def marked(self, mark: bytes) -> frozenset[kin.Process]:
        """Return the orphans that were started with *mark* in their environment."""
        return frozenset(orphan for orphan in self._living() if mark in _environment(orphan.pid))

    def _living(self) -> frozenset[kin.Process]:
        return frozenset(orphan for orphan, ended in self._children() if not ended) if _has_children() else frozenset()

    async def end(self, grace: float) -> None:
        """End all orphans and what descends from them: TERM, *grace* seconds, KILL. Then reap them."""
        if self._timer is not None:
            self._timer.cancel()
        if not _has_children():
            return
        seen = self._signal_all(signal.SIGTERM, frozenset())
        try:
            await _gone(seen, grace)
        finally:
            stopped: frozenset[kin.Process] = frozenset()
            for _ in range(_SWEEPS):  # stopped first: else one forks another while it is being killed
                if (found := self._signal_all(signal.SIGSTOP, seen | stopped)) <= stopped:
                    break
                stopped |= found
            self._signal_all(signal.SIGKILL, seen | stopped)
        await _gone(stopped, grace)
        self._reap({orphan for orphan, ended in self._children() if ended})

    def _children(self) -> list[tuple[kin.Process, bool]]:
        own = os.getsid(0)
        found = kin.children(os.getpid())
        return [(child, ended) for child, ended in found if child.session != own and child.pid not in self._leaders]

    def _signal_all(self, number: signal.Signals, seen: frozenset[kin.Process]) -> frozenset[kin.Process]:
        found = kin.family(seen | self._living())
        for group in {process.group for process in found}:
            if group > 1 and group != os.getpgrp():  # kill(2) takes 0 as our own group, and -1 as everybody
                with contextlib.suppress(OSError):
                    os.killpg(group, number)
        return found

    def _watch(self) -> None:
        if self._timer is None or self._timer.cancelled():
            self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        if not _has_children():
            return
        ended = frozenset(orphan for orphan, ended in self._children() if ended)
        self._reap(ended & self._ended)
        self._ended = ended
        self._watch()

    def _reap(self, ended: frozenset[kin.Process] | set[kin.Process]) -> None:
        for orphan in ended:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(orphan.pid, os.WNOHANG)


class Brood:
    """The orphans of one handler: those that got the name of its run, which is in `env`, with their environment.

    Nobody's until the stop: who has left its session and cleared its environment as well.
    """

    def __init__(self, orphans: Orphans) -> None:
        self._orphans = orphans
        self._leader = 0
        # No run has the name of another, so one look at the orphans when they are to be ended tells whose they are.
        self.env = {_RUN: os.urandom(_RUN_BYTES).hex().encode()}

    def begin(self, leader: int) -> None:
        """Take note of the handler's pid."""
        self._leader = leader
        self._orphans.begin(leader)

    def finish(self) -> None:
        """Take note that the handler was reaped."""
        self._orphans.finish(self._leader)

    def orphans(self) -> frozenset[kin.Process]:
        """Return those that live."""
        return self._orphans.marked(b"%b=%b" % (_RUN.encode(), self.env[_RUN]))


def set_subreaper(yes: bool, /) -> None:  # noqa: FBT001 - as prctl takes it
    """Be the parent of all orphans among our descendants, or no longer. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(yes), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _environment(pid: int) -> frozenset[bytes]:
    """Return what *pid* was started with, as far as it can be read."""
    try:
        return frozenset(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return frozenset()


async def _gone(seen: frozenset[kin.Process], seconds: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while loop.time() < deadline and kin.any_alive(seen):  # noqa: ASYNC110 - no Event tells of it
        await asyncio.sleep(_POLL_SECONDS)
