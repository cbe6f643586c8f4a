"""Which senders of dropped messages get a rejection, and how often.

A rejection is a signed reply, so only an authenticated peer gets one: the message requests a reply, its key is known,
its pattern matches our destination, and its signature is valid. The checks for verb and time come before that of the
signature, so `may_reject` selects the messages whose signature is to be verified for a rejection, and `consider`
decides once that is done; the check of the payload comes after it. Only then is the rejection charged to the limits:
what is forged in the name of a peer must not use up what the peer is entitled to. A rejected message is remembered like
an accepted one, so that it is not accepted later, when the clock or the permissions have changed.
"""

from __future__ import annotations

from remaphore.protocol import duration, wire
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.gate import Gate
from remaphore.protocol.match import matches
from remaphore.protocol.message import Message

# Rejections: an answer to each message of a flood would be a flood, too.
PER_SENDER = 5  # a second
IN_ALL = 20  # a second
# A sender whose clock is further off gets no rejection: our reply would be outside its window, too.
MAX_SKEW_NS = 10 * duration.MINUTE

_REJECTED = frozenset({DropReason.VERB_NOT_PERMITTED, DropReason.OUTSIDE_WINDOW, DropReason.PAYLOAD_NOT_PERMITTED})


class TokenBucket:
    """Allows *rate* events a second, and up to *rate* at once.

    With a rate of 5: five events at second 0 are allowed and a sixth is not; at 0.2 there is one token again, and after
    any pause there are five at most.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._tokens = float(rate)
        self._last: int | None = None

    def available(self, now: int) -> bool:
        """Return whether there is a token at *now* (nanoseconds). A clock that steps back adds none."""
        if self._last is not None and now > self._last:
            self._tokens = min(self._rate, self._tokens + (now - self._last) * self._rate / duration.SECOND)
        self._last = now
        return self._tokens >= 1

    def spend(self) -> None:
        """Use a token that is available."""
        self._tokens -= 1


class RejectionPolicy:
    """Decides which messages are answered with a rejection."""

    def __init__(self) -> None:
        self._all = TokenBucket(IN_ALL)
        self._senders: dict[str, TokenBucket] = {}  # of known peers only

    def may_reject(self, gate: Gate, frame: wire.Frame, drop: Drop, now: int) -> bool:
        """Return whether *frame*, which *gate* dropped, gets a rejection if its signature is valid. Nothing changes."""
        if not frame.wants_reply or drop.reason not in _REJECTED:
            return False
        peer = gate.policy.peers.get(frame.sender)
        if peer is None:
            return False
        addressed = matches(gate.policy.destination, frame.destination)
        near = abs(now - frame.time_ns) <= MAX_SKEW_NS
        if not (addressed and near) or peer.legacy:
            return False
        return self._available(frame.sender, now) and not gate.window.knows(wire.digest(frame.raw))

    def consider(self, gate: Gate, frame: wire.Frame, drop: Drop, now: int) -> Message | None:
        """Return the message of *frame* if it gets a rejection; it is then remembered, and charged to the limits.

        The caller has verified its signature.
        """
        if not self.may_reject(gate, frame, drop, now):
            return None
        digest = wire.digest(frame.raw)
        if not gate.remember(frame, digest=digest, now=now):
            return None
        self.try_acquire(frame.sender, now)
        return frame.message(digest, sender_name=gate.policy.peers[frame.sender].destination)

    def try_acquire(self, sender: str, now: int) -> bool:
        """Return whether *sender*, the verified key of a peer, may get a rejection at *now*, and charge it then."""
        if not self._available(sender, now):
            return False
        self._all.spend()
        self._senders[sender].spend()
        return True

    def _available(self, sender: str, now: int) -> bool:
        own = self._senders.setdefault(sender, TokenBucket(PER_SENDER))
        return own.available(now) and self._all.available(now)
