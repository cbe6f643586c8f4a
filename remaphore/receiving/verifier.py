"""Verifying signatures while messages arrive: many in processes, few in the event loop, results in order of arrival.

A batch is worth a process from about 16 messages on; fewer are verified in the loop, which is sooner.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from operator import length_hint

from remaphore.receiving.batches import Arrival, SignatureBatch
from remaphore.receiving.verifying_processes import VerifyingProcesses

WORTH_A_PROCESS = 16
# How long the loop verifies before it receives again. What it receives at a time is verified within that, so that
# without processes nothing piles up here that could wait in the broker.
TURN_SECONDS = 0.05
# Bytes that may wait for verification, in all and of one key that messages claim. What one key leaves is for others.
MAX_BYTES = 64 * 1024 * 1024
MAX_BYTES_PER_KEY = MAX_BYTES // 8 * 7
# A key of which bad signatures have arrived lately has less: a flood of them under the key of one peer delays that
# peer, and no other for longer than it takes to verify these.
MAX_BYTES_FORGED_KEY = 8 * 1024 * 1024
FORGED_SECONDS = 60.0
FULL = "too many messages are waiting to be checked"
# What a message counts for in addition to its bytes: the objects that are made of it, without the copy of its payload.
OVERHEAD_BYTES = 768


# Arrivals of one batch, and whether the signature of each is valid.
Verified = Iterator[tuple[Arrival, bool]]


class Verifier:
    """Hands over every arrival and whether its signature is valid, in the order in which they were put, by batches.

    *on_verified* is called with an iterator, which it exhausts. If it raises, that costs the arrival that it had got
    last: it is called again with the rest.
    """

    def __init__(self, on_verified: Callable[[Verified], None]) -> None:
        self._on_verified = on_verified
        self._batches: deque[SignatureBatch] = deque()  # all that have not been handed over
        self._unsent: deque[SignatureBatch] = deque()  # those of them that neither a process has nor have results
        self._waiting = 0  # in these
        self._in_hand: Iterator[Arrival] = iter(())  # what is left of the batch that is being handed over
        self._bytes = 0
        self._per_key: dict[str, int] = {}
        self._forged: dict[str, float] = {}  # when a bad signature of each key was found last
        self._scheduled = False
        self._handed_over = asyncio.Event()
        self._processes = VerifyingProcesses(self._advance, _report)

    @property
    def waiting(self) -> int:
        """How many arrivals have been put, and not been handed over yet."""
        return self._waiting + length_hint(self._in_hand)

    def put(self, arrival: Arrival) -> bool:
        """Accept *arrival*, or return False if too much waits already."""
        frame = arrival.frame
        sender = frame.sender
        size = OVERHEAD_BYTES + len(frame.raw)
        of_key = self._per_key.get(sender, 0) + size
        most = self._limit(sender) if sender in self._forged else MAX_BYTES_PER_KEY
        if self._bytes + size > MAX_BYTES or of_key > most:
            return False
        if not self._scheduled:
            self._schedule()
        unsent = self._unsent
        if not unsent or unsent[-1].full:
            batch = SignatureBatch()
            self._batches.append(batch)
            unsent.append(batch)
        unsent[-1].add(arrival)
        self._waiting += 1
        self._bytes += size
        self._per_key[sender] = of_key
        return True

    async def join(self) -> None:
        """Return when nothing waits for verification."""
        while self._batches:
            self._handed_over.clear()
            await self._handed_over.wait()

    def close(self) -> None:
        """End the processes. What still waits is not handed over any more."""
        self._processes.close()
        for left in (self._batches, self._unsent, self._per_key):
            left.clear()
        self._waiting = self._bytes = 0

    def _limit(self, sender: str) -> int:
        if time.monotonic() - self._forged[sender] < FORGED_SECONDS:
            return MAX_BYTES_FORGED_KEY
        del self._forged[sender]
        return MAX_BYTES_PER_KEY

    def _schedule(self) -> None:
        asyncio.get_running_loop().call_soon(self._advance)
        self._scheduled = True

    def _advance(self) -> None:
        """Let the processes, or the loop, verify what waits, and hand over what is verified."""
        self._scheduled = False
        try:
            few = len(self._batches) == 1 and len(self._batches[0].arrivals) < WORTH_A_PROCESS
            if self._unsent and (few or not self._processes.feed(self._unsent)):
                self._verify_here()
        except Exception as error:  # noqa: BLE001 - what waits must not wait forever
            _report(error)
            self._verify_here()
        while self._batches and (results := self._batches[0].results) is not None:
            self._hand_over(self._batches.popleft(), results)

    def _verify_here(self) -> None:
        ends = time.monotonic() + TURN_SECONDS
        while self._unsent:
            error = self._unsent[0].verify()
            self._unsent.popleft()  # after it: if it raised, it is verified again
            if error is not None:
                _report(error)
            if time.monotonic() >= ends:
                break
        if self._unsent:
            self._schedule()

    def _hand_over(self, batch: SignatureBatch, results: bytes | bytearray) -> None:
        self._waiting -= len(batch.arrivals)
        self._bytes -= batch.size + len(batch.arrivals) * OVERHEAD_BYTES
        try:
            self._release(batch, results)
        except Exception as error:  # noqa: BLE001 - it costs the room of a key, and none of the messages
            _report(error)
        self._in_hand = iter(batch.arrivals)
        verified = zip(self._in_hand, map(bool, results), strict=True)
        for _ in range(len(batch.arrivals) + 1):  # as often as one of them can raise
            try:
                self._on_verified(verified)
                break
            except Exception as error:  # noqa: BLE001 - it costs this message, not those behind it
                _report(error)
        self._handed_over.set()

    def _release(self, batch: SignatureBatch, results: bytes | bytearray) -> None:
        """Free the room that the keys of *batch* have, which is handed over in this turn; note bad signatures."""
        per_key = self._per_key
        for arrival, verified in zip(batch.arrivals, results, strict=True):
            frame = arrival.frame
            sender = frame.sender
            per_key[sender] -= OVERHEAD_BYTES + len(frame.raw)
            if not per_key[sender]:
                del per_key[sender]
            if not verified:
                self._forged[sender] = time.monotonic()


def _report(error: Exception) -> None:
    context = {"message": "verifying or accepting a message failed", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
