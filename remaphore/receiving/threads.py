"""Starting threads beforehand: one that is needed later may not be available then, and what waits for it would hang."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from remaphore.errors import RemaphoreError

_HINT = "raise the limit that is reached: TasksMax of the unit, pids.max of the container, ulimit -u, or the memory"


def start_threads(executor: ThreadPoolExecutor, number: int) -> None:
    """Start *number* threads of *executor* now. Raise RemaphoreError if the machine does not permit them."""
    go = threading.Event()
    try:
        # An executor starts a thread when a call finds all others at work: so each call waits until all have begun.
        for _ in range(number):
            executor.submit(go.wait)
    except (RuntimeError, MemoryError) as error:
        executor.shutdown(wait=False, cancel_futures=True)
        raise RemaphoreError(f"cannot start a thread: {error or 'out of memory'}", hint=_HINT) from None
    finally:
        go.set()
