"""Telling what plugins did wrong: by name, and not for every message."""

from __future__ import annotations

import time
from collections.abc import Iterable

import structlog

from remaphore.hooks.dispatch import Outcome

# A plain hook that takes this long has kept every message waiting.
BLOCKED_SECONDS = 1.0
# A plugin that fails for every message is told once a minute.
INTERVAL_SECONDS = 60.0

_log = structlog.get_logger()


class Faults:
    """Logs outcomes that are errors, or that took the loop for too long, each plugin and hook once in a while."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], float] = {}
        self._silent: dict[tuple[str, str], int] = {}

    def note(self, outcomes: Iterable[Outcome], *, blocking: bool = False) -> None:
        """Look at *outcomes*. *blocking*: they ran in the loop, so their time was everybody's."""
        for outcome in outcomes:
            if outcome.error is not None:
                self._tell(outcome, "plugin_failed", error=repr(outcome.error))
            elif blocking and outcome.seconds > BLOCKED_SECONDS:
                self._tell(outcome, "plugin_blocked", seconds=round(outcome.seconds, 1))

    def _tell(self, outcome: Outcome, event: str, **details: object) -> None:
        key, now = (outcome.plugin, outcome.hook), time.monotonic()
        if now - self._told.get(key, -INTERVAL_SECONDS) < INTERVAL_SECONDS:
            self._silent[key] = self._silent.get(key, 0) + 1
            return
        self._told[key] = now
        _log.error(event, plugin=outcome.plugin, hook=outcome.hook, **details, more=self._silent.pop(key, 0) or None)
