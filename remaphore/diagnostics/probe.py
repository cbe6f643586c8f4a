"""One request to peers, and the measurements on its replies: round trip, clock, and dropped replies.

A reply that names its request is fresh whatever its time, so here it may be signed at any time: a wrong clock is one of
the things to find. A reply of the Go implementation names no request, so its time has to be within allow_skew.
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

ANY_TIME = 2**64  # nanoseconds: more than two 64-bit times can differ
# How many signatures of dropped replies are verified: anyone who can publish can send any number of them.
MAX_EXTRA_VERIFICATIONS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A verified reply. round_trip_ns: from sending to arrival. skew_ns: the peer's clock minus ours, when it signed.

    The skew assumes that the reply was signed half-way through the round trip, so its error is at most half of that.
    """

    reply: Reply
    round_trip_ns: int
    skew_ns: int

    @property
    def least_skew_ns(self) -> int:
        """The smallest absolute clock difference that explains the reply.

        A peer that seems 5 s ahead after a round trip of 4 s is at least 3 s ahead.
        """
        return max(0, abs(self.skew_ns) - self.round_trip_ns // 2)


@dataclass(slots=True)
class DroppedReplies:
    """The dropped replies. unbound: destinations of peers whose validly signed replies do not name the request.

    strangers: keys, of no peer, that signed a reply to this request. forged: the number of replies with the key of an
    asked peer and an invalid signature.
    """

    unbound: set[str] = field(default_factory=set)
    strangers: set[str] = field(default_factory=set)
    forged: int = 0


class Probe:
    """A signed request to *responders*. *on_answer* is called with each answer as it arrives."""

    def __init__(
        self,
        outgoing: Outgoing,
        responders: Sequence[Peer],
        config: Config,
        *,
        clock: Clock = time.time_ns,
        on_answer: Callable[[Answer], None] = lambda _answer: None,
    ) -> None:
        self.answers: dict[str, Answer] = {}
        self.dropped = DroppedReplies()
        self._outgoing = outgoing
        self._uuid = reply_uuid(outgoing.message.digest)
        self._config = config
        self._clock = clock
        self._on_answer = on_answer
        self._exchange = Exchange(outgoing.message, responders, allow_skew_ns=ANY_TIME)
        self._responders = by_key(responders)
        self._known_keys = {identity.key for identity in config.identities} | {peer.key for peer in config.peers}
        self._verifications_left = MAX_EXTRA_VERIFICATIONS
        self._sent = 0
        self._complete = asyncio.Event()

    @property
    def expected(self) -> tuple[str, ...]:
        """The destinations that are asked."""
        return self._exchange.expected

    @property
    def missing(self) -> tuple[str, ...]:
        """The destinations that have not replied."""
        return self._exchange.missing

    async def run(self, bus: Bus, *, timeout: float) -> None:
        """Send the request, and return when all have replied, or after *timeout* seconds. Raise TransportError."""
        where = subject.for_replies(self._config.subject, self._outgoing.message.digest)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await bus.subscribe(where, self.deliver)
                    self._sent = time.monotonic_ns()
                    await bus.publish(subject.for_messages(self._config.subject), self._outgoing.raw)
                    await self._complete.wait()
        finally:
            await bus.unsubscribe(where)

    def deliver(self, raw: bytes) -> None:
        """Accept or drop the reply *raw*, which arrives now."""
        now = self._clock()
        round_trip = time.monotonic_ns() - self._sent
        try:
            frame = wire.decode(raw)
        except DecodeError:
            return
        if frame.uuid != self._uuid and skew_error(frame.time_ns, now, self._config.allow_skew_ns) is not None:
            return  # it names no request, and is too old or too new to belong to this one
        verdict = self._exchange.admit(raw, now)
        if isinstance(verdict, Drop):
            self._note_drop(frame, verdict.reason)
            return
        skew = verdict.time_ns - (now - round_trip // 2)
        answer = Answer(reply=verdict, round_trip_ns=round_trip, skew_ns=skew)
        self.answers[verdict.peer] = answer
        self._on_answer(answer)
        if self._exchange.complete:
            self._complete.set()

    def _note_drop(self, frame: wire.Frame, reason: DropReason) -> None:
        if reason is DropReason.BAD_SIGNATURE:
            self.dropped.forged += 1
        if reason not in (DropReason.NOT_ASKED, DropReason.NOT_BOUND) or not self._verifications_left:
            return
        self._verifications_left -= 1
        if not wire.verify(frame):
            return
        if reason is DropReason.NOT_BOUND:
            self.dropped.unbound.add(self._responders[frame.sender].destination)
        elif frame.uuid == self._uuid and frame.sender not in self._known_keys:
            self.dropped.strangers.add(frame.sender)
