"""The memory of accepted messages, so that no message is accepted twice.

A message is identified by its sender and its signed hash, the SHA-256 of the signed bytes. The digest of the whole
message is not enough: a sender can make several valid signatures of the same bytes.

The memory is bounded: a message that was signed before the time window is dropped by its time, so its entry can be
evicted. But the window can move back over it: a clock steps back, `allow_skew` is raised, or the entry was evicted
early because its sender filled its quota. So evicting an entry raises its sender's *low-water mark* to the entry's
time, and everything signed at or before that mark is dropped, remembered or not.

Example, with a skew of 5 s. At 100 s we accept a message A that was signed at 98 s. At 104 s A is older than 99 s: it
is evicted, and the mark is 98 s. Now our clock is set back to 100 s, and A is sent again: 98 s is within the window and
A is not remembered, but 98 s is not above the mark, so A is dropped. So is a message B, signed at 97 s, that never
arrived before: the price is that some messages that were never accepted are dropped too.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Protocol

# A sender's share of the memory: about 20 MB, and more messages than a sender signs within any reasonable window.
QUOTA_PER_SENDER = 65_536

NO_LOW_WATER_MARK = -(2**63) - 1  # below every time that a message can have


class Journal(Protocol):
    """Receives what the window remembers and evicts: the daemon's ledger."""

    def accepted(
        self, sender: str, signed_hash: bytes, *, digest: bytes, time_ns: int, verb: str, wants_reply: bool, uuid: bytes
    ) -> None:
        """A message of *sender* was accepted; *signed_hash* is the SHA-256 of the signed bytes."""

    def evicted(self, sender: str, digest: bytes, *, low_water_mark: int) -> None:
        """The message with *digest* was evicted; what *sender* signed at or before *low_water_mark* will be dropped."""


@dataclass(slots=True)
class _Sender:
    low_water_mark: int
    entries: dict[bytes, bytes] = field(default_factory=dict)  # signed hash -> digest of the whole message
    by_time: list[tuple[int, bytes]] = field(default_factory=list)  # heap of (time, signed hash)


class ReplayWindow:
    """Remembers every accepted message for as long as its time is within the window, for each sender."""

    def __init__(
        self,
        *,
        allow_skew_ns: int,
        quota: int = QUOTA_PER_SENDER,
        low_water_mark: int = NO_LOW_WATER_MARK,
        journal: Journal | None = None,
    ) -> None:
        """Begin with an empty memory.

        allow_skew_ns: how far the time of a message may be off, in both directions. quota: entries for each sender.
        low_water_mark: that of senders without entries; after a loss of the memory, the time of the loss.
        """
        self._allow_skew_ns = allow_skew_ns
        self._quota = quota
        self._low_water_mark = low_water_mark
        self._journal = journal
        self._senders: dict[str, _Sender] = {}
        self._digests: set[bytes] = set()

    def allow(self, allow_skew_ns: int) -> None:
        """Change the allowed skew. A wider window does not accept evicted messages again: the low-water marks stay."""
        self._allow_skew_ns = allow_skew_ns

    def knows(self, digest: bytes) -> bool:
        """Return whether a message with exactly these bytes was accepted. It needs no verified signature."""
        return digest in self._digests

    def accept(
        self,
        sender: str,
        signed: bytes,
        *,
        digest: bytes,
        time_ns: int,
        now: int,
        verb: str = "",
        wants_reply: bool = False,
        uuid: bytes = b"",
    ) -> bool:
        """Remember a verified message and return True. Return False if it was, or may have been, accepted before.

        *verb*, *wants_reply*, *uuid*: for the journal only.
        """
        memory = self._memory(sender)
        signed_hash = hashlib.sha256(signed).digest()
        # Checked before anything is evicted: a replay must not evict other entries of the sender.
        if signed_hash in memory.entries or time_ns <= memory.low_water_mark:
            return False
        self._evict(sender, memory, now)
        if time_ns <= memory.low_water_mark:
            return False
        self._remember(memory, signed_hash, digest, time_ns)
        if self._journal is not None:
            self._journal.accepted(
                sender, signed_hash, digest=digest, time_ns=time_ns, verb=verb, wants_reply=wants_reply, uuid=uuid
            )
        return True

    def restore(self, sender: str, signed_hash: bytes, *, digest: bytes, time_ns: int) -> None:
        """Remember a message that was accepted by an earlier process."""
        self._remember(self._memory(sender), signed_hash, digest, time_ns)

    def _remember(self, memory: _Sender, signed_hash: bytes, digest: bytes, time_ns: int) -> None:
        memory.entries[signed_hash] = digest
        heappush(memory.by_time, (time_ns, signed_hash))
        self._digests.add(digest)

    def raise_low_water_mark(self, sender: str, low_water_mark: int) -> None:
        """Drop from now on what *sender* signed at or before *low_water_mark*."""
        memory = self._memory(sender)
        memory.low_water_mark = max(memory.low_water_mark, low_water_mark)

    def expire(self, now: int) -> None:
        """Evict the entries of all senders that are older than the window."""
        for sender, memory in self._senders.items():
            self._evict(sender, memory, now, room=0)

    def _memory(self, sender: str) -> _Sender:
        memory = self._senders.get(sender)
        if memory is None:
            memory = self._senders[sender] = _Sender(self._low_water_mark)
        return memory

    def _evict(self, sender: str, memory: _Sender, now: int, *, room: int = 1) -> None:
        """Evict what is older than the window, and the oldest entries until the quota has *room* for more."""
        oldest = now - self._allow_skew_ns
        while memory.by_time and (memory.by_time[0][0] < oldest or len(memory.entries) + room > self._quota):
            time_ns, signed_hash = heappop(memory.by_time)
            digest = memory.entries.pop(signed_hash)
            self._digests.discard(digest)
            memory.low_water_mark = max(memory.low_water_mark, time_ns)
            if self._journal is not None:
                self._journal.evicted(sender, digest, low_water_mark=memory.low_water_mark)
