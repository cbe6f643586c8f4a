"""Which message has which row."""

from __future__ import annotations


class RowNumbers:
    """The numbers of the rows of all messages that the replay window remembers, or that have not ended, by digest.

    The window may forget a message that still waits or runs. Its number is kept until it has ended, because its row
    must change then, and until then its row must not be deleted.
    """

    def __init__(self) -> None:
        """Begin without rows. The first number is 1."""
        self.last = 0
        self._remembered: dict[bytes, int] = {}
        self._unfinished: dict[bytes, int] = {}

    @property
    def running(self) -> int:
        """The number of messages that have not ended."""
        return len(self._unfinished)

    def add(self, digest: bytes) -> int:
        """Return the number of the row of a new message."""
        self.last += 1
        self._remembered[digest] = self._unfinished[digest] = self.last
        return self.last

    def restore(self, digest: bytes, number: int, *, final: bool) -> None:
        """Note a row of an earlier process. *final*: whether its message has ended."""
        self.last = max(self.last, number)
        self._remembered[digest] = number
        if not final:
            self._unfinished[digest] = number

    def find(self, digest: bytes) -> int | None:
        """Return the number of a message, None if there is none."""
        return self._remembered.get(digest) or self._unfinished.get(digest)

    def unfinished(self, digest: bytes) -> int | None:
        """Return the number of a message that has not ended, None for all others."""
        return self._unfinished.get(digest)

    def end(self, digest: bytes) -> int | None:
        """Note that a message has ended, and return its number, None if there is none."""
        return self._unfinished.pop(digest, None) or self._remembered.get(digest)

    def forget(self, digest: bytes) -> int | None:
        """Note that the window has forgotten a message; return the number of its row if that may be deleted."""
        number = self._remembered.pop(digest, None)
        return None if digest in self._unfinished else number
