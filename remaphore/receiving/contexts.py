"""What a daemon gives to its plugins: a context for each, whose calls and tasks end with the daemon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

import structlog

from remaphore.config.settings import Config
from remaphore.hooks.context import PluginContext, PluginNode
from remaphore.hooks.plugin_tasks import CallGuard, PluginTasks
from remaphore.hooks.stats import LockStats
from remaphore.protocol.ping import Invocation
from remaphore.receiving.ledger.state import plugin_directory
from remaphore.receiving.plugin_errors import PluginErrorReporter

_log = structlog.get_logger()


class PluginContexts:
    """Makes the contexts of a daemon's plugins. *folder*: the daemon's state directory."""

    def __init__(
        self,
        folder: Path,
        invocation: Invocation,
        errors: PluginErrorReporter,
        *,
        make_node: Callable[[CallGuard], PluginNode],
    ) -> None:
        self._invocation = invocation
        self._tasks = PluginTasks(errors.report_task)
        self._guard = CallGuard()
        self._node = make_node(self._guard)
        self._open_state_dir = cache(partial(plugin_directory, folder))  # an error is no result: it is tried again

    def make(self, plugin: str, config: Config) -> PluginContext:
        """Return the context of *plugin*, at its startup."""
        return PluginContext(
            name=plugin,
            config=config,
            instance=self._invocation.instance,
            invocation=self._invocation.number,
            node=self._node,
            _tasks=self._tasks,
            _open_state_dir=self._open_state_dir,
        )

    @property
    def lock_stats(self) -> Mapping[str, LockStats]:
        """What has happened to the locks of the plugins, by name."""
        return self._node.lock_stats

    async def end_tasks(self, seconds: float) -> None:
        """Cancel all tasks, and wait for their ends; abandon those that have not ended within *seconds*."""
        for (plugin, task), count in Counter(await self._tasks.close(seconds)).items():
            detail = f"still runs {seconds:g} s later"
            _log.warning("plugin_task_abandoned", plugin=plugin, task=task, detail=detail, count=count)

    def close(self) -> None:
        """Let the nodes send no more."""
        self._guard.close()
