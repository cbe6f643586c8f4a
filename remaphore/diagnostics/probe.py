"""One request to peers, and the measurements on its replies: round trip, clock, and dropped replies.

A reply that names its request is fresh whatever its time, so here it may be signed at any time: a wrong clock is one of
the things to find. A reply of the Go implementation names no request, so its time has to be within allow_skew.

An exchange accepts one reply of each destination. Further ones are kept here: they show that several machines have the
key of one peer, see `machines`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from remaphore.config.settings import Config
from remaphore.diagnostics.machines import find_invocation
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
# The same for further replies with the key of a peer that has replied, for each destination: no node has more daemons.
MAX_FURTHER_REPLIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A verified reply. round_trip_ns: from sending to arrival. skew_ns: the peer's clock minus ours, when it signed.

    further: whether its peer had replied to the same request before, with another reply.

    The skew assumes that the reply was signed half-way through the round trip, so its error is at most half of that.
    """

    reply: Reply
    round_trip_ns: int
    skew_ns: int
    further: bool = False

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
    """A signed request to *responders*.

    *on_answer* is called with each answer as it arrives, *on_complete* once all destinations have replied.
    """

    def __init__(
        self,
        outgoing: Outgoing,
        responders: Sequence[Peer],
        config: Config,
        *,
        clock: Clock = time.time_ns,
        on_answer: Callable[[Answer], None] = lambda _answer: None,
        on_complete: Callable[[], None] = lambda: None,
    ) -> None:
        self.replies: dict[str, list[Reply]] = {}
        self.dropped = DroppedReplies()
        self._outgoing = outgoing
        self._uuid = reply_uuid(outgoing.message.digest)
        self._config = config
        self._clock = clock
        self._on_answer = on_answer
        self._on_complete = on_complete
        self._exchange = Exchange(outgoing.message, responders, allow_skew_ns=ANY_TIME)
        self._responders = by_key(responders)
        self._known_keys = {identity.key for identity in config.identities} | {peer.key for peer in config.peers}
        self._verifications_left = MAX_EXTRA_VERIFICATIONS
        self._further: Counter[str] = Counter()
        self._sent = 0
        self._complete = asyncio.Event()
        self._stopping = asyncio.Event()

    @property
    def expected(self) -> tuple[str, ...]:
        """The destinations that are asked."""
        return self._exchange.expected

    @property
    def missing(self) -> tuple[str, ...]:
        """The destinations that have not replied."""
        return self._exchange.missing

    def stop(self) -> None:
        """End `run`, if nothing but further replies is awaited."""
        self._stopping.set()

    async def run(self, bus: Bus, *, timeout: float) -> None:
        """Send the request, and return after *timeout* seconds, also if all have replied. Raise TransportError."""
        where = subject.for_replies(self._config.subject, self._outgoing.message.digest)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await bus.subscribe(where, self.deliver)
                    self._sent = time.monotonic_ns()
                    await bus.publish(subject.for_messages(self._config.subject), self._outgoing.raw)
                    await self._complete.wait()
                    self._on_complete()
                    await self._stopping.wait()
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
        further = isinstance(verdict, Drop) and verdict.reason is DropReason.ANSWERED_ALREADY
        reply = self._further_reply(frame) if further else verdict
        if isinstance(reply, Drop):
            self._note_drop(frame, reply.reason)
        elif reply is not None:
            self.replies.setdefault(reply.peer, []).append(reply)
            skew = reply.time_ns - (now - round_trip // 2)
            self._on_answer(Answer(reply=reply, round_trip_ns=round_trip, skew_ns=skew, further=further))
            if self._exchange.complete:
                self._complete.set()

    def _further_reply(self, frame: wire.Frame) -> Reply | None:
        """Return the reply in *frame*, None if it is not valid, or sent again by the same receiver."""
        peer = self._responders[frame.sender].destination
        self._further[peer] += 1
        if frame.uuid != self._uuid or self._further[peer] > MAX_FURTHER_REPLIES:
            return None
        reply = Reply.parse(frame.payload, peer=peer, sender=frame.sender, time_ns=frame.time_ns, bound=True)
        for known in self.replies[peer]:
            # An answer with an invocation differs from that of another run. Others, such as the constant text of a
            # handler, need not differ between two machines; they are signed at different times.
            if known.payload == reply.payload and (find_invocation(known) or known.time_ns == reply.time_ns):
                return None
        return reply if wire.verify(frame) else None

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
