"""Counts what happens to the locks of a node, for metrics; a plugin or a program gets a copy, as `LockStats`."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from remaphore.hooks.stats import LockStats

# A program that made names out of what peers send would count without limit. No node has this many locks.
MAX_NAMES = 100
# Upper bounds of the buckets of waits, in seconds: from a lock that is free to a command that takes an hour.
_BOUNDS = (0.01, 0.05, 0.25, 1, 5, 15, 60, 300, 600, 3600, float("inf"))


@dataclass(slots=True)
class _Counts:
    held: int = 0
    waiting: int = 0
    acquired: int = 0
    not_acquired: int = 0
    renewals_failed: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    wait_seconds: float = 0.0
    wait_buckets: list[int] = field(default_factory=lambda: [0] * len(_BOUNDS))


class LockCounters:
    """The counts by the name of the lock, from the start of the node on."""

    def __init__(self) -> None:
        self._counts: dict[str, _Counts] = {}

    def stats(self) -> dict[str, LockStats]:
        """Return a copy. Any thread may call it. The empty name stands for all locks beyond the first MAX_NAMES."""
        return {
            name: LockStats(
                each.held,
                each.waiting,
                each.acquired,
                each.not_acquired,
                each.renewals_failed,
                each.lost.copy(),
                each.wait_seconds,
                dict(zip(_BOUNDS, each.wait_buckets, strict=True)),
            )
            for name, each in self._counts.copy().items()
        }

    def waiting(self, name: str, change: int) -> None:
        """Count a try that begins (1), or ends (-1)."""
        self._of(name).waiting += change

    def acquired(self, name: str, seconds: float) -> None:
        """Count a lease that was acquired after so many *seconds*."""
        counts = self._of(name)
        counts.held += 1
        counts.acquired += 1
        counts.wait_seconds += seconds
        counts.wait_buckets[bisect_left(_BOUNDS, seconds)] += 1

    def not_acquired(self, name: str) -> None:
        """Count a try whose time was up."""
        self._of(name).not_acquired += 1

    def renewal_failed(self, name: str) -> None:
        """Count a series of failed renewals."""
        self._of(name).renewals_failed += 1

    def lost(self, name: str, reason: str) -> None:
        """Count a lease that was lost."""
        self._of(name).lost[reason] += 1

    def ended(self, name: str) -> None:
        """Count the end of a lease."""
        self._of(name).held -= 1

    def _of(self, name: str) -> _Counts:
        known = name in self._counts or len(self._counts) < MAX_NAMES
        return self._counts.setdefault(name if known else "", _Counts())
