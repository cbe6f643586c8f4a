"""The ledger's one thread, in which its file is read and written."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import structlog

_log = structlog.get_logger()


class _InLoop(Executor):
    """Calls in the caller's thread, in place of an executor whose thread could not be started."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - what an executor does
            future.set_exception(error)
        return future


def start_thread() -> Executor:
    """Return an executor whose one thread runs, so that no write has to wait until a thread can be started."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
    try:
        thread.submit(int).result()
    except RuntimeError as error:  # the limit of threads: the disk holds up the event loop then, and nothing is lost
        _log.warning("ledger_without_thread", error=str(error), hint="raise TasksMax= or the limit of processes")
        return _InLoop()
    return thread
