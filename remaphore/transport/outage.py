"""Reports about the connection: a line after a second without one, then one every 30 seconds, and one when it is back.

Interruptions too short for the first of these lines are reported by their end alone, and only if the caller wants that;
those of an unstable connection are grouped into one line.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator

from remaphore.errors import with_hint
from remaphore.transport.servers import Failure, hints, summary

NOTICE_AFTER = 1.0  # seconds without a connection before the first line
NOTICE_AGAIN = 30.0  # seconds between further lines
FLAPPING_AGAIN = 15.0  # seconds between lines about interruptions of less than NOTICE_AFTER, or about bad protocol
STABLE_AFTER = 5.0  # seconds that a connection must last in order not to count as unstable
FIRST_DELAY = 0.2  # seconds, at most, before the first retry: a restarted broker is back soon
LONGEST_DELAY = 2.0  # seconds, at most, before any other


def delays(tries: int = 0) -> Iterator[float]:
    """Yield the seconds to wait before each retry, after *tries* earlier ones.

    Random all the way down to 0, so that 500 receivers do not reconnect to a restarted broker at the same moment. The
    upper bounds are 0.2, 0.4, 0.8, 1.6, and then always 2 seconds.
    """
    while True:
        yield random.uniform(0, min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(tries, 10)))  # noqa: S311 - spreads load, guards nothing
        tries += 1


def _pass_on(line: str, report: Callable[[str], None]) -> None:
    try:
        report(line)
    except Exception as error:  # noqa: BLE001 - a line that cannot be reported must not end the connection
        context = {"message": "reporting on the connection failed", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)


class OutageReporter:
    """Reports the time without a connection: it records why each server failed, and reports that from time to time.

    on_reconnect: called with a line for every connection after the first; without it, *on_notice* is called with one if
    it was called with the outage before.
    """

    def __init__(self, on_notice: Callable[[str], None], on_reconnect: Callable[[str], None] | None = None) -> None:
        self.failures: dict[str, Failure] = {}
        self._on_notice = on_notice
        self._returns = ReconnectThrottle(on_reconnect) if on_reconnect else None
        self._began = 0.0
        self._connected_at = self._reported_at = float("-inf")
        self._first = True
        self._reported = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Note that there is no connection from now on. Another call during the same outage changes nothing."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._began = loop.time()
            # The losses of an unstable connection are reported as seldom as its reconnects.
            flapping = self._began - self._connected_at < STABLE_AFTER
            quiet = self._reported_at + FLAPPING_AGAIN - self._began if flapping else 0.0
            self._timer = loop.call_later(max(NOTICE_AFTER, quiet), self._report)

    def end(self, shown: str) -> None:
        """Note that there is a connection again, to the server *shown*."""
        self._connected_at = asyncio.get_running_loop().time()
        away = self._connected_at - self._began
        if self._returns is not None and not self._first:
            self._returns.add(f"connected to {shown} after {away:.1f} s", at_once=self._reported)
        elif self._reported:
            _pass_on(f"connected to {shown}", self._on_notice)
        self._first = False
        self._reset()

    def close(self) -> None:
        """Stop reporting, after the line that is held back, if there is one."""
        self._reset()
        if self._returns is not None:
            self._returns.close()

    def _reset(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._reported = None, False
        self.failures.clear()

    def _report(self) -> None:
        self._reported = True
        self._reported_at = asyncio.get_running_loop().time()
        self._timer = asyncio.get_running_loop().call_later(NOTICE_AGAIN, self._report)
        line = f"no broker yet: {summary(self.failures)}; still trying"
        self._on_notice(with_hint(line, hints(self.failures)))


class ReconnectThrottle:
    """Passes on lines about reconnects, at most one every FLAPPING_AGAIN seconds, the latest of those in between.

    Example: the connection returns at 0, 4, 9 and 40 s. The line of 0 s is passed on at once. Those of 4 and 9 s are
    held; at 15 s the later one is passed on, with "disconnected 2 times since the last line". That of 40 s is passed on
    at once, since nothing came for 15 s after the last line.

    more: the text added to a line that stands for several, with their number.
    """

    def __init__(
        self, report: Callable[[str], None], *, more: str = "disconnected {number} times since the last line"
    ) -> None:
        self._report = report
        self._more = more
        self._line = ""
        self._held = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, line: str, *, at_once: bool = False) -> None:
        """Pass on *line* now if it has to be *at_once*, or if none was passed on in the last FLAPPING_AGAIN seconds."""
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
            _pass_on(self._line + more, self._report)
            self._timer = asyncio.get_running_loop().call_later(FLAPPING_AGAIN, self._release)
        self._held = 0
