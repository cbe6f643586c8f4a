"""How many bytes the agent holds for its clients: payloads, and what waits for a client that does not read.

One number for all, and a quarter of it for each user, so that no user takes what others need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

TOTAL_BYTES = 64 * 1024 * 1024
# What one user may hold of it.
USER_BYTES = TOTAL_BYTES // 4
# What may wait to be read by one client, so that one that does not read leaves some to others of the same user.
CLIENT_BYTES = USER_BYTES // 2


class Account:
    """The bytes that are held for one client: what was reserved, and what waits in the buffer of its connection."""

    def __init__(self, budget: Budget, uid: int, waiting: Callable[[], int]) -> None:
        self.uid = uid
        self._budget = budget
        self._waiting = waiting  # the bytes that are in the buffer now
        self._reserved = 0
        self._queued = 0  # an upper bound of `_waiting`: what the client has read since then is not subtracted yet

    def reserve(self, size: int) -> bool:
        """Hold *size* bytes until `close`; return whether there is room."""
        if not self._budget.take(self.uid, size):
            return False
        self._reserved += size
        return True

    def release(self, size: int) -> None:
        """Give back *size* reserved bytes."""
        self._reserved -= size
        self._budget.give_back(self.uid, size)

    def queue(self, size: int) -> bool:
        """Hold *size* bytes, which are about to be written, until they are read; return whether there is room."""
        if self._queued + size > CLIENT_BYTES and self.waiting() + size > CLIENT_BYTES:
            return False
        if not self._budget.take(self.uid, size):
            return False
        self._queued += size
        return True

    def waiting(self) -> int:
        """Return the bytes that wait to be read, and give back what has been read."""
        read = self._queued - min(self._queued, self._waiting())
        self._queued -= read
        self._budget.give_back(self.uid, read)
        return self._queued

    def close(self) -> None:
        """Give back everything."""
        self._budget.give_back(self.uid, self._reserved + self._queued)
        self._reserved = self._queued = 0
        self._budget.forget(self)


class Budget:
    """The bytes of all clients together."""

    def __init__(self) -> None:
        self._held: Counter[int] = Counter()  # by uid
        self._total = 0
        self._accounts: set[Account] = set()

    @property
    def total(self) -> int:
        """The bytes that are held now, or a little more."""
        return self._total

    def open(self, uid: int, waiting: Callable[[], int]) -> Account:
        """Return the account of a client of user *uid*. waiting: returns the bytes in the buffer of its connection."""
        account = Account(self, uid, waiting)
        self._accounts.add(account)
        return account

    def take(self, uid: int, size: int) -> bool:
        """Hold *size* bytes for user *uid*; return whether there is room."""
        if not self._has_room(uid, size):
            for account in self._accounts:  # what clients have read meanwhile is given back only now: it costs nothing
                account.waiting()
            if not self._has_room(uid, size):
                return False
        self._held[uid] += size
        self._total += size
        return True

    def give_back(self, uid: int, size: int) -> None:
        """Hold *size* bytes less."""
        self._total -= size
        self._held[uid] -= size
        if not self._held[uid]:
            del self._held[uid]

    def forget(self, account: Account) -> None:
        """Forget an account that has given back everything."""
        self._accounts.discard(account)

    def _has_room(self, uid: int, size: int) -> bool:
        return self._total + size <= TOTAL_BYTES and self._held[uid] + size <= USER_BYTES
