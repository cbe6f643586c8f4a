"""Throttling the drops that plugins see: a flood of one kind is one drop at once, then one with a count."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from remaphore.protocol.drop import Drop, DropReason

# Four lines a minute and kind: enough to see that a flood continues, too few to fill a disk.
INTERVAL_SECONDS = 15.0

Kind = tuple[DropReason, bool]


class DropThrottle:
    """Passes on the first drop of a kind at once, and those that follow as one with their count every interval.

    Drops of one reason are of two kinds: those whose pattern is exactly our destination, and others. So messages of
    other nodes to `**`, which may be frequent and are not for us, do not hide one that was sent to this node alone.
    """

    def __init__(self, emit: Callable[[Drop], object]) -> None:
        self._emit = emit
        self._held: dict[Kind, Drop] = {}  # the last of each kind
        self._counts: Counter[Kind] = Counter()
        self._timers: dict[Kind, asyncio.TimerHandle] = {}

    def add(self, drop: Drop) -> None:
        """Pass on *drop*, now or counted later."""
        kind = drop.reason, drop.exact
        if kind not in self._timers:
            self._start_interval(kind)
            self._emit(drop)
            return
        self._held[kind] = drop
        self._counts[kind] += 1

    def close(self) -> None:
        """Pass on what is held, and end the intervals."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for kind in list(self._held):
            self._emit(self._pop(kind))

    def _start_interval(self, kind: Kind) -> None:
        self._timers[kind] = asyncio.get_running_loop().call_later(INTERVAL_SECONDS, self._end_interval, kind)

    def _end_interval(self, kind: Kind) -> None:
        del self._timers[kind]
        if kind in self._held:
            self._start_interval(kind)
            self._emit(self._pop(kind))

    def _pop(self, kind: Kind) -> Drop:
        return replace(self._held.pop(kind), count=self._counts.pop(kind))
