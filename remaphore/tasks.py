"""The one way to start an asyncio task; the linter bans the raw calls.

It stands in the lowest layer, beside errors and logs, because transport, hooks and runtime all start tasks and none of
them may import another for it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

# For tasks and threads that are left over when a service has ended: a plugin's, which it should have ended itself.
END_SECONDS = 2.0
# After Ctrl-C, without work: CPU time, or bytes written, as while what came is shown to a reader that is slow.
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
    the process, which has to end by os._exit then. Ctrl-C ends a process that gets nowhere within INTERRUPTED_SECONDS.
    """
    runner = asyncio.Runner()
    try:
        return runner.run(_interruptible(main))
    finally:
        if runner.run(_all_ended()):
            runner.close()
        if signal.getitimer(signal.ITIMER_REAL)[1]:  # one that repeats is ours, see `on_interrupt`
            signal.setitimer(signal.ITIMER_REAL, 0)


async def _interruptible(main: Coroutine[Any, Any, T]) -> T:
    """Run *main*, and let a SIGINT end the process where asyncio's handling of it comes to nothing.

    asyncio cancels the task then, which takes effect once the loop turns: not while something waits for a write to a
    pipe that is full, such as a log line on stderr, for Python repeats a system call that a signal has interrupted.
    """
    cancel = signal.getsignal(signal.SIGINT)
    if not callable(cancel) or threading.current_thread() is not threading.main_thread():
        return await main
    on_interrupt(lambda: cancel(signal.SIGINT, None))
    try:
        return await main
    finally:
        signal.signal(signal.SIGINT, cancel)


def on_interrupt(action: Callable[[], object]) -> None:
    """Call *action* at SIGINT, and end the process once it has got nowhere for INTERRUPTED_SECONDS after that.

    For the main thread. *action* is called at once, within whatever runs.
    """

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        before = _work()

        def check(_number: int, _frame: FrameType | None) -> None:
            nonlocal before
            after = _work()
            # asyncio writes a byte to itself for each signal.
            if after[0] - before[0] < INTERRUPTED_SECONDS / 10 and after[1] - before[1] < 100:
                os._exit(128 + signal.SIGINT)
            before = after

        signal.signal(signal.SIGALRM, check)
        signal.setitimer(signal.ITIMER_REAL, INTERRUPTED_SECONDS, INTERRUPTED_SECONDS)
        action()

    signal.signal(signal.SIGINT, interrupted)


def _work() -> tuple[float, int]:
    """Return the CPU seconds of this process, and the bytes that it has written (proc(5), wchar)."""
    try:
        written = int(Path("/proc/self/io").read_text().partition("wchar:")[2].split()[0])
    except (OSError, IndexError):
        written = 0
    return time.process_time(), written


async def _all_ended() -> bool:
    left_over = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left_over:
        task.cancel()
    threads = spawn(asyncio.get_running_loop().shutdown_default_executor(), name="end of threads")
    _, late = await asyncio.wait({*left_over, threads}, timeout=END_SECONDS)
    return not late
