"""What happens to a lock: logged and counted. docs/running.md lists the events, docs/coordination.md the metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remaphore.logs import LibraryLogger
from remaphore.protocol.lease import EVICTED, SET_BACK, TAKEN, Lease

if TYPE_CHECKING:
    from remaphore.coordination.lock_counters import LockCounters
    from remaphore.coordination.lock_records import Holder

# Seconds of waiting after which it is logged, and between two lines about it: a lock can change hands 200 times in one.
ANNOUNCE_EVERY = 1.0
LATE = 1 / 2  # of the time to live that must be left when a renewal is confirmed; it is due with two thirds
_SHOWN = 4  # holders of a semaphore that are named one by one

# For metrics: whatever else ends a lease, such as a broker that is away, has let its time to live pass.
_REASONS = {EVICTED: "evicted", TAKEN: "taken", SET_BACK: "set-back"}
_EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why we wait. ahead: how many wait before us. problems: of slots whose last record is junk.

    failure: why we cannot look now, such as a cluster without a leader; empty if we can. The rest is of the last look.
    """

    holders: tuple[Holder, ...]
    ahead: int
    problems: tuple[str, ...] = ()
    failure: str = ""


class LockEvents:
    """Logs and counts what happens to the lock *name*. log: None to log nothing. counters: None to count nothing.

    Of a node that we do not know, the log has `unknown`, and not its key; `remaphore lock show` prints that.
    """

    def __init__(self, name: str, *, log: LibraryLogger | None = None, counters: LockCounters | None = None) -> None:
        self._name = name
        self._log = log
        self._counters = counters
        self._held: dict[str, float] = {}  # since when, by session
        self._failing: dict[str, float] = {}  # since when renewals fail, by session

    @contextmanager
    def waiting(self) -> Iterator[Attempt]:
        """Observe one try to take the lock, in a block."""
        attempt = Attempt(self.report)
        if self._counters:
            self._counters.waiting(self._name, +1)
        try:
            yield attempt
        finally:
            attempt.close()
            if self._counters:
                self._counters.waiting(self._name, -1)

    def acquired(self, lease: Lease, seconds: float) -> None:
        """*lease* was acquired after so many *seconds*."""
        self._held[lease.session] = time.monotonic()
        self.report("info", "lock_acquired", slot=lease.slot, token=lease.token, waited_seconds=_rounded(seconds))
        if self._counters:
            self._counters.acquired(self._name, seconds)

    def not_acquired(self, seconds: float) -> None:
        """The lock was not to be had in time."""
        self.report("info", "lock_not_acquired", waited_seconds=_rounded(seconds))
        if self._counters:
            self._counters.not_acquired(self._name)

    def renewed(self, lease: Lease, *, left: float) -> None:
        """*lease* was renewed, with so many seconds *left*."""
        since, left = self._failing.pop(lease.session, None), _rounded(left)
        if since is not None:
            failed = _rounded(time.monotonic() - since)
            self.report("warning", "lock_renewal_recovered", failed_seconds=failed, left_seconds=left)
        elif left < lease.terms.ttl * LATE:
            self.report("warning", "lock_renewal_late", left_seconds=left)
        else:
            self.report("debug", "lock_renewed", left_seconds=left)

    def renewal_failed(self, lease: Lease, error: str, *, left: float) -> None:
        """A renewal of *lease* failed, and is tried again; only the first of a series is reported."""
        if lease.session not in self._failing:
            self._failing[lease.session] = time.monotonic()
            self.report("warning", "lock_renewal_failed", left_seconds=_rounded(left), error=error)
            if self._counters:
                self._counters.renewal_failed(self._name)

    def lost(self, lease: Lease, *, detail: str, by: str = "", reason: str = "") -> None:
        """*lease* was lost, and what it protects has to end now.

        by: the destination of the node that ended it. reason: empty for what *lease* says.
        """
        if (seconds := self._ended(lease)) is None:
            return
        reason = reason or _REASONS.get(lease.lost, _EXPIRED)
        self.report(
            "warning",
            "lock_lost",
            slot=lease.slot,
            token=lease.token,
            reason=reason,
            by=by or None,
            held_seconds=seconds,
            detail=detail,
        )
        if self._counters:
            self._counters.lost(self._name, reason)

    def released(self, lease: Lease, *, done: bool) -> None:
        """What *lease* protects has ended. done: whether the slot is free now, and not only after its time to live."""
        seconds = self._ended(lease)
        if done:
            self.report("info", "lock_released", slot=lease.slot, token=lease.token, held_seconds=seconds)
        elif seconds is not None:  # else it was lost, and that was reported
            free_in = _rounded(lease.terms.ttl)
            self.report("warning", "lock_not_released", slot=lease.slot, held_seconds=seconds, free_in_seconds=free_in)

    def _ended(self, lease: Lease) -> float | None:
        """Return for how many seconds *lease* was held; None if that has ended before."""
        since = self._held.pop(lease.session, None)
        self._failing.pop(lease.session, None)
        if since is None:
            return None
        if self._counters:
            self._counters.ended(self._name)
        return _rounded(time.monotonic() - since)

    def report(self, level: str, event: str, **values: object) -> None:
        """Log *event*, which is one of this lock."""
        if self._log is not None:
            getattr(self._log, level)(event, lock=self._name, **values)


class Attempt:
    """One try to take a lock. It logs who holds it: after a second, and when that changes, at most once a second."""

    def __init__(self, report: Callable[..., None]) -> None:
        self._report = report
        self._began = time.monotonic()
        self._due = self._began + ANNOUNCE_EVERY
        self._waiting: Waiting | None = None
        self._shown: object = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float:
        """How long it lasts by now."""
        return time.monotonic() - self._began

    def note(self, waiting: Waiting) -> None:
        """Take note of why we wait."""
        self._waiting = waiting
        if self._timer is None and _state(waiting) != self._shown:
            after = max(0.0, self._due - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(after, self._announce)

    def close(self) -> None:
        """Log nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def _announce(self) -> None:
        self._timer, waiting = None, self._waiting
        if waiting is None or _state(waiting) == self._shown:
            return
        self._shown, self._due = _state(waiting), time.monotonic() + ANNOUNCE_EVERY
        self._report(
            "info",
            "lock_waiting",
            held_by=_names(waiting.holders) or None,
            ahead=waiting.ahead,
            problem="; ".join(waiting.problems) or None,
            failure=waiting.failure or None,
        )


def _state(waiting: Waiting) -> object:
    """Return what has to change for another line."""
    return tuple((holder.who, holder.session) for holder in waiting.holders), waiting.problems, waiting.failure


def _names(holders: tuple[Holder, ...]) -> str:
    names = [holder.who if holder.known else "unknown" for holder in holders]
    if len(names) <= _SHOWN:
        return ", ".join(names)
    from remaphore import nodeset

    return nodeset.fold(names)


def _rounded(seconds: float) -> float:
    return round(seconds, 3)
