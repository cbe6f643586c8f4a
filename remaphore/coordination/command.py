"""The command of a lock, as the lock's own process sees it: start it, prolong its lease, end it, wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remaphore.coordination.guardian import TICK, GuardianProcess, boottime, kill_descendants

# Seconds after the deadline at which we do what a stopped guardian does not do: others wait lease.MARGIN, at least.
GUARDIAN_LATE = 0.2


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended. exit_code: its own, as a shell shows it. why: we ended it, because of this; else empty."""

    exit_code: int
    why: str = ""


class GuardedCommand:
    """A command between `start` and the end of all that it started.

    left: called with the pids of what still runs when the command itself has exited; the lock is not free before that
    has ended, as with flock(1). ended: called with the name of each signal that is sent to end the command, and why.
    """

    def __init__(
        self,
        guardian: GuardianProcess,
        *,
        grace: float,
        left: Callable[[Sequence[int]], None] = lambda _pids: None,
        ended: Callable[[str, str], None] = lambda _signal, _why: None,
    ) -> None:
        self._guardian = guardian
        self._grace = grace
        self._left = left
        self._ended = ended
        self._deadline = float("inf")
        self._why = ""
        self._group = 0  # of the command, until that has ended
        self._heard: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.may_run = False  # whether something of it may run: until its end was seen, the lease must not be freed

    async def run(self, variables: Mapping[str, str], *, deadline: float) -> Ending:
        """Run the command, and return when it and all that it started have ended.

        variables: what its environment has beside ours. deadline: seconds of `boottime` at which nothing of it may run
        any more, unless `prolong` moves it. Raise OSError if it cannot be executed.
        """
        loop, line = asyncio.get_running_loop(), self._guardian.line
        self._deadline = deadline
        loop.add_reader(line.fileno(), self._hear)
        try:
            if os.isatty(0):
                signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # what we say on stderr is said in the background, too
            if signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN:
                self._heed_stop()
            self.may_run = True
            self._order(start=dict(variables), deadline=deadline, grace=self._grace)
            ending = await self._wait()
            self.may_run = False
            return ending
        finally:
            loop.remove_reader(line.fileno())
            loop.remove_signal_handler(signal.SIGTSTP)

    def prolong(self, deadline: float) -> None:
        """Move the deadline."""
        self._deadline = deadline
        self._order(deadline=deadline)

    def end(self, why: str) -> None:
        """End the command with all that it started: TERM, then KILL after the grace, at the deadline at the latest."""
        self._why = self._why or why
        self._order(end=why)

    def signal(self, number: int) -> None:
        """Send a signal to the command's process group."""
        self._order(signal=number)

    async def _wait(self) -> Ending:
        ending = Ending(128 + signal.SIGKILL)
        while True:
            event = await self._next_event()
            if event is None:
                return await self._end_without_guardian(ending)
            if "failed" in event:
                self.may_run = False
                raise OSError(event["failed"], os.strerror(event["failed"]))
            if "stopped" in event:
                self._stop_too()
            if "started" in event:
                self._group = event["started"]
            if "sent" in event:
                self._ended(event["sent"], event["why"])
            if "exited" in event:
                self._group = 0
                code = event["exited"]
                ending = Ending(code if code >= 0 else 128 - code, event["ended"])
                if event["left"] and not event["ended"]:
                    self._left(event["left"])
            if "gone" in event:
                return Ending(ending.exit_code, ending.why or self._why)

    async def _end_without_guardian(self, ending: Ending) -> Ending:
        """Do what the guardian can no longer do."""
        why, killed = self._why or ending.why or "the guardian is gone", False
        while kill_descendants(
            self._group, lock_group=os.getpgrp()
        ):  # nothing tells the end of processes that are no children of ours
            killed = True
            await asyncio.sleep(0.01)
        if killed:
            self._ended("SIGKILL", why)
        return Ending(ending.exit_code, why)

    async def _next_event(self) -> dict[str, Any] | None:
        """Return the next event; None if the guardian is gone, or lets the deadline pass because it is stopped."""
        while True:
            left = self._deadline + GUARDIAN_LATE - boottime()
            try:
                return await asyncio.wait_for(self._heard.get(), max(0.001, min(TICK, left)))
            except TimeoutError:
                if boottime() >= self._deadline + GUARDIAN_LATE:
                    self._why = self._why or "the lease was not renewed in time"
                    return None

    def _stop_too(self) -> None:
        """Stop with the pipeline that we are part of, and continue the command when we are continued."""
        heeded = asyncio.get_running_loop().remove_signal_handler(signal.SIGTSTP)
        os.kill(0, signal.SIGTSTP)  # it returns when we are continued
        if heeded:
            self._heed_stop()
        self._order(**{"continue": True})

    def _heed_stop(self) -> None:
        """Let Ctrl-Z stop the command first: a lock that stood still alone would lose its lease under the command."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTSTP, lambda: self._order(stop=True))

    def _hear(self) -> None:
        try:
            data = self._guardian.line.recv(65_536)
        except OSError:
            data = b""
        self._heard.put_nowait(json.loads(data) if data else None)
        if not data:
            asyncio.get_running_loop().remove_reader(self._guardian.line.fileno())

    def _order(self, **order: object) -> None:
        with contextlib.suppress(OSError):  # it is gone, which `_hear` notices, or is stopped, and the deadline counts
            self._guardian.line.send(json.dumps(order).encode(), socket.MSG_DONTWAIT)
