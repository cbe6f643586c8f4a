"""Checking signatures while messages arrive: in threads when there are many, and back in the order of arrival.

One signature takes 50 microseconds, all the rest of a message about as long; PyNaCl lets go of the interpreter's lock
while it computes, so two threads check signatures while the loop takes in more. A batch is worth a thread from about 16
on; few messages are checked where they are, which is sooner.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from remaphore.protocol import wire
from remaphore.protocol.gate import Gate

THREADS = 2
# As many as libsodium checks while the loop takes in the next.
BATCH = 64
WORTH_A_THREAD = 16
# What may wait for its check, in all and of one key that messages claim: whoever floods us with bad signatures under
# the name of a peer delays that name, not the others.
MAX_BYTES = 32 * 1024 * 1024
MAX_BYTES_PER_KEY = 8 * 1024 * 1024


class Arrival(NamedTuple):
    """A screened message: the gate that screened it, its fields, and when it arrived (Unix nanoseconds)."""

    gate: Gate
    frame: wire.Frame
    now: int


class Verifier:
    """Hands every arrival to *settle*, with whether its signature holds, in the order in which they were put.

    waiting: how many have been put and not yet settled.
    """

    def __init__(self, settle: Callable[[Arrival, bool], None]) -> None:
        self._settle = settle
        self._arrived: list[Arrival] = []
        self._batches: deque[tuple[list[Arrival], asyncio.Future[list[bool]]]] = deque()
        self.waiting = 0
        self._bytes = 0
        self._per_key: Counter[str] = Counter()
        self._scheduled = False
        # On one processor threads would only take turns.
        self._threads = ThreadPoolExecutor(THREADS, "verify") if len(os.sched_getaffinity(0)) > 1 else None

    def put(self, arrival: Arrival) -> bool:
        """Take *arrival*, or return False if too much waits already."""
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
        """Return when nothing waits for its check."""
        while self._arrived or self._batches:
            await asyncio.sleep(0)
            if self._batches:
                await asyncio.wait({self._batches[-1][1]})

    def close(self) -> None:
        """Let the threads go."""
        if self._threads is not None:
            self._threads.shutdown()

    def _start(self) -> None:
        self._scheduled = False
        arrived, self._arrived = self._arrived, []
        if self._threads is None or (len(arrived) < WORTH_A_THREAD and not self._batches):
            self._finish(arrived, check(arrived))
            return
        loop = asyncio.get_running_loop()
        for first in range(0, len(arrived), BATCH):
            batch = arrived[first : first + BATCH]
            checked: asyncio.Future[list[bool]]
            try:
                checked = loop.run_in_executor(self._threads, check, batch)
            except RuntimeError:  # the machine gives us no thread; the order must hold all the same
                checked = loop.create_future()
                checked.set_result(check(batch))
            self._batches.append((batch, checked))
            checked.add_done_callback(self._collect)

    def _collect(self, _checked: asyncio.Future[list[bool]]) -> None:
        while self._batches and self._batches[0][1].done():
            batch, checked = self._batches.popleft()
            self._finish(batch, checked.result())

    def _finish(self, batch: Sequence[Arrival], results: Sequence[bool]) -> None:
        for arrival, verified in zip(batch, results, strict=True):
            size = len(arrival.frame.raw)
            self.waiting -= 1
            self._bytes -= size
            self._per_key[arrival.frame.sender] -= size
            try:
                self._settle(arrival, verified)
            except Exception as error:  # noqa: BLE001 - it costs this message, not those behind it
                context = {"message": "settling a message failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)


def check(batch: Sequence[Arrival]) -> list[bool]:
    """Tell of each of *batch* whether its signature holds. Pure: it may run in any thread."""
    return [_holds(arrival.frame) for arrival in batch]


def _holds(frame: wire.Frame) -> bool:
    try:
        return wire.verify(frame)
    except MemoryError:  # what cannot be checked is not taken
        return False
