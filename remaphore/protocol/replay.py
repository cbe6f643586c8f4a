"""The memory of what was taken, so that no message is taken twice.

A message is known by who signed it and the SHA-256 of what was signed: a peer can make several signatures of the same
bytes, so the hash of the whole message would not do. What was signed before the window opened may be forgotten, but
forgetting must not open the window again when a clock steps back, the window grows, or a sender fills its quota:
dropping an entry raises that sender's *floor* to the entry's time, and what was signed at or before the floor is
rejected.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Protocol

# A sender's share of the memory: about 15 MB, and more messages than one sender signs within any sane window.
QUOTA_PER_SENDER = 65_536

NO_LOW_WATER_MARK = -(2**63) - 1  # below every time that a message can carry


class Journal(Protocol):
    """Who wants to know what the window remembers and forgets: the daemon's ledger."""

    def accepted(self, sender: str, signed_hash: bytes, *, digest: bytes, time_ns: int) -> None:
        """A message of *sender* was taken; *signed_hash* is the SHA-256 of what was signed."""

    def evicted(self, sender: str, digest: bytes, *, low_water_mark: int) -> None:
        """The one with *digest* was forgotten, and what *sender* signed at or before *floor* will be rejected."""


@dataclass(slots=True)
class _Sender:
    low_water_mark: int
    entries: dict[bytes, bytes] = field(default_factory=dict)  # hash of the signed bytes -> hash of the whole message
    by_time: list[tuple[int, bytes]] = field(default_factory=list)  # heap


class ReplayWindow:
    """Remembers, per sender, every message taken within the window of time in which it could be taken again."""

    def __init__(
        self,
        *,
        allow_skew_ns: int,
        quota: int = QUOTA_PER_SENDER,
        low_water_mark: int = NO_LOW_WATER_MARK,
        journal: Journal | None = None,
    ) -> None:
        """*allow_skew_ns*: how far a message's time may be off, either way. *quota*: entries that a sender may hold.

        *floor*: of senders of whom nothing is remembered; a memory that was lost begins at the time of the loss.
        """
        self._allow_skew_ns = allow_skew_ns
        self._quota = quota
        self._low_water_mark = low_water_mark
        self._journal = journal
        self._senders: dict[str, _Sender] = {}
        self._digests: set[bytes] = set()

    def allow(self, allow_skew_ns: int) -> None:
        """Change how far a time may be off. A wider window does not open what was forgotten: the floors stay."""
        self._allow_skew_ns = allow_skew_ns

    def knows(self, digest: bytes) -> bool:
        """Tell whether a message with exactly these bytes was taken. Cheap: no signature is needed to ask."""
        return digest in self._digests

    def accept(self, sender: str, signed: bytes, *, digest: bytes, time_ns: int, now: int) -> bool:
        """Remember a verified message and return True, or False if it was taken before, or may have been."""
        memory = self._memory(sender)
        signed_hash = hashlib.sha256(signed).digest()
        # Before anything is dropped for it: a replay must not cost the sender its memory.
        if signed_hash in memory.entries or time_ns <= memory.low_water_mark:
            return False
        self._forget(sender, memory, now)
        if time_ns <= memory.low_water_mark:
            return False
        self.restore(sender, signed_hash, digest=digest, time_ns=time_ns)
        if self._journal is not None:
            self._journal.accepted(sender, signed_hash, digest=digest, time_ns=time_ns)
        return True

    def restore(self, sender: str, signed_hash: bytes, *, digest: bytes, time_ns: int) -> None:
        """Remember a message that was taken before, in an earlier life."""
        memory = self._memory(sender)
        memory.entries[signed_hash] = digest
        heappush(memory.by_time, (time_ns, signed_hash))
        self._digests.add(digest)

    def raise_low_water_mark(self, sender: str, low_water_mark: int) -> None:
        """Refuse what *sender* signed at or before *floor*."""
        memory = self._memory(sender)
        memory.low_water_mark = max(memory.low_water_mark, low_water_mark)

    def expire(self, now: int) -> None:
        """Forget what is older than the window, of every sender."""
        for sender, memory in self._senders.items():
            self._forget(sender, memory, now, room=0)

    def _memory(self, sender: str) -> _Sender:
        memory = self._senders.get(sender)
        if memory is None:
            memory = self._senders[sender] = _Sender(self._low_water_mark)
        return memory

    def _forget(self, sender: str, memory: _Sender, now: int, *, room: int = 1) -> None:
        """Drop what is older than the window, and the oldest until there is *room* for more."""
        oldest = now - self._allow_skew_ns
        while memory.by_time and (memory.by_time[0][0] < oldest or len(memory.entries) + room > self._quota):
            time_ns, signed_hash = heappop(memory.by_time)
            digest = memory.entries.pop(signed_hash)
            self._digests.discard(digest)
            memory.low_water_mark = max(memory.low_water_mark, time_ns)
            if self._journal is not None:
                self._journal.evicted(sender, digest, low_water_mark=memory.low_water_mark)
