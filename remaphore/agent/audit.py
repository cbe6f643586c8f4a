"""The log of who did what: one line for each operation, and for what was not done, at most one a second and user."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

# Of lines about what the agent does not do, which a client can cause at any rate.
REFUSAL_SECONDS = 1.0

_log = structlog.get_logger()


class Audit:
    """Logs the ends of operations. Nothing that is logged comes from a payload or the arguments of a command."""

    def __init__(self) -> None:
        self._suppressed: dict[int, int] = {}  # by uid: lines since the last one, which was less than a second ago
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def done(self, fields: Mapping[str, object]) -> None:
        """Log an operation that a rule permitted."""
        _log.info("operation_ended", **fields)

    def refused(self, uid: int, fields: Mapping[str, object]) -> None:
        """Log what was not done for user *uid*, unless there was such a line within the last second."""
        if uid in self._timers:
            self._suppressed[uid] = self._suppressed.get(uid, 0) + 1
            return
        _log.warning("operation_refused", **fields)
        self._timers[uid] = asyncio.get_running_loop().call_later(REFUSAL_SECONDS, self._report, uid)

    def close(self) -> None:
        """Log what is still to be counted."""
        for timer in self._timers.values():
            timer.cancel()
        for uid in tuple(self._timers):
            self._report(uid)

    def _report(self, uid: int) -> None:
        del self._timers[uid]
        if suppressed := self._suppressed.pop(uid, 0):
            _log.warning("refusals_suppressed", uid=uid, suppressed=suppressed)
