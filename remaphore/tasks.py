"""The only way to start an asyncio task (the linter bans the raw calls), and the only way to run a main coroutine.

It is in the lowest layer, with errors and logs, because transport, hooks, requesting and receiving all start tasks
and none of them may import another for it. Their deadlines, by the clock of the loop, are computed here too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from remaphore.interrupts import ENDING, Interrupted, heeded, on_interrupt

T = TypeVar("T")

# Seconds for tasks and threads left over when the main coroutine has ended: those of plugins that did not end them.
END_SECONDS = 2.0
# Seconds in which the event loop runs nothing, after which a process that was asked to end is considered blocked.
BLOCKED_SECONDS = 3.0
# Descriptors of an event loop: epoll, and the two ends of the socket that wakes it.
LOOP_DESCRIPTORS = 3

_running: set[asyncio.Task[Any]] = (
    set()
)  # the loop has only weak references to tasks: one that is not awaited could be collected


def spawn(coroutine: Coroutine[Any, Any, T], *, name: str, vital: bool = False) -> asyncio.Task[T]:
    """Start *coroutine* as a task called *name* and keep it alive until it is done.

    Its exception is raised where it is awaited. If it never is, the loop's exception handler gets the exception as soon
    as the last reference is gone, which for a task that the caller did not keep is the moment it ends.

    vital: nothing awaits it, and the process is of no use without it. If it lacks memory, `run` ends the process.
    """
    task = asyncio.create_task(coroutine, name=name)  # noqa: TID251 - the function that the ban points to
    _running.add(task)
    task.add_done_callback(_running.discard)
    if vital:
        task.add_done_callback(_raise_error)
    return task


def _raise_error(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.result()


async def finished(task: asyncio.Task[Any]) -> None:
    """Wait until *task* is done; if we are cancelled meanwhile, raise that once it is. Its exceptions are its own.

    For what a cancellation must not leave half done, and whose time is limited. A second cancellation is raised at
    once, and the task continues alone.
    """
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def deadline_after(seconds: float | None) -> float | None:
    """Return when *seconds* have passed, by the clock of the running loop; None for no limit."""
    return None if seconds is None else asyncio.get_running_loop().time() + seconds


def seconds_until(deadline: float | None) -> float | None:
    """Return the seconds until *deadline*, at least 0, by the clock of the running loop; None for no limit."""
    return None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())


def run(main: Coroutine[Any, Any, T], *, patient: bool = False) -> T:
    """Run *main* as asyncio.run does; return its result, at most END_SECONDS later than it ended.

    asyncio.run waits forever for a task that swallows its cancellation, or a thread that never returns. Here such a
    task or thread is left behind, and the process has to end by os._exit, which ends it.

    SIGINT (Ctrl-C), SIGTERM and SIGHUP cancel *main*, after which this raises Interrupted, and end the process if it
    then makes no progress for INTERRUPTED_SECONDS. Example: *main* blocks in a write to a pipe that nothing reads. At
    0 s, Ctrl-C: the task is cancelled, which has no effect while the write blocks. At 0.9 s the timer finds neither CPU
    time used nor bytes written, and ends the process with 130. Had *main* written 1 MB to a slow reader meanwhile, the
    timer would look again at 1.8 s. patient: a running event loop is progress too, as while *main* waits for processes.

    Raise MemoryError also if memory ran out in a callback of the loop, whose work would be waited for forever.
    """
    try:
        _check_descriptors()
    except OSError:
        main.close()
        raise
    runner = asyncio.Runner()
    received: list[int] = []
    starved = _Starved(runner.get_loop())
    try:
        return runner.run(_interruptible(main, received, patient=patient))
    except asyncio.CancelledError:
        if received:
            raise Interrupted(received[0]) from None
        raise
    except RuntimeError:
        if starved.stopped:
            raise MemoryError from None
        raise
    finally:
        runner.get_loop().set_exception_handler(None)
        if runner.run(_all_ended()):
            runner.close()
        if signal.getitimer(signal.ITIMER_REAL)[1]:  # a timer that repeats is ours, see `on_interrupt`
            signal.setitimer(signal.ITIMER_REAL, 0)


class _Starved:
    """Stops *loop* once memory has run out in one of its callbacks.

    asyncio reports that and continues. But most callbacks continue a task: it was not continued, cannot be cancelled
    either, and all that waits for it would wait forever, as a daemon for its next connection.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.stopped = False
        loop.set_exception_handler(self._handle)

    def _handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "handle" in context and isinstance(context.get("exception"), MemoryError):
            self.stopped = True
            loop.stop()
        with contextlib.suppress(MemoryError):
            loop.default_exception_handler(context)


def _check_descriptors() -> None:
    """Raise OSError unless there are the descriptors that an event loop needs: what is half made cannot be closed."""
    with contextlib.ExitStack() as stack:
        for _ in range(LOOP_DESCRIPTORS):
            stack.callback(os.close, os.open("/", os.O_RDONLY | os.O_CLOEXEC))


async def _interruptible(main: Coroutine[Any, Any, T], received: list[int], *, patient: bool) -> T:
    """Run *main*; let a signal cancel it, or a second one raise Interrupted, and note them in *received*.

    Not with asyncio's handlers, which only run when the loop does: not while a write to a full pipe blocks, such as a
    log line on stderr, because Python repeats a system call that a signal has interrupted.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    if task is None or threading.current_thread() is not threading.main_thread():
        return await main

    def interrupt(number: int) -> None:
        received.append(number)
        if len(received) > 1:
            raise Interrupted(number)
        task.cancel()

    before = {number: signal.getsignal(number) for number in ENDING}
    for number in heeded():
        loop.add_signal_handler(number, lambda: None)  # makes it wake the loop, whatever it waits for
    if patient:
        on_interrupt(interrupt, signals=heeded(), alive=_turning(loop), seconds=BLOCKED_SECONDS)
    else:
        on_interrupt(interrupt, signals=heeded())
    try:
        return await main
    finally:
        for number in ENDING:
            loop.remove_signal_handler(number)  # also that of `on_stop`
        for number, handler in before.items():
            signal.signal(number, handler)


def on_stop(action: Callable[[int], object], *signals: signal.Signals) -> None:
    """Call *action* in the running loop at each of *signals*; end the process if the loop is blocked after that.

    For a command that needs time to end, and waits for other processes meanwhile. The loop is blocked if it runs
    nothing for BLOCKED_SECONDS: a plugin hangs, or a log line waits for a reader of stderr that does not read.
    """
    loop = asyncio.get_running_loop()
    for number in signals:
        loop.add_signal_handler(number, action, number)
    on_interrupt(lambda _number: None, signals=signals, alive=_turning(loop), seconds=BLOCKED_SECONDS)


def _turning(loop: asyncio.AbstractEventLoop) -> Callable[[], bool]:
    """Return a function that returns whether *loop* has run since its last call."""
    turned = False

    def turn() -> None:
        nonlocal turned
        turned = True

    def turning() -> bool:
        nonlocal turned
        before, turned = turned, False
        with contextlib.suppress(RuntimeError):  # it is closed
            loop.call_soon_threadsafe(turn)
        return before

    return turning


async def _all_ended() -> bool:
    """Cancel all leftover tasks; return whether all of them, threads too, ended within END_SECONDS."""
    left_over = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left_over:
        task.cancel()
    threads = spawn(asyncio.get_running_loop().shutdown_default_executor(), name="end of threads")
    _, late = await asyncio.wait({*left_over, threads}, timeout=END_SECONDS)
    # Waiting for threads needs one more thread, which the machine may not permit.
    return not late and threads.exception() is None
