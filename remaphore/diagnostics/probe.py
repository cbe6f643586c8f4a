"""One question to peers, and what their replies show beyond what they say: round trip, clock, and what is not taken.

A reply that names its request is fresh whatever its time says, so here it may be signed at any time: a clock that is
off is what is looked for. One of a peer that runs the original names none, and has to be in time as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from remaphore.config.settings import Config
from remaphore.errors import DecodeError
from remaphore.messaging.signer import Clock, Outgoing
from remaphore.protocol import subject, wire
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.exchange import Exchange
from remaphore.protocol.gate import skew_error
from remaphore.protocol.message import Reply, reply_uuid
from remaphore.protocol.peers import Peer, by_key
from remaphore.transport.bus import Bus

ANY_TIME = 2**64  # nanoseconds: further than two 64-bit times can be apart
# Signatures checked of replies that are not taken anyway: anybody can send any number of those.
MAX_EXTRA_CHECKS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A verified reply. round_trip_ns: from sending to arrival. skew_ns: the peer's clock minus ours, at its signing.

    The skew supposes that the reply was signed half-way, so it may be off by half of the round trip, either way.
    """

    reply: Reply
    round_trip_ns: int
    skew_ns: int

    @property
    def least_skew_ns(self) -> int:
        """By how much the clocks differ at the very least, without sign."""
        return max(0, abs(self.skew_ns) - self.round_trip_ns // 2)


@dataclass(slots=True)
class Untaken:
    """What else came back. unbound: peers whose good replies name no request. strangers: keys that no peer has.

    forged: replies with the key of a peer that was asked, and a signature that is not its.
    """

    unbound: set[str] = field(default_factory=set)
    strangers: set[str] = field(default_factory=set)
    forged: int = 0


class Probe:
    """A signed question under way to *responders*. *answered* is called with each answer as it arrives."""

    def __init__(
        self,
        outgoing: Outgoing,
        responders: Sequence[Peer],
        config: Config,
        *,
        clock: Clock = time.time_ns,
        answered: Callable[[Answer], None] = lambda _answer: None,
    ) -> None:
        self.answers: dict[str, Answer] = {}
        self.untaken = Untaken()
        self._outgoing = outgoing
        self._config = config
        self._clock = clock
        self._answered = answered
        self._exchange = Exchange(outgoing.message, responders, allow_skew_ns=ANY_TIME)
        self._responders = by_key(responders)
        self._checks = MAX_EXTRA_CHECKS
        self._sent = 0
        self._complete = asyncio.Event()

    @property
    def expected(self) -> tuple[str, ...]:
        """The destinations that are asked."""
        return self._exchange.expected

    @property
    def missing(self) -> tuple[str, ...]:
        """Those that have not answered."""
        return self._exchange.missing

    async def run(self, bus: Bus, *, timeout: float) -> None:
        """Ask, and return when all have answered, or after *timeout* seconds. Raises TransportError."""
        where = subject.for_replies(self._config.subject, self._outgoing.message.digest)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await bus.subscribe(where, self._deliver)
                    self._sent = time.monotonic_ns()
                    await bus.publish(subject.for_messages(self._config.subject), self._outgoing.raw)
                    await self._complete.wait()
        finally:
            await bus.unsubscribe(where)

    def _deliver(self, raw: bytes) -> None:
        now = self._clock()
        round_trip = time.monotonic_ns() - self._sent
        if self._is_stale(raw, now):
            return
        verdict = self._exchange.admit(raw, now)
        if isinstance(verdict, Drop):
            self._look_at(raw, verdict.reason)
            return
        skew = verdict.time_ns - (now - round_trip // 2)
        answer = Answer(reply=verdict, round_trip_ns=round_trip, skew_ns=skew)
        self.answers[verdict.peer] = answer
        self._answered(answer)
        if self._exchange.complete:
            self._complete.set()

    def _is_stale(self, raw: bytes, now: int) -> bool:
        try:
            frame = wire.decode(raw)
        except DecodeError:
            return False  # the exchange says so too
        bound = frame.uuid == reply_uuid(self._outgoing.message.digest)
        return not bound and skew_error(frame.time_ns, now, self._config.allow_skew_ns) is not None

    def _look_at(self, raw: bytes, reason: DropReason) -> None:
        if reason is DropReason.BAD_SIGNATURE:
            self.untaken.forged += 1
        if reason not in (DropReason.NOT_ASKED, DropReason.NOT_BOUND) or not self._checks:
            return
        self._checks -= 1
        frame = wire.decode(raw)
        if not wire.verify(frame):
            return
        if reason is DropReason.NOT_BOUND:
            self.untaken.unbound.add(self._responders[frame.sender].destination)
        elif frame.uuid == reply_uuid(self._outgoing.message.digest) and not self._is_known(frame.sender):
            self.untaken.strangers.add(frame.sender)

    def _is_known(self, key: str) -> bool:
        ours = (identity.key for identity in self._config.identities)
        return key in ours or any(peer.key == key for peer in self._config.peers)
