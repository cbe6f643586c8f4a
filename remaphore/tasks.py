"""The one way to start an asyncio task; the linter bans the raw calls.

It stands in the lowest layer, beside errors and logs, because transport, hooks and runtime all start tasks and none of
them may import another for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_running: set[asyncio.Task[Any]] = set()  # the loop holds tasks weakly: one that nobody awaits could be collected


def spawn(coroutine: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """Start *coroutine* as a task called *name* and keep it alive until it is done.

    Its exception belongs to whoever awaits it. If nobody ever does, the loop's exception handler gets it as soon as the
    last reference is gone, which for a task that was not kept is the moment it ends.
    """
    task = asyncio.create_task(coroutine, name=name)  # noqa: TID251 - the function that the ban points to
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task
