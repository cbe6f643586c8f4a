"""A lock, or a semaphore with several slots: take one, keep it, free it.

The state of each slot is the last records of its subject. `protocol/lease.py` has the rules by which they are judged,
and why no two nodes hold one slot; `protocol/line.py` has those of the line. What is here does the requests.
"""

from __future__ import annotations

from collections.abc import Callable

from remaphore.config.settings import Config
from remaphore.coordination.acquisition import Acquisition
from remaphore.coordination.guardian import boottime
from remaphore.coordination.holding import Holding
from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.lock_events import LockEvents, Waiting
from remaphore.coordination.lock_records import Holder, LockRecords, name_of
from remaphore.errors import LeaseLostError
from remaphore.protocol.lease import Lease

__all__ = ["Holder", "Lock", "LockEvents", "Waiting"]

RELEASE_SECONDS = 5.0


class Lock:
    """A lock called *name* with one or several *slots*, as a node with *config* uses it.

    ttl: seconds that others must hear nothing of us before they take it. note: what others are shown of us. fair:
    whether to stand in line. clock: seconds that are never set, which count while the machine sleeps. events: gets what
    happens to it, None if nothing does. Raise UsageError, or NotPermittedError if the default identity has no verb
    `lock:NAME`.
    """

    def __init__(
        self,
        jetstream: JetStream,
        config: Config,
        *,
        name: str,
        slots: int = 1,
        ttl: float = 30.0,
        note: str = "",
        fair: bool = True,
        clock: Callable[[], float] = boottime,
        events: LockEvents | None = None,
    ) -> None:
        self._records = LockRecords(jetstream, config, name, slots=slots, ttl=ttl, note=note, clock=clock)
        self._config = config
        self.events = events or LockEvents(name)
        self._holding = Holding(self._records, self.events)
        self._fair = fair

    @property
    def name(self) -> str:
        """Its name."""
        return self._records.name

    async def take(
        self, *, wait: float | None, on_waiting: Callable[[Waiting], None] = lambda _waiting: None
    ) -> Lease | None:
        """Return the lease; None if it is not to be had within *wait* seconds (0: at once, None: no limit).

        on_waiting: called when we have to wait, and whenever the reason changes. An outage of the broker is waited for;
        what it raises before we have seen the lock once is TransportError. Raise UsageError if others use the lock with
        another number of slots, CoordinationUnavailableError if locks cannot be used on this broker.
        """
        events = self.events
        with events.waiting() as attempt:

            def note(waiting: Waiting) -> None:
                attempt.note(waiting)
                on_waiting(waiting)

            lease = await Acquisition(self._records, events, fair=self._fair, on_waiting=note).take(wait)
        if lease is None:
            events.not_acquired(attempt.seconds)
        else:
            events.acquired(lease, attempt.seconds)
        return lease

    async def keep(self, lease: Lease, *, on_renewed: Callable[[float], None] = lambda _deadline: None) -> None:
        """Renew *lease* until this is cancelled; call *on_renewed* with each new deadline. Raise LeaseLostError."""
        try:
            await self._holding.keep(lease, on_renewed=on_renewed)
        except LeaseLostError as error:
            by = name_of(self._config, error.by)[0] if error.by else ""
            self.events.lost(lease, detail=str(error), by=by)
            raise

    async def release(self, lease: Lease, *, limit: float = RELEASE_SECONDS) -> bool:
        """Free the slot, when nothing uses it any more; return whether that is done within *limit* seconds.

        If not, it may be taken after its time to live.
        """
        done = await self._holding.release(lease, limit=limit)
        self.events.released(lease, done=done)
        return done
