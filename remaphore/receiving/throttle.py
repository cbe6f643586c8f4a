"""Throttling the drops that plugins see: a flood of one kind is one drop at once, then one with a count."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from remaphore.protocol.drop import Drop, DropReason

# Four lines a minute and kind: enough to see that a flood continues, too few to fill a disk.
INTERVAL_SECONDS = 15.0


class DropThrottle:
    """Passes on the first drop of a reason at once, and those that follow as one with their count every interval."""

    def __init__(self, emit: Callable[[Drop], object]) -> None:
        self._emit = emit
        self._held: dict[DropReason, Drop] = {}  # the last of each kind
        self._counts: Counter[DropReason] = Counter()
        self._timers: dict[DropReason, asyncio.TimerHandle] = {}

    def add(self, drop: Drop) -> None:
        """Pass on *drop*, now or counted later."""
        reason = drop.reason
        if reason not in self._timers:
            self._start_interval(reason)
            self._emit(drop)
            return
        self._held[reason] = drop
        self._counts[reason] += 1

    def close(self) -> None:
        """Pass on what is held, and end the intervals."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for reason in list(self._held):
            self._emit(self._pop(reason))

    def _start_interval(self, reason: DropReason) -> None:
        self._timers[reason] = asyncio.get_running_loop().call_later(INTERVAL_SECONDS, self._end_interval, reason)

    def _end_interval(self, reason: DropReason) -> None:
        del self._timers[reason]
        if reason in self._held:
            self._start_interval(reason)
            self._emit(self._pop(reason))

    def _pop(self, reason: DropReason) -> Drop:
        return replace(self._held.pop(reason), count=self._counts.pop(reason))
