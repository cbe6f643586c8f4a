"""Throttling what plugins see of a flood: the first of a kind at once, those that follow as one with their count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from remaphore.protocol.drop import Drop

# Four lines a minute and kind: enough to see that a flood continues, too few to fill a disk.
INTERVAL_SECONDS = 15.0

T = TypeVar("T")


@dataclass(slots=True)
class _Interval(Generic[T]):
    """One interval of one kind: how many were passed on, how many are held, and the last of these."""

    timer: asyncio.TimerHandle
    passed: int = 0
    held: int = 0
    last: T | None = None


class Throttle(Generic[T]):
    """Passes on the first *burst* events of a kind at once, and those that follow as one with their count.

    That is one every interval, which counts as the first of the next burst. *kind* returns the kind of an event; *emit*
    gets an event and how many of its kind it stands for, of which it is the last.
    """

    def __init__(self, emit: Callable[[T, int], object], *, kind: Callable[[T], Hashable], burst: int = 1) -> None:
        self._emit = emit
        self._kind = kind
        self._burst = burst
        self._intervals: dict[Hashable, _Interval[T]] = {}  # by kind: one look-up for each event of a flood

    def add(self, event: T) -> None:
        """Pass on *event*, now or counted later."""
        kind = self._kind(event)
        interval = self._intervals.get(kind) or self._start_interval(kind)
        if interval.passed < self._burst:
            interval.passed += 1
            self._emit(event, 1)
        else:
            interval.held += 1
            interval.last = event

    def close(self) -> None:
        """Pass on what is held, and end the intervals."""
        for kind in list(self._intervals):
            interval = self._intervals.pop(kind)
            interval.timer.cancel()
            self._pass_on(interval)

    def _start_interval(self, kind: Hashable) -> _Interval[T]:
        timer = asyncio.get_running_loop().call_later(INTERVAL_SECONDS, self._end_interval, kind)
        interval = self._intervals[kind] = _Interval(timer)
        return interval

    def _end_interval(self, kind: Hashable) -> None:
        ended = self._intervals.pop(kind)
        if ended.held:
            self._start_interval(kind).passed = 1
            self._pass_on(ended)

    def _pass_on(self, interval: _Interval[T]) -> None:
        if interval.last is not None:
            self._emit(interval.last, interval.held)


class DropThrottle(Throttle[Drop]):
    """Passes on the first drop of a kind at once, and those that follow as one with their count every interval.

    Drops of one reason are of two kinds: those whose pattern is exactly our destination, and others. So messages of
    other nodes to `**`, which may be frequent and are not for us, do not hide one that was sent to this node alone.
    """

    def __init__(self, emit: Callable[[Drop], object]) -> None:
        super().__init__(
            lambda drop, count: emit(drop._replace(count=count)), kind=lambda drop: (drop.reason, drop.exact)
        )
