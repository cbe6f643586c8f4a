"""What is said of the connection: a line after a second without one, then one every half minute; and that it is back.

Interruptions that are too short for the first of these are told by their end alone, to who wants to know, and all of a
connection that comes and goes in one line.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator

from remaphore.transport.servers import Failure, summary

NOTICE_AFTER = 1.0  # seconds without a connection before a person wants to know
NOTICE_AGAIN = 30.0  # seconds between further lines
FLAPPING_AGAIN = 15.0  # seconds between lines about interruptions of less than NOTICE_AFTER, or about bad protocol
STABLE_AFTER = 5.0  # seconds that a connection must live not to count as one that comes and goes
FIRST_DELAY = 0.2  # seconds, at most, before the first retry: a restarted broker is back soon
LONGEST_DELAY = 2.0  # seconds, at most, before any other


def delays(tries: int = 0) -> Iterator[float]:
    """Yield the seconds to wait before each retry, after *tries* earlier ones.

    Random all the way down to 0, so that 500 receivers do not come back to a restarted broker at the same moment.
    """
    while True:
        yield random.uniform(0, min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(tries, 10)))  # noqa: S311 - spreads load, guards nothing
        tries += 1


class OutageReporter:
    """The time without a connection: it collects why each server failed, and says so from time to time.

    returned: gets a line for every connection after the first; without it, *notice* gets one if it was told before.
    """

    def __init__(self, notice: Callable[[str], None], returned: Callable[[str], None] | None = None) -> None:
        self.failures: dict[str, Failure] = {}
        self._notice = notice
        self._returns = ReconnectThrottle(returned) if returned else None
        self._began = 0.0
        self._connected_at = self._said_at = float("-inf")
        self._first = True
        self._said = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """There is no connection from now on. Calling it again during an outage changes nothing."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._began = loop.time()
            # A connection that comes and goes is told as seldom as its returns are.
            flapping = self._began - self._connected_at < STABLE_AFTER
            quiet = self._said_at + FLAPPING_AGAIN - self._began if flapping else 0.0
            self._timer = loop.call_later(max(NOTICE_AFTER, quiet), self._say)

    def end(self, shown: str) -> None:
        """There is a connection again, to the server *shown*."""
        self._connected_at = asyncio.get_running_loop().time()
        away = self._connected_at - self._began
        if self._returns is not None and not self._first:
            self._returns.add(f"connected to {shown} after {away:.1f} s", at_once=self._said)
        elif self._said:
            self._notice(f"connected to {shown}")
        self._first = False
        self._reset()

    def close(self) -> None:
        """Nobody wants to know any more."""
        self._reset()
        if self._returns is not None:
            self._returns.close()

    def _reset(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._said = None, False
        self.failures.clear()

    def _say(self) -> None:
        self._said = True
        self._said_at = asyncio.get_running_loop().time()
        self._timer = asyncio.get_running_loop().call_later(NOTICE_AGAIN, self._say)
        self._notice(f"no broker yet: {summary(self.failures)}; still trying")


class ReconnectThrottle:
    """Passes on the line of a connection that is back; of one that comes and goes, the latest every FLAPPING_AGAIN.

    more: what is added to the latest line, with the number of lines that it stands for.
    """

    def __init__(
        self, tell: Callable[[str], None], *, more: str = "it was away {number} times since the last line"
    ) -> None:
        self._tell = tell
        self._more = more
        self._line = ""
        self._held = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, line: str, *, at_once: bool = False) -> None:
        """Pass on *line*, now if it has to be *at_once* or there was none for long."""
        self._line = line
        self._held += 1
        if at_once or self._timer is None:
            self._release()

    def close(self) -> None:
        """Pass on what is held, and stop."""
        self._release()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._held:
            more = f"; {self._more.format(number=self._held)}" if self._held > 1 else ""
            try:
                self._tell(self._line + more)
            except Exception as error:  # noqa: BLE001 - a line that is not told must not end the connection
                context = {"message": "telling of the connection failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)
            self._timer = asyncio.get_running_loop().call_later(FLAPPING_AGAIN, self._release)
        self._held = 0
