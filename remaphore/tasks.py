"""The only way to start an asyncio task (the linter bans the raw calls), and the only way to run a main coroutine.

It is in the lowest layer, with errors and logs, because transport, hooks, requesting and receiving all start tasks
and none of them may import another for it.
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

# Seconds for tasks and threads left over when the main coroutine has ended: those of plugins that did not end them.
END_SECONDS = 2.0
# Seconds after Ctrl-C without progress, after which the process ends. Progress is CPU time, or bytes written, as while
# the output is shown to a slow reader.
INTERRUPTED_SECONDS = 0.9

_running: set[asyncio.Task[Any]] = (
    set()
)  # the loop has only weak references to tasks: one that is not awaited could be collected


def spawn(coroutine: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """Start *coroutine* as a task called *name* and keep it alive until it is done.

    Its exception is raised where it is awaited. If it never is, the loop's exception handler gets the exception as soon
    as the last reference is gone, which for a task that the caller did not keep is the moment it ends.
    """
    task = asyncio.create_task(coroutine, name=name)  # noqa: TID251 - the function that the ban points to
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run *main* as asyncio.run does; return its result, at most END_SECONDS later than it ended.

    asyncio.run waits forever for a task that swallows its cancellation, or a thread that never returns. Here such a
    task or thread is left behind, and the process has to end by os._exit, which ends it.

    Ctrl-C cancels *main*, and ends the process if it then makes no progress for INTERRUPTED_SECONDS. Example: *main*
    blocks in a write to a pipe that nothing reads. At 0 s, Ctrl-C: asyncio's handler cancels the task, which has no
    effect while the write blocks. At 0.9 s the timer finds neither CPU time used nor bytes written, and ends the
    process with 130. Had *main* written 1 MB to a slow reader meanwhile, the timer would look again at 1.8 s.
    """
    runner = asyncio.Runner()
    try:
        return runner.run(_interruptible(main))
    finally:
        if runner.run(_all_ended()):
            runner.close()
        if signal.getitimer(signal.ITIMER_REAL)[1]:  # a timer that repeats is ours, see `on_interrupt`
            signal.setitimer(signal.ITIMER_REAL, 0)


async def _interruptible(main: Coroutine[Any, Any, T]) -> T:
    """Run *main*, and let SIGINT end the process where asyncio's handling of it has no effect.

    asyncio cancels the task, which takes effect once the loop runs: not while a write to a full pipe blocks, such as a
    log line on stderr, because Python repeats a system call that a signal has interrupted.
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
    """Call *action* at SIGINT, and end the process once it has made no progress for INTERRUPTED_SECONDS after that.

    To be called in the main thread. *action* is called at once, in the middle of what that thread is running.
    """

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        before = _work()

        def check(_number: int, _frame: FrameType | None) -> None:
            nonlocal before
            after = _work()
            # No progress is less than a tenth of the CPU time, and less than 100 bytes: this check needs a little of
            # the former, and asyncio writes a byte to itself for each signal.
            if after[0] - before[0] < INTERRUPTED_SECONDS / 10 and after[1] - before[1] < 100:
                os._exit(128 + signal.SIGINT)
            before = after

        signal.signal(signal.SIGALRM, check)
        signal.setitimer(signal.ITIMER_REAL, INTERRUPTED_SECONDS, INTERRUPTED_SECONDS)
        action()

    signal.signal(signal.SIGINT, interrupted)


def _work() -> tuple[float, int]:
    """Return the CPU seconds used and the bytes written by this process (wchar of proc(5); 0 if it is unreadable)."""
    try:
        written = int(Path("/proc/self/io").read_text().partition("wchar:")[2].split()[0])
    except (OSError, IndexError):
        written = 0
    return time.process_time(), written


async def _all_ended() -> bool:
    """Cancel all leftover tasks; return whether all of them, threads too, ended within END_SECONDS."""
    left_over = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left_over:
        task.cancel()
    threads = spawn(asyncio.get_running_loop().shutdown_default_executor(), name="end of threads")
    _, late = await asyncio.wait({*left_over, threads}, timeout=END_SECONDS)
    return not late
