"""Admission: what arrives on the daemon's subject becomes an accepted message or a drop, in the order of arrival."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from remaphore.config.settings import Config
from remaphore.errors import describe
from remaphore.messaging.signer import Clock
from remaphore.protocol import subject
from remaphore.protocol.drop import Drop, DropKind, DropReason
from remaphore.protocol.gate import Filters, Gate
from remaphore.protocol.message import Message
from remaphore.receiving.batches import Arrival
from remaphore.receiving.counters import DaemonCounters
from remaphore.receiving.gates import make_gate
from remaphore.receiving.ledger.ledger import Ledger
from remaphore.receiving.throttle import DropGroups
from remaphore.receiving.verifier import FULL, Verified, Verifier


class OnDrop(Protocol):
    """A callback for drops."""

    def __call__(self, drop: Drop, arrival: Arrival | None, *, verified: bool = False) -> None:
        """React to *drop*, which may stand for several. *verified*: whether its signature was found valid."""


class Admission:
    """Passes what arrives through the gate, and its signature through the verifier.

    Each arrival ends in exactly one place, in the event loop: *on_accept* gets it as a verified message that the replay
    window has recorded, or *on_drop* gets the reason and the arrival, which is None if no field is needed. Neither may
    wait or raise. Accepted messages are passed on in the order of arrival, by batches: all of a batch had arrived
    before *on_accept* is called with its iterator, and each is accepted when it is asked for. *may_reject*: whether a
    dropped message gets a rejection if its signature is valid, which is then verified before *on_drop* is called.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        counters: DaemonCounters,
        *,
        on_accept: Callable[[Iterator[Message]], None],
        on_drop: OnDrop,
        may_reject: Callable[[Drop, Arrival], bool],
        clock: Clock = time.time_ns,
    ) -> None:
        self.subject = subject.for_messages(config.subject)
        self._ledger = ledger
        self._counters = counters
        self._on_drop = on_drop
        self._may_reject = may_reject
        self._clock = clock
        self._gate = make_gate(config, Filters(), subject=self.subject, window=ledger.window)
        self._dropped = DropGroups(self._count_dropped)
        self._behind = False
        self._verifier = Verifier(lambda arrivals: on_accept(self._commit(arrivals)))

    @property
    def checking(self) -> int:
        """The number of messages that wait for the check of their signature."""
        return self._verifier.waiting

    def apply_config(self, config: Config) -> None:
        """Use *config* from now on. The replay window stays, so that nothing is accepted a second time."""
        self._ledger.window.allow(config.allow_skew_ns)
        self._gate = make_gate(config, Filters(), subject=self.subject, window=self._ledger.window)

    def deliver(self, messages: Iterable[bytes]) -> None:
        """Check *messages*, which arrive now. If it raises, it is to be called again with those that are left."""
        gate, now = self._gate, self._clock()
        judge, verify = gate.judge, self._verify
        self._behind = self._ledger.behind  # nothing is recorded before all of these are checked
        try:
            for raw in messages:
                arrival: Arrival | None = None
                try:
                    judged = judge(raw, now)
                    if isinstance(judged, DropKind):
                        self._dropped.add(judged, len(raw))
                        continue
                    if judged is None:
                        arrival, drop = self._arrive(gate, raw, now)
                    else:
                        arrival = Arrival.passed(gate, judged, now)
                        drop = verify(arrival)
                except Exception as error:  # noqa: BLE001 - it costs this message, not those behind it
                    drop = self._lost(error, raw)
                self._counters.received += 1
                if drop is not None:
                    self._on_drop(drop, arrival)
        finally:
            self._dropped.flush()

    def _arrive(self, gate: Gate, raw: bytes, now: int) -> tuple[Arrival | None, Drop | None]:
        """Check *raw* in full; return it with its fields if they can be read, and its drop if that is due."""
        frame = gate.decode(raw)
        if isinstance(frame, Drop):
            return None, frame
        passed = gate.precheck(frame, now)
        if not isinstance(passed, Drop):
            arrival = Arrival.passed(gate, (frame, passed), now)
            return arrival, self._verify(arrival)
        arrival = Arrival(gate, frame, now, b"", passed)
        return arrival, self._verify(arrival) if self._may_reject(passed, arrival) else passed

    def _count_dropped(self, drop: Drop) -> None:
        self._counters.received += drop.count
        self._on_drop(drop, None)

    def _verify(self, arrival: Arrival) -> Drop | None:
        """Let the signature of *arrival* be verified; return its drop if there is no room for that."""
        if self._behind:
            full = "too many messages are waiting to be recorded"
        elif self._verifier.put(arrival):
            return None
        else:
            full = FULL
        gate, frame = arrival.gate, arrival.frame
        return arrival.drop or Drop(DropReason.BUSY, full, len(frame.raw), self.subject, exact=gate.is_exact(frame))

    def _commit(self, arrivals: Verified) -> Iterator[Message]:
        verdict: Message | Drop
        for arrival, verified in arrivals:
            gate, frame, now, digest, drop = arrival
            try:
                verdict = drop or gate.commit(frame, now, digest=digest, verified=verified)
            except Exception as error:  # noqa: BLE001 - it costs this message, not those behind it
                verdict = self._lost(error, frame.raw)
            if isinstance(verdict, Drop):
                self._on_drop(verdict, arrival, verified=verified)
            else:
                yield verdict

    def _lost(self, error: Exception, raw: bytes) -> Drop:
        """Report *error*, which was not expected, and return the drop of the message that it costs."""
        context = {"message": "checking a message failed", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)
        return Drop(DropReason.BUSY, f"checking it failed: {describe(error)}", len(raw), self.subject)

    async def join(self) -> None:
        """Return when every arrival has ended in one of the two callbacks."""
        await self._verifier.join()

    def close(self) -> None:
        """End the verifying processes."""
        self._verifier.close()
