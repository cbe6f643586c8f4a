"""A clock for tests, which a test sets by hand."""

from __future__ import annotations

from remaphore.protocol.duration import SECOND

START_NS = 1_700_000_000 * SECOND
"""The time at which a `Clock` and the messages of `make_message` begin: 14 November 2023, 22:13:20 UTC."""


class Clock:
    """A clock that only moves when a test moves it. Calling it returns Unix nanoseconds.

    clock = Clock()
    clock.step(1.5)
    assert clock() == START_NS + 1_500_000_000
    """

    def __init__(self, now_ns: int = START_NS) -> None:
        self._now_ns = now_ns

    def __call__(self) -> int:
        """Return its time, in Unix nanoseconds."""
        return self._now_ns

    def set(self, now_ns: int) -> None:
        """Set it to *now_ns*, in Unix nanoseconds, which may be earlier than before."""
        self._now_ns = now_ns

    def step(self, seconds: float) -> None:
        """Advance it by *seconds*; a negative number sets it back."""
        self._now_ns += round(seconds * SECOND)
