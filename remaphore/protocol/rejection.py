"""Who is told that a message was rejected, and how often.

A rejection is a signed reply, so only who has shown to be a known peer gets one: it set the flag, its key is known, the
pattern reaches us, and its signature holds. For a check that comes before the signature (verb, time) the signature is
checked only while there are tokens, so that nobody can make us verify what we would have thrown away. What is rejected
is remembered like what is taken: it will not be taken later, when the clock or the permissions have changed.
"""

from __future__ import annotations

from remaphore.protocol import duration, wire
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.gate import Gate
from remaphore.protocol.match import matches
from remaphore.protocol.message import Message

# Signatures checked for the sake of a rejection: each costs what 20 cheap drops do.
PER_SENDER = 5  # a second
IN_ALL = 20  # a second
# A clock that is further off is not told: the answer would not be in its owner's window either.
MAX_SKEW_NS = 10 * duration.MINUTE

_TELLING = frozenset({DropReason.VERB_NOT_PERMITTED, DropReason.OUTSIDE_WINDOW})


class TokenBucket:
    """Allows *rate* events a second, and as many at once."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._tokens = float(rate)
        self._last: int | None = None

    def try_acquire(self, now: int) -> bool:
        """Take a token at *now* (nanoseconds) if there is one. A clock that steps back gives none."""
        if self._last is not None and now > self._last:
            self._tokens = min(self._rate, self._tokens + (now - self._last) * self._rate / duration.SECOND)
        self._last = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class RejectionPolicy:
    """Finds the dropped messages whose senders are told why."""

    def __init__(self) -> None:
        self._all = TokenBucket(IN_ALL)
        self._senders: dict[str, TokenBucket] = {}  # of known peers only

    def consider(self, gate: Gate, raw: bytes, drop: Drop, now: int) -> Message | None:
        """Return the verified message that *gate* dropped, if its sender is to be told. It is remembered as taken."""
        if drop.reason not in _TELLING or not wire.asks(raw):
            return None
        frame = wire.decode(raw)
        peer = gate.policy.peers[frame.sender]
        addressed = matches(gate.policy.destination, frame.destination)
        near = abs(now - frame.time_ns) <= MAX_SKEW_NS
        if not (addressed and near) or peer.legacy:
            return None
        digest = wire.digest(raw)
        if gate.window.knows(digest) or not self._may_verify(frame.sender, now) or not wire.verify(frame):
            return None
        if not gate.window.accept(frame.sender, frame.signed, digest=digest, time_ns=frame.time_ns, now=now):
            return None
        return frame.message(sender_name=peer.destination)

    def _may_verify(self, sender: str, now: int) -> bool:
        own = self._senders.setdefault(sender, TokenBucket(PER_SENDER))
        return own.try_acquire(now) and self._all.try_acquire(now)
