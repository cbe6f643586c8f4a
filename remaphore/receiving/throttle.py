"""Throttling what plugins see of a flood: the first of a kind at once, those that follow as one with their count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from remaphore.protocol.drop import Drop, DropKind

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

    def add(self, event: T, count: int = 1) -> None:
        """Pass on *event*, now or counted later. *count*: of how many of its kind it is the last."""
        kind = self._kind(event)
        interval = self._intervals.get(kind) or self._start_interval(kind)
        at_once = min(count, self._burst - interval.passed)
        for _ in range(at_once):
            interval.passed += 1
            self._emit(event, 1)
        if count > at_once:
            interval.held += count - at_once
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

    def add(self, drop: Drop, count: int = 0) -> None:
        """Pass on *drop*, which stands for as many as it says, now or counted later."""
        super().add(drop, count or drop.count)


class DropGroups:
    """Counts the drops of messages that arrive together: *on_drop* gets one of each kind, with their number."""

    def __init__(self, on_drop: Callable[[Drop], object]) -> None:
        self._on_drop = on_drop
        self._groups: dict[DropKind, tuple[int, int]] = {}  # how many, and the size of the last

    def add(self, kind: DropKind, size: int) -> None:
        """Count a drop of *kind* of *size* bytes."""
        group = self._groups.get(kind)
        self._groups[kind] = (1 if group is None else group[0] + 1), size

    def flush(self) -> None:
        """Pass on what was counted. If *on_drop* raises, the other kinds are left for the next call."""
        while self._groups:
            kind = next(iter(self._groups))
            count, size = self._groups.pop(kind)
            self._on_drop(kind.drop(size, count))
