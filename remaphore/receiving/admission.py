"""Admission: what arrives on the daemon's subject becomes an accepted message or a drop, in the order of arrival."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from remaphore.config.settings import Config
from remaphore.errors import describe
from remaphore.messaging.signer import Clock
from remaphore.protocol import subject
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.gate import Filters
from remaphore.protocol.message import Message
from remaphore.receiving.batches import Arrival
from remaphore.receiving.counters import DaemonCounters
from remaphore.receiving.gates import make_gate
from remaphore.receiving.ledger.ledger import Ledger
from remaphore.receiving.verifier import FULL, Verified, Verifier


class OnDrop(Protocol):
    """A callback for drops."""

    def __call__(self, drop: Drop, arrival: Arrival | None, *, verified: bool = False) -> None:
        """React to *drop*. *verified*: whether the signature of the message is valid; False if it was not checked."""


class Admission:
    """Passes what arrives through the gate, and its signature through the verifier.

    Each arrival ends in exactly one place, in the event loop: *on_accept* gets it as a verified message that the replay
    window has recorded, or *on_drop* gets the reason and the arrival, which is None if the bytes are malformed. Neither
    may wait or raise. Accepted messages are passed on in the order of arrival, by batches: all of a batch had arrived
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
        self._verifier = Verifier(lambda arrivals: on_accept(self._commit(arrivals)))

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
        arrival: Arrival | None = None
        try:
            gate = self._gate
            frame = gate.decode(raw)
            if isinstance(frame, Drop):
                drop = frame
            else:
                passed = gate.precheck(frame, now)
                if isinstance(passed, Drop):
                    failed, arrival = passed, Arrival(gate, frame, now, b"", passed)
                else:
                    failed, arrival = None, Arrival(gate, frame, now, passed)
                full = "" if failed is not None and not self._may_reject(failed, arrival) else self._verify(arrival)
                if full is None:
                    return
                drop = failed or Drop(DropReason.BUSY, full, len(raw), self.subject, exact=gate.is_exact(frame))
        except Exception as error:  # noqa: BLE001 - it costs this message, not those behind it
            drop = self._lost(error, raw)
        self._on_drop(drop, arrival)

    def _verify(self, arrival: Arrival) -> str | None:
        """Let the signature of *arrival* be verified; return why there is no room for that, None if there is."""
        if self._ledger.behind:
            return "too many messages are waiting to be recorded"
        return None if self._verifier.put(arrival) else FULL

    def _commit(self, arrivals: Verified) -> Iterator[Message]:
        verdict: Message | Drop
        for arrival, verified in arrivals:
            try:
                verdict = arrival.drop or arrival.gate.commit(
                    arrival.frame, arrival.now, digest=arrival.digest, verified=verified
                )
            except Exception as error:  # noqa: BLE001 - it costs this message, not those behind it
                verdict = self._lost(error, arrival.frame.raw)
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
