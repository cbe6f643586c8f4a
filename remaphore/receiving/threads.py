"""Starting threads beforehand: one that is needed later may not be available then, and what waits for it would hang."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from remaphore.errors import RemaphoreError

_HINT = "raise the limit that is reached: TasksMax of the unit, pids.max of the container, ulimit -u, or the memory"

# For how long the event loop itself waits for a call if it has nothing else to do, and if the call before was quicker
# than this: it gets the result 0.2 ms sooner. A disk that becomes slow, or hangs, holds it up once, for this long.
BLOCKING_SECONDS = 0.002

JOIN_SECONDS = 0.5  # a thread that has nothing left to do needs less than 1 ms
NO_MEMORY_SECONDS = 0.01  # after which what waits for a call is woken again

T = TypeVar("T")


def start_threads(executor: ThreadPoolExecutor, number: int) -> None:
    """Start *number* threads of *executor* now. Raise RemaphoreError if the machine does not permit them."""
    go = threading.Event()
    try:
        # An executor starts a thread when a call finds all others at work: so each call waits until all have begun.
        for _ in range(number):
            executor.submit(go.wait)
    except (RuntimeError, MemoryError) as error:
        executor.shutdown(wait=False, cancel_futures=True)
        raise _no_thread(error) from None
    finally:
        go.set()


class Call(Generic[T]):
    """A call in a `CallThread`."""

    __slots__ = ("_done", "_error", "_function", "_future", "_quick", "_result")

    def __init__(self, function: Callable[[], T], *, quick: bool) -> None:
        """*quick*: whether it is expected to take less than BLOCKING_SECONDS."""
        self._function = function
        self._quick = quick
        self._done = threading.Lock()
        self._done.acquire()  # until it is done
        self._error: BaseException | None = None
        self._result: Any = None
        self._future: asyncio.Future[None] | None = None

    def run(self) -> None:
        """Call the function."""
        try:
            self._result = self._function()
        except BaseException as error:  # noqa: BLE001 - the thread must not end
            self._error = error

    def end(self) -> None:
        """Wake what waits for the result."""
        self._done.release()
        # After the release: `wait` looks once more whether this is done after it has made the future.
        while self._future is not None:
            try:
                self._future.get_loop().call_soon_threadsafe(_wake, self._future)
            except MemoryError:  # nothing else would wake what waits, and the thread must not end
                time.sleep(NO_MEMORY_SECONDS)
                continue
            except RuntimeError:  # the loop is closed: nothing waits there
                pass
            break

    async def wait(self, *, alone: bool = False) -> T:
        """Return the result, or raise the error of the call. *alone*: whether the loop has nothing else to do."""
        if not self._done.acquire(timeout=BLOCKING_SECONDS if alone and self._quick else 0.0):
            self._future = asyncio.get_running_loop().create_future()
            if not self._done.acquire(blocking=False):
                await self._future
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[no-any-return]


class CallThread:
    """One thread, which calls functions in the order in which they are submitted.

    A ThreadPoolExecutor of one thread does the same, and takes three times as long to start a call and return from it.
    """

    def __init__(self, name: str) -> None:
        """Start the thread. Raise RemaphoreError if the machine does not permit one."""
        self._calls: SimpleQueue[Call[Any] | None] = SimpleQueue()
        self._closed = False
        self._last_seconds = 0.0  # that the last call took
        # Not waited for at the end of the process: a call may hang, as in a disk that does not answer.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            self._thread.start()
        except (RuntimeError, MemoryError) as error:
            raise _no_thread(error) from None

    def submit(self, function: Callable[[], T]) -> Call[T]:
        """Call *function* after all that was submitted before. Raise RuntimeError after `close`."""
        if self._closed:
            raise RuntimeError("the thread has ended")
        call = Call(function, quick=self._last_seconds < BLOCKING_SECONDS)
        self._calls.put(call)
        return call

    def close(self) -> None:
        """Return when all calls are done and the thread has ended, or after JOIN_SECONDS if one hangs."""
        self._closed = True
        self._calls.put(None)
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            began = time.monotonic()
            call.run()
            self._last_seconds = time.monotonic() - began  # before its end, after which the next one may be submitted
            call.end()
            del call  # else the last one, and what it returned, is kept until the next


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _no_thread(error: BaseException) -> RemaphoreError:
    return RemaphoreError(f"cannot start a thread: {error or 'out of memory'}", hint=_HINT)
