"""A machine on which only some threads can be started: its limit of processes is reached."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def threads_allowed(number: int) -> Iterator[None]:
    """A block in which only *number* threads can be started, as at TasksMax, pids.max or ulimit -u."""
    module: Any = threading
    start, left = module._start_new_thread, [number]

    def limited(*arguments: Any) -> int:
        if not left[0]:
            raise RuntimeError("can't start new thread")  # as Python does after EAGAIN
        left[0] -= 1
        return int(start(*arguments))

    module._start_new_thread = limited
    try:
        yield
    finally:
        module._start_new_thread = start
