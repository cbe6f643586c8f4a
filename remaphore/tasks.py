"""The one way to start an asyncio task; the linter bans the raw calls.

It stands in the lowest layer, beside errors and logs, because transport, hooks and runtime all start tasks and none of
them may import another for it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

# For tasks and threads that are left over when a service has ended: a plugin's, which it should have ended itself.
END_SECONDS = 2.0
# After Ctrl-C, for all that a command does at its end.
INTERRUPTED_SECONDS = 0.9

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


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run *main* as asyncio.run does, but do not wait longer than END_SECONDS for what is left over at its end.

    asyncio.run waits for ever for a task that swallows its cancellation, or a thread that never returns. Those end with
    the process, which has to end by os._exit then. Ctrl-C ends the process within INTERRUPTED_SECONDS, whatever
    happens.
    """
    runner = asyncio.Runner()
    try:
        return runner.run(_interruptible(main))
    finally:
        if runner.run(_all_ended()):
            runner.close()
        if signal.getsignal(signal.SIGALRM) is _end_process:
            signal.setitimer(signal.ITIMER_REAL, 0)


async def _interruptible(main: Coroutine[Any, Any, T]) -> T:
    """Run *main*, and end the process if it does not end within INTERRUPTED_SECONDS of a SIGINT.

    asyncio cancels the task then, which takes effect once the loop turns: not while something waits for a write to a
    pipe that is full, such as a log line on stderr, for Python repeats a system call that a signal has interrupted.
    """
    cancel = signal.getsignal(signal.SIGINT)
    if not callable(cancel) or threading.current_thread() is not threading.main_thread():
        return await main

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGALRM, _end_process)
        signal.setitimer(signal.ITIMER_REAL, INTERRUPTED_SECONDS)
        cancel(number, frame)

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        return await main
    finally:
        if signal.getsignal(signal.SIGINT) is on_interrupt:
            signal.signal(signal.SIGINT, cancel)


def _end_process(_number: int, _frame: FrameType | None) -> None:
    os._exit(128 + signal.SIGINT)


async def _all_ended() -> bool:
    left_over = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left_over:
        task.cancel()
    threads = spawn(asyncio.get_running_loop().shutdown_default_executor(), name="end of threads")
    _, late = await asyncio.wait({*left_over, threads}, timeout=END_SECONDS)
    return not late
