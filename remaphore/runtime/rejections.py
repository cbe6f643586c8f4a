"""Grouping what was rejected: a flood of one kind is told once, then in numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from remaphore.protocol.rejection import Reason, Rejection

# Four lines a minute and kind: enough to see that it goes on, too few to fill a disk.
INTERVAL_SECONDS = 15.0


class RejectionGroups:
    """Passes on the first rejection of a kind at once; those that follow, every interval, as one with their count."""

    def __init__(self, emit: Callable[[Rejection], None]) -> None:
        self._emit = emit
        self._held: dict[Reason, Rejection | None] = {}
        self._timers: dict[Reason, asyncio.TimerHandle] = {}

    def add(self, rejection: Rejection) -> None:
        """Take note of *rejection*."""
        reason = rejection.reason
        if reason not in self._timers:
            self._emit(rejection)
            self._wait(reason)
            return
        held = self._held.get(reason)
        self._held[reason] = replace(rejection, count=held.count + 1) if held else rejection

    def close(self) -> None:
        """Pass on what is held, and stop."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for rejection in self._held.values():
            if rejection:
                self._emit(rejection)
        self._held.clear()

    def _wait(self, reason: Reason) -> None:
        self._timers[reason] = asyncio.get_running_loop().call_later(INTERVAL_SECONDS, self._release, reason)

    def _release(self, reason: Reason) -> None:
        del self._timers[reason]
        held = self._held.pop(reason, None)
        if held:
            self._emit(held)
            self._wait(reason)
