"""Verifying signatures while messages arrive: many in threads, few in the event loop, results in the order of arrival.

One signature takes 50 microseconds, all the rest of a message about as long. PyNaCl releases the interpreter's lock
while it computes, so two threads verify signatures while the event loop receives more. A batch is worth a thread from
about 16 messages on; fewer are verified in the loop, which is sooner.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from remaphore.errors import RemaphoreError
from remaphore.protocol import wire
from remaphore.protocol.drop import Drop
from remaphore.protocol.gate import Gate
from remaphore.receiving.threads import start_threads

THREADS = 2
# As many as libsodium verifies while the loop receives the next.
BATCH = 64
WORTH_A_THREAD = 16
# Bytes that may wait for verification, in all and of one key that messages claim: a flood of bad signatures under the
# key of one peer delays that peer, not the others.
MAX_BYTES = 32 * 1024 * 1024
MAX_BYTES_PER_KEY = 8 * 1024 * 1024


class Arrival(NamedTuple):
    """A message that has arrived: the gate that judges it, its fields, and its time of arrival (Unix nanoseconds).

    drop: why the gate drops it, if its signature is verified for a rejection only.
    """

    gate: Gate
    frame: wire.Frame
    now: int
    drop: Drop | None = None


class Checked(NamedTuple):
    """Whether each signature of a batch is valid, and the first error that was not expected: one stands for all."""

    results: list[bool]
    error: Exception | None = None


class Verifier:
    """Calls *on_verified* with every arrival and whether its signature is valid, in the order in which they were put.

    waiting: how many have been put and not handed over yet.
    """

    def __init__(self, on_verified: Callable[[Arrival, bool], None]) -> None:
        self._on_verified = on_verified
        self._arrived: list[Arrival] = []
        self._batches: deque[tuple[list[Arrival], asyncio.Future[Checked]]] = deque()
        self.waiting = 0
        self._bytes = 0
        self._per_key: Counter[str] = Counter()
        self._scheduled = False
        self._threads: ThreadPoolExecutor | None = None
        if len(os.sched_getaffinity(0)) > 1:  # on one processor, threads would only take turns
            threads = ThreadPoolExecutor(THREADS, "verify")
            with suppress(RemaphoreError):  # without them, all signatures are verified in the loop
                start_threads(threads, THREADS)
                self._threads = threads

    def put(self, arrival: Arrival) -> bool:
        """Accept *arrival*, or return False if too much waits already."""
        frame = arrival.frame
        size = len(frame.raw)
        if self._bytes + size > MAX_BYTES or self._per_key[frame.sender] + size > MAX_BYTES_PER_KEY:
            return False
        self.waiting += 1
        self._bytes += size
        self._per_key[frame.sender] += size
        self._arrived.append(arrival)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._start)
        return True

    async def join(self) -> None:
        """Return when nothing waits for verification."""
        while self._arrived or self._batches:
            await asyncio.sleep(0)
            if self._batches:
                await asyncio.wait({self._batches[-1][1]})

    def close(self) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown()

    def _start(self) -> None:
        self._scheduled = False
        arrived, self._arrived = self._arrived, []
        if self._threads is None or (len(arrived) < WORTH_A_THREAD and not self._batches):
            self._finish(arrived, lambda: check(arrived))
            return
        loop = asyncio.get_running_loop()
        for first in range(0, len(arrived), BATCH):
            batch = arrived[first : first + BATCH]
            checked: asyncio.Future[Checked]
            try:
                checked = loop.run_in_executor(self._threads, check, batch)
            except Exception:  # noqa: BLE001 - such as no memory; the order must be kept nevertheless
                checked = loop.create_future()
                try:
                    checked.set_result(check(batch))
                except Exception as error:  # noqa: BLE001 - reported in `_finish`, as one of a thread
                    checked.set_exception(error)
            self._batches.append((batch, checked))
            checked.add_done_callback(self._collect)

    def _collect(self, _checked: asyncio.Future[Checked]) -> None:
        while self._batches and self._batches[0][1].done():
            batch, checked = self._batches.popleft()
            self._finish(batch, checked.result)

    def _finish(self, batch: Sequence[Arrival], get_checked: Callable[[], Checked]) -> None:
        try:
            results, error = get_checked()
        except Exception as broken:  # noqa: BLE001 - it costs this batch, not those behind it
            results, error = [False] * len(batch), broken  # what cannot be verified is not accepted
        if error is not None:
            _report(error)
        for arrival, verified in zip(batch, results, strict=True):
            size = len(arrival.frame.raw)
            self.waiting -= 1
            self._bytes -= size
            self._per_key[arrival.frame.sender] -= size
            try:
                self._on_verified(arrival, verified)
            except Exception as error:  # noqa: BLE001 - it costs this message, not those behind it
                _report(error)


def check(batch: Sequence[Arrival]) -> Checked:
    """Verify the signatures of *batch*. It may run in any thread."""
    results: list[bool] = []
    first: Exception | None = None
    for arrival in batch:
        verified = False  # what cannot be verified is not accepted
        try:
            verified = wire.verify(arrival.frame)
        except MemoryError:  # a busy machine, not a mistake of ours
            pass
        except Exception as error:  # noqa: BLE001 - it costs this message, not those behind it
            first = first or error
        results.append(verified)
    return Checked(results, first)


def _report(error: Exception) -> None:
    context = {"message": "verifying or accepting a message failed", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
