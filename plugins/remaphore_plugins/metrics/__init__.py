"""The plugin `metrics`: what the daemon does, in numbers, for Prometheus to fetch over HTTP.

`settings` reads the plugin's table, `verbs` bounds the label values, `families` makes the metrics of the daemon's
`DaemonStats`, `runs` those of the handlers, `server` serves both. Only `families`, `runs` and `server` need
prometheus_client, and they are imported when the plugin is configured, so that a missing one can be told with its hint.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from remaphore import Config, DaemonStats, Message, Outcome, PluginError, hookimpl
from remaphore_plugins.metrics.settings import MetricsSettings
from remaphore_plugins.metrics.verbs import VerbLabels

if TYPE_CHECKING:
    from remaphore_plugins.metrics.runs import HandlerRuns
    from remaphore_plugins.metrics.server import MetricsServer

_log = logging.getLogger("remaphore.metrics")


class Metrics:
    """Counts handler runs, reads the rest from `DaemonStats` at each scrape, and serves both. One for each daemon."""

    Settings = MetricsSettings

    def __init__(self) -> None:
        self._labels = VerbLabels()
        self._listen = MetricsSettings().address
        self._stats: Callable[[], DaemonStats] | None = None
        self._runs: HandlerRuns | None = None
        self._server: MetricsServer | None = None

    @property
    def url(self) -> str:
        """Where the metrics are served now, with the port that listening on port 0 came to; empty before and after."""
        return self._server.url if self._server else ""

    @hookimpl
    def remaphore_configure(self, config: Config, settings: MetricsSettings) -> None:
        """Prepare to count. Raise PluginError if prometheus_client is not installed."""
        self._listen = settings.address
        self._runs = _new_runs()
        self._labels = self._labels.learn(config, {})

    @hookimpl
    async def remaphore_startup(self, stats: Callable[[], DaemonStats]) -> None:
        """Begin to serve. Raise PluginError if the address cannot be used."""
        from remaphore_plugins.metrics.families import StatusCollector
        from remaphore_plugins.metrics.server import MetricsServer

        assert self._runs is not None  # made when configured
        self._stats = stats
        collector = StatusCollector(stats, labels=lambda: self._labels, loop=asyncio.get_running_loop())
        self._runs.registry.register(collector)
        try:
            self._server = MetricsServer(self._listen, self._runs.registry)
        except OSError as error:
            raise PluginError(
                f"plugins.metrics.listen: cannot listen on {self._listen}: {error.strerror}",
                hint="stop the process that holds it, or set another address and restart",
            ) from error
        _log.info("metrics are served on %s", self._server.url)

    @hookimpl
    def remaphore_reloaded(self, config: Config) -> None:
        """Learn the verbs of the new configuration."""
        self._labels = self._labels.learn(config, self._stats().handled if self._stats else {})

    @hookimpl
    def remaphore_handled(self, message: Message, outcomes: tuple[Outcome, ...]) -> None:
        """Count what each plugin did with *message*."""
        assert self._runs is not None  # made when configured
        for outcome in outcomes:
            self._runs.count(self._labels.of(message.verb), outcome)

    @hookimpl
    async def remaphore_shutdown(self, reason: str) -> None:  # noqa: ARG002 - the hook's own argument
        """Stop serving; return when the thread has ended and the port is free."""
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(server.stop)


def _new_runs() -> HandlerRuns:
    try:
        from remaphore_plugins.metrics.runs import HandlerRuns
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        raise PluginError("prometheus_client is not installed", hint="pip install 'remaphore[metrics]'") from error
    return HandlerRuns()
