"""Throttling what plugins see of a flood: the first of a kind at once, those that follow as one with their count."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from remaphore.protocol.drop import Drop

# Four lines a minute and kind: enough to see that a flood continues, too few to fill a disk.
INTERVAL_SECONDS = 15.0

T = TypeVar("T")


class Throttle(Generic[T]):
    """Passes on the first *burst* events of a kind at once, and those that follow as one with their count.

    That is one every interval, which counts as the first of the next burst. *kind* returns the kind of an event; *emit*
    gets an event and how many of its kind it stands for, of which it is the last.
    """

    def __init__(self, emit: Callable[[T, int], object], *, kind: Callable[[T], Hashable], burst: int = 1) -> None:
        self._emit = emit
        self._kind = kind
        self._burst = burst
        self._held: dict[Hashable, T] = {}  # the last of each kind
        self._counts: Counter[Hashable] = Counter()
        self._passed: dict[Hashable, int] = {}  # in this interval
        self._timers: dict[Hashable, asyncio.TimerHandle] = {}

    def add(self, event: T) -> None:
        """Pass on *event*, now or counted later."""
        kind = self._kind(event)
        if kind not in self._timers:
            self._start_interval(kind)
        if self._passed[kind] < self._burst:
            self._passed[kind] += 1
            self._emit(event, 1)
            return
        self._held[kind] = event
        self._counts[kind] += 1

    def close(self) -> None:
        """Pass on what is held, and end the intervals."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._passed.clear()
        for kind in list(self._held):
            self._emit(self._held.pop(kind), self._counts.pop(kind))

    def _start_interval(self, kind: Hashable) -> None:
        self._timers[kind] = asyncio.get_running_loop().call_later(INTERVAL_SECONDS, self._end_interval, kind)
        self._passed[kind] = 0

    def _end_interval(self, kind: Hashable) -> None:
        del self._timers[kind], self._passed[kind]
        if kind in self._held:
            self._start_interval(kind)
            self._passed[kind] = 1
            self._emit(self._held.pop(kind), self._counts.pop(kind))


class DropThrottle(Throttle[Drop]):
    """Passes on the first drop of a kind at once, and those that follow as one with their count every interval.

    Drops of one reason are of two kinds: those whose pattern is exactly our destination, and others. So messages of
    other nodes to `**`, which may be frequent and are not for us, do not hide one that was sent to this node alone.
    """

    def __init__(self, emit: Callable[[Drop], object]) -> None:
        super().__init__(
            lambda drop, count: emit(drop._replace(count=count)), kind=lambda drop: (drop.reason, drop.exact)
        )
