"""The tasks of plugins, which end with the daemon, and when a plugin may call the daemon."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from remaphore.errors import UsageError, describe
from remaphore.tasks import spawn

T = TypeVar("T")


class CallGuard:
    """Raises for what a plugin calls in another thread, or after the end of its host."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._closed = False

    def check(self, call: str) -> None:
        """Raise UsageError if *call* is not possible here and now."""
        if threading.get_ident() != self._thread:
            hint = "call it in a coroutine of asyncio.run_coroutine_threadsafe, with the loop of remaphore_startup"
            raise UsageError(f"{call} was called outside the daemon's thread", hint=hint)
        if self._closed:
            hint = "call it before remaphore_shutdown returns"
            raise UsageError(f"{call} was called too late: the daemon has stopped", hint=hint)

    def close(self) -> None:
        """Let every later call raise."""
        self._closed = True


class PluginTasks:
    """The tasks of all plugins of one host. *report*: called with plugin, task and error, for each that fails."""

    def __init__(self, report: Callable[[str, str, BaseException], None]) -> None:
        self._report = report
        self._guard = CallGuard()
        self._running: dict[asyncio.Task[Any], tuple[str, Coroutine[Any, Any, Any]]] = {}

    def spawn(self, plugin: str, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start *coroutine* of *plugin*; see `PluginContext.spawn`."""
        given: object = coroutine  # whatever the annotation promises: a plugin need not have been checked against it
        if not inspect.iscoroutine(given):
            what = f"spawn needs a coroutine, not {type(given).__name__}"
            raise UsageError(what, hint="call the async function: spawn(poll()), not spawn(poll)")
        try:
            self._guard.check("spawn")
        except UsageError:
            coroutine.close()  # else Python warns that it was never awaited
            raise
        task = spawn(_contained(coroutine), name=name or given.__qualname__)
        self._running[task] = plugin, coroutine
        task.add_done_callback(self._ended)
        return task

    async def close(self, seconds: float) -> list[tuple[str, str]]:
        """Cancel all tasks, and start none later; return plugin and name of each that has not ended in *seconds*."""
        self._guard.close()
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(set(self._running), timeout=seconds)
        return [(plugin, task.get_name()) for task, (plugin, _) in self._running.items()]

    def _ended(self, task: asyncio.Task[Any]) -> None:
        plugin, coroutine = self._running.pop(task)
        if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
            coroutine.close()  # a task that was cancelled at once never began to await it
        error = None if task.cancelled() else task.exception()  # which the loop would else report a second time
        if error is not None:
            self._report(plugin, task.get_name(), error)


async def _contained(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        return await coroutine
    except (SystemExit, KeyboardInterrupt) as error:  # a task lets these out of the loop, which would end the host
        raise RuntimeError(f"the task raised {describe(error)}") from error
