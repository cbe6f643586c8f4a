"""Reporting the errors of plugins: by name, and not for every message."""

from __future__ import annotations

import time
from collections.abc import Iterable

import structlog

from remaphore.errors import RemaphoreError, describe, hint_of
from remaphore.hooks.dispatch import Outcome

# A plain hook that takes this long has kept every message waiting.
BLOCKED_SECONDS = 1.0
# A plugin that fails for every message is reported once in this time.
INTERVAL_SECONDS = 60.0

_log = structlog.get_logger()


class PluginErrorReporter:
    """Logs outcomes that are errors, or that blocked the event loop, at most once a minute for a plugin and hook."""

    def __init__(self) -> None:
        self._reported: dict[tuple[str, str | None], float] = {}
        self._suppressed: dict[tuple[str, str | None], int] = {}

    def report(self, outcomes: Iterable[Outcome], *, blocking: bool = False) -> None:
        """Log the errors in *outcomes*. *blocking*: they ran in the event loop, so all else waited for them.

        This never raises, whatever the error of a plugin is.
        """
        for outcome in outcomes:
            if outcome.error is not None:
                self._log_error(outcome.plugin, outcome.hook, outcome.error)
            elif blocking and outcome.seconds > BLOCKED_SECONDS:
                self._log("plugin_blocked", outcome.plugin, outcome.hook, seconds=round(outcome.seconds, 1))

    def report_task(self, plugin: str, task: str, error: BaseException) -> None:
        """Log *error* of a task of *plugin*. Its tasks count as one hook: a plugin can invent names without end."""
        self._log_error(plugin, None, error, task=task)

    def report_reload(self, outcomes: Iterable[Outcome]) -> bool:
        """Log each error in *outcomes* of `remaphore_reloaded`; return whether there was none. This never raises."""
        failed = [outcome for outcome in outcomes if outcome.error is not None]
        for outcome in failed:
            assert outcome.error is not None  # as selected
            _log.error(
                "reload_failed",
                plugin=outcome.plugin,
                error=describe(outcome.error),
                effect="the new configuration is in effect, but not in this plugin",
                hint=hint_of(outcome.error) or "correct the configuration and reload it, or restart the daemon",
            )
        return not failed

    def _log_error(self, plugin: str, hook: str | None, error: BaseException, **details: object) -> None:
        # The text of an error of ours is a sentence; of others, only the type says what the text is about.
        shown = describe(error, str) if isinstance(error, RemaphoreError) else describe(error)
        self._log("plugin_failed", plugin, hook, **details, error=shown, hint=hint_of(error) or None)

    def _log(self, event: str, plugin: str, hook: str | None, **details: object) -> None:
        key, now = (plugin, hook), time.monotonic()
        if now - self._reported.get(key, -INTERVAL_SECONDS) < INTERVAL_SECONDS:
            self._suppressed[key] = self._suppressed.get(key, 0) + 1
            return
        self._reported[key] = now
        more = self._suppressed.pop(key, 0) or None
        _log.error(event, plugin=plugin, hook=hook, **details, more=more)
