"""The memory of what was taken, so that no message is taken twice.

A message is known by who signed it and the SHA-256 of what was signed: a peer can make several signatures of the same
bytes, so the hash of the whole message would not do. What was signed before the window opened may be forgotten, but
forgetting must not open the window again when a clock steps back, the window grows, or a sender fills its quota:
dropping an entry raises that sender's *floor* to the entry's time, and what was signed at or before the floor is
refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from heapq import heappop, heappush

# A sender's share of the memory: about 15 MB, and more messages than one sender signs within any sane window.
QUOTA_PER_SENDER = 65_536

_NEVER = -(2**63) - 1


@dataclass(slots=True)
class _Sender:
    floor: int = _NEVER
    entries: dict[bytes, bytes] = field(default_factory=dict)  # hash of the signed bytes -> hash of the whole message
    by_time: list[tuple[int, bytes]] = field(default_factory=list)  # heap


class ReplayWindow:
    """Remembers, per sender, every message taken within the window of time in which it could be taken again."""

    def __init__(self, *, allow_skew_ns: int, quota: int = QUOTA_PER_SENDER) -> None:
        """*allow_skew_ns*: how far a message's time may be off, either way. *quota*: entries that a sender may hold."""
        self._allow_skew_ns = allow_skew_ns
        self._quota = quota
        self._senders: dict[str, _Sender] = {}
        self._digests: set[bytes] = set()

    def allow(self, allow_skew_ns: int) -> None:
        """Change how far a time may be off. A wider window does not open what was forgotten: the floors stay."""
        self._allow_skew_ns = allow_skew_ns

    def knows(self, digest: bytes) -> bool:
        """Tell whether a message with exactly these bytes was taken. Cheap: no signature is needed to ask."""
        return digest in self._digests

    def take(self, sender: str, signed: bytes, *, digest: bytes, time_ns: int, now: int) -> bool:
        """Remember a verified message and return True, or False if it was taken before, or may have been."""
        memory = self._senders.setdefault(sender, _Sender())
        identity = hashlib.sha256(signed).digest()
        # Before anything is dropped for it: a replay must not cost the sender its memory.
        if identity in memory.entries or time_ns <= memory.floor:
            return False
        self._forget(memory, now)
        if time_ns <= memory.floor:
            return False
        memory.entries[identity] = digest
        heappush(memory.by_time, (time_ns, identity))
        self._digests.add(digest)
        return True

    def _forget(self, memory: _Sender, now: int) -> None:
        oldest = now - self._allow_skew_ns
        while memory.by_time and (memory.by_time[0][0] < oldest or len(memory.entries) >= self._quota):
            time_ns, identity = heappop(memory.by_time)
            self._digests.discard(memory.entries.pop(identity))
            memory.floor = max(memory.floor, time_ns)
