"""Admission: what arrives on the daemon's subject becomes an accepted message or a drop, in the order of arrival."""

from __future__ import annotations

import time
from collections.abc import Callable

from remaphore.config.settings import Config
from remaphore.messaging.signer import Clock
from remaphore.protocol import subject
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.gate import Filters
from remaphore.protocol.message import Message
from remaphore.receiving.counters import DaemonCounters
from remaphore.receiving.gates import make_gate
from remaphore.receiving.ledger.ledger import Ledger
from remaphore.receiving.verifier import Arrival, Verifier


class Admission:
    """Passes what arrives through the gate, and its signature through the verifier.

    Each arrival ends in exactly one call, in the event loop: *on_accept* with a verified message that the replay window
    has recorded, or *on_drop* with the reason and the arrival, which is None if the bytes are malformed. Neither may
    wait. Accepted messages are passed on in the order of arrival.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        counters: DaemonCounters,
        *,
        on_accept: Callable[[Message], None],
        on_drop: Callable[[Drop, Arrival | None], None],
        clock: Clock = time.time_ns,
    ) -> None:
        self.subject = subject.for_messages(config.subject)
        self._ledger = ledger
        self._counters = counters
        self._on_accept = on_accept
        self._on_drop = on_drop
        self._clock = clock
        self._gate = make_gate(config, Filters(), subject=self.subject, window=ledger.window)
        self._verifier = Verifier(self._commit)

    @property
    def checking(self) -> int:
        """The number of messages that wait for the check of their signature."""
        return self._verifier.waiting

    def apply_config(self, config: Config) -> None:
        """Use *config* from now on. The replay window stays, so that nothing is accepted a second time."""
        self._ledger.window.allow(config.allow_skew_ns)
        self._gate = make_gate(config, Filters(), subject=self.subject, window=self._ledger.window)

    def deliver(self, raw: bytes) -> None:
        """Check *raw*, which arrives now."""
        now = self._clock()
        self._counters.received += 1
        gate = self._gate
        frame = gate.decode(raw)
        if isinstance(frame, Drop):
            self._on_drop(frame, None)
            return
        arrival = Arrival(gate, frame, now)
        drop = gate.precheck(frame, now)
        if drop is None and self._ledger.behind:
            drop = Drop(DropReason.BUSY, "too many messages are waiting to be recorded", len(raw), self.subject)
        elif drop is None and not self._verifier.put(arrival):
            drop = Drop(DropReason.BUSY, "too many messages are waiting to be checked", len(raw), self.subject)
        if drop is not None:
            self._on_drop(drop, arrival)

    def _commit(self, arrival: Arrival, verified: bool) -> None:  # noqa: FBT001 - a callback's result
        verdict = arrival.gate.commit(arrival.frame, arrival.now, verified=verified)
        if isinstance(verdict, Drop):
            self._on_drop(verdict, arrival)
        else:
            self._on_accept(verdict)

    async def join(self) -> None:
        """Return when every arrival has ended in one of the two callbacks."""
        await self._verifier.join()

    def close(self) -> None:
        """End the verifier's threads."""
        self._verifier.close()
