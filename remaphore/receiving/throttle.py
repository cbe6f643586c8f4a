"""Grouping what was dropped: a flood of one kind is told once, then in numbers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from remaphore.protocol.drop import Drop, DropReason

# Four lines a minute and kind: enough to see that it goes on, too few to fill a disk.
INTERVAL_SECONDS = 15.0


class DropThrottle:
    """Passes on the first drop of a kind at once; those that follow, every interval, as one with their count."""

    def __init__(self, emit: Callable[[Drop], None]) -> None:
        self._emit = emit
        self._held: dict[DropReason, Drop] = {}  # the last of each kind
        self._counts: Counter[DropReason] = Counter()
        self._timers: dict[DropReason, asyncio.TimerHandle] = {}

    def add(self, drop: Drop) -> None:
        """Take note of *drop*."""
        reason = drop.reason
        if reason not in self._timers:
            self._emit(drop)
            self._wait(reason)
            return
        self._held[reason] = drop
        self._counts[reason] += 1

    def close(self) -> None:
        """Pass on what is held, and stop."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for reason in list(self._held):
            self._emit(self._take(reason))

    def _wait(self, reason: DropReason) -> None:
        self._timers[reason] = asyncio.get_running_loop().call_later(INTERVAL_SECONDS, self._release, reason)

    def _release(self, reason: DropReason) -> None:
        del self._timers[reason]
        if reason in self._held:
            self._emit(self._take(reason))
            self._wait(reason)

    def _take(self, reason: DropReason) -> Drop:
        return replace(self._held.pop(reason), count=self._counts.pop(reason))
