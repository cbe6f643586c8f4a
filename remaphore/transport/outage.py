"""What is said while no broker can be reached: one line after a second, then one every half minute."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator

from remaphore.transport.servers import Failure, summary

NOTICE_AFTER = 1.0  # seconds without a connection before a person wants to know
NOTICE_AGAIN = 30.0  # seconds between further lines
FIRST_DELAY = 0.2  # seconds, at most, before the first retry: a restarted broker is back soon
LONGEST_DELAY = 2.0  # seconds, at most, before any other


def delays(tries: int = 0) -> Iterator[float]:
    """Yield the seconds to wait before each retry, after *tries* earlier ones.

    Random all the way down to 0, so that 500 receivers do not come back to a restarted broker at the same moment.
    """
    while True:
        yield random.uniform(0, min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(tries, 10)))  # noqa: S311 - spreads load, guards nothing
        tries += 1


class Outage:
    """The time without a connection: it collects why each server failed, and says so from time to time."""

    def __init__(self, notice: Callable[[str], None]) -> None:
        self.failures: dict[str, Failure] = {}
        self._notice = notice
        self._said = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """There is no connection from now on. Calling it again during an outage changes nothing."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(NOTICE_AFTER, self._say)

    def end(self, shown: str = "") -> None:
        """There is a connection again, to the server *shown*; or nobody wants to know any more, without it."""
        if self._timer is not None:
            self._timer.cancel()
        if self._said and shown:
            self._notice(f"connected to {shown}")
        self._timer, self._said = None, False
        self.failures.clear()

    def _say(self) -> None:
        self._said = True
        self._timer = asyncio.get_running_loop().call_later(NOTICE_AGAIN, self._say)
        self._notice(f"no broker yet: {summary(self.failures)}; still trying")
