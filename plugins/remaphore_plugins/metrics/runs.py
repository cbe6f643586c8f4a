"""What the handlers did: the one thing that `DaemonStats` does not hold, counted as it happens."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from remaphore import Outcome, Reply

# Handlers are programs: from one that starts and ends to the ten minutes that a verb has unless told otherwise.
_BUCKETS_SECONDS = (0.01, 0.05, 0.25, 1, 5, 15, 60, 300, 600, 3600)


class HandlerRuns:
    """Counts runs in a registry of its own: with the global one, two daemons in a process would share their numbers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # Looking a series up takes the library four times as long as counting.
        self._series: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        self._runs = Counter(
            "remaphore_handler_runs",
            "Plugins that were handed a message: ok, failed (not exit code 0), error (raised), none (no reply).",
            ["verb", "plugin", "result"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "remaphore_handler_seconds",
            "How long a plugin had a message.",
            ["verb", "plugin"],
            buckets=_BUCKETS_SECONDS,
            registry=self.registry,
        )

    def count(self, verb: str, outcome: Outcome) -> None:
        """Count *outcome*. *verb*: the label, not what the peer wrote."""
        key = verb, outcome.plugin, _result(outcome)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._runs.labels(*key), self._seconds.labels(*key[:2])
        series[0].inc()
        series[1].observe(outcome.seconds)


def _result(outcome: Outcome) -> str:
    if outcome.error is not None:
        return "error"
    if not isinstance(outcome.result, Reply):
        return "none"
    return "ok" if outcome.result.exit_code == 0 else "failed"
