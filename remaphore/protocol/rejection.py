"""Which senders of dropped messages get a rejection, and how often.

A rejection is a signed reply, so only an authenticated peer gets one: the message requests a reply, its key is known,
its pattern matches our destination, and its signature is valid. The checks for verb and time come before that of the
signature, so the signature of a message that failed them is verified only while there are tokens: otherwise an attacker
could make us verify messages that we would drop. A rejected message is remembered like an accepted one, so that it is
not accepted later, when the clock or the permissions have changed.
"""

from __future__ import annotations

from remaphore.protocol import duration, wire
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.gate import Gate
from remaphore.protocol.match import matches
from remaphore.protocol.message import Message

# Signatures verified for rejections: each costs as much as 20 cheap drops.
PER_SENDER = 5  # a second
IN_ALL = 20  # a second
# A sender whose clock is further off gets no rejection: our reply would be outside its window, too.
MAX_SKEW_NS = 10 * duration.MINUTE

_REJECTED = frozenset({DropReason.VERB_NOT_PERMITTED, DropReason.OUTSIDE_WINDOW})


class TokenBucket:
    """Allows *rate* events a second, and up to *rate* at once.

    With a rate of 5: five events at second 0 are allowed and a sixth is not; at 0.2 there is one token again, and after
    any pause there are five at most.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._tokens = float(rate)
        self._last: int | None = None

    def try_acquire(self, now: int) -> bool:
        """Return whether there was a token at *now* (nanoseconds), and use it. A clock that steps back adds none."""
        if self._last is not None and now > self._last:
            self._tokens = min(self._rate, self._tokens + (now - self._last) * self._rate / duration.SECOND)
        self._last = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class RejectionPolicy:
    """Decides which dropped messages are answered with a rejection."""

    def __init__(self) -> None:
        self._all = TokenBucket(IN_ALL)
        self._senders: dict[str, TokenBucket] = {}  # of known peers only

    def consider(self, gate: Gate, frame: wire.Frame, drop: Drop, now: int) -> Message | None:
        """Return the verified message of *frame*, which *gate* dropped, if it gets a rejection. It is remembered."""
        if drop.reason not in _REJECTED or not frame.wants_reply:
            return None
        peer = gate.policy.peers[frame.sender]
        addressed = matches(gate.policy.destination, frame.destination)
        near = abs(now - frame.time_ns) <= MAX_SKEW_NS
        if not (addressed and near) or peer.legacy:
            return None
        digest = wire.digest(frame.raw)
        own = self._senders.setdefault(frame.sender, TokenBucket(PER_SENDER))
        if gate.window.knows(digest) or not (own.try_acquire(now) and self._all.try_acquire(now)):
            return None
        if not wire.verify(frame):
            return None
        if not gate.window.accept(
            frame.sender,
            frame.signed,
            digest=digest,
            time_ns=frame.time_ns,
            now=now,
            verb=frame.verb,
            wants_reply=frame.wants_reply,
        ):
            return None
        return frame.message(sender_name=peer.destination)
