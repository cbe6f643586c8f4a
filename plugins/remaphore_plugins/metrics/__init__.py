"""The plugin `metrics`: the daemon's statistics, which Prometheus fetches over HTTP.

`settings` is the plugin's table, `collector` has the metrics, `server` serves them. Nothing here changes what a daemon
does. `collector` and `server` need prometheus_client; they are imported when the plugin is configured, so that a
missing library is an error with a hint.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from remaphore import Config, DaemonStats, Message, Outcome, PluginError, hookimpl
from remaphore.extras import install_hint
from remaphore_plugins.metrics.settings import MetricsSettings

if TYPE_CHECKING:
    from remaphore_plugins.metrics.collector import MetricsCollector
    from remaphore_plugins.metrics.server import MetricsServer

_log = logging.getLogger("remaphore.metrics")


class Metrics:
    """Counts handler runs, reads the rest from `DaemonStats` at each scrape, and serves both. One for each daemon."""

    Settings = MetricsSettings

    def __init__(self) -> None:
        self._settings = MetricsSettings()
        self._collector: MetricsCollector | None = None
        self._server: MetricsServer | None = None

    @property
    def url(self) -> str:
        """The address of the metrics, with the port that listening on port 0 chose; empty while nothing is served."""
        return self._server.url if self._server else ""

    @hookimpl
    def remaphore_configure(self, config: Config, settings: MetricsSettings) -> None:
        """Prepare to count. Raise PluginError if prometheus_client is not installed."""
        try:
            from remaphore_plugins.metrics.collector import MetricsCollector
        except ModuleNotFoundError as error:
            if error.name != "prometheus_client":
                raise
            raise PluginError("prometheus_client is not installed", hint=install_hint("metrics")) from error
        self._settings = settings
        self._collector = MetricsCollector(config)

    @hookimpl
    async def remaphore_startup(self, stats: Callable[[], DaemonStats]) -> None:
        """Start to serve. Raise PluginError if it cannot listen on the address."""
        from remaphore_plugins.metrics.server import MetricsServer

        assert self._collector is not None  # made when configured
        self._collector.attach(stats, asyncio.get_running_loop())
        listen = self._settings.address
        try:
            self._server = MetricsServer(listen, self._collector.registry)
        except OSError as error:
            raise PluginError(
                f"plugins.metrics.listen: cannot listen on {listen}: {error.strerror}",
                hint="stop the process that uses it, or set another address and restart",
            ) from error
        _log.info("metrics are served on %s", self._server.url)

    @hookimpl
    def remaphore_reloaded(self, config: Config) -> None:
        """Give each verb of the new configuration its own label."""
        assert self._collector is not None  # made when configured
        self._collector.reload(config)

    @hookimpl
    def remaphore_handled(self, message: Message, outcomes: tuple[Outcome, ...]) -> None:
        """Count what each plugin did with *message*."""
        if outcomes:  # nothing acts on most messages of a flood
            assert self._collector is not None  # made when configured
            self._collector.count(message.verb, outcomes)

    @hookimpl
    async def remaphore_shutdown(self, reason: str) -> None:  # noqa: ARG002 - the hook's own argument
        """Stop serving; return when the thread has ended and the port is free."""
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(server.stop)
