"""Admission without a daemon: what arrives passes the gate and the verifier, and is queued in memory only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator

from remaphore.messaging.signer import Clock
from remaphore.protocol.drop import Drop, DropKind, DropReason
from remaphore.protocol.gate import Gate
from remaphore.protocol.message import Message
from remaphore.receiving.batches import Arrival
from remaphore.receiving.throttle import DropGroups
from remaphore.receiving.verifier import FULL as VERIFIER_FULL
from remaphore.receiving.verifier import Verified, Verifier

# Bytes that wait in a receiver that handles one message at a time: the most memory that permitted peers can occupy. In
# bytes and not in messages, so that a burst of small ones is no loss: 5,000 of 400 bytes need 7 MiB.
INBOX_BYTES = 64 * 1024 * 1024
FULL = "the queue is full"
# What a message counts for in addition to its texts: the objects around them need 0.5 KiB, the replay window 0.3.
OVERHEAD_BYTES = 1024


class InlineAdmission:
    """Checks what the bus delivers. *on_accept* and *on_drop* are called in the event loop and must not wait.

    Accepted messages are passed on in the order of arrival, once their signature is verified, by batches: each is
    accepted when it is asked for, and if *on_accept* raises, it is called again with those that are left.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        on_accept: Callable[[Iterator[Message]], None],
        on_drop: Callable[[Drop], None],
        clock: Clock = time.time_ns,
    ) -> None:
        self._gate = gate
        self._on_drop = on_drop
        self._clock = clock
        self._dropped = DropGroups(on_drop)
        self._verifier = Verifier(lambda arrivals: on_accept(self._commit(arrivals)))

    def deliver(self, messages: Iterable[bytes]) -> None:
        """Check *messages*, which arrive now. If it raises, it is to be called again with those that are left."""
        gate, now = self._gate, self._clock()
        judge = gate.judge
        try:
            for raw in messages:
                judged = judge(raw, now) or gate.check(raw, now)
                if isinstance(judged, DropKind):
                    self._dropped.add(judged, len(raw))
                elif isinstance(judged, Drop):
                    self._on_drop(judged)
                elif not self._verifier.put(Arrival.passed(gate, judged, now)):
                    exact = gate.is_exact(judged[0])
                    self._on_drop(Drop(DropReason.BUSY, VERIFIER_FULL, len(raw), gate.policy.subject, exact=exact))
        finally:
            self._dropped.flush()

    async def join(self) -> None:
        """Return when every arrival has ended in one of the two callbacks."""
        await self._verifier.join()

    def close(self) -> None:
        """End the verifying processes. What still waits for them is neither accepted nor dropped."""
        self._verifier.close()

    def _commit(self, arrivals: Verified) -> Iterator[Message]:
        commit = self._gate.commit
        for (_, frame, now, digest, _), verified in arrivals:
            verdict = commit(frame, now, digest=digest, verified=verified)
            if isinstance(verdict, Drop):
                self._on_drop(verdict)
            else:
                yield verdict


class Inbox:
    """The single queue of a receiver that handles one message at a time.

    *on_admit* gets each message that was queued, *on_full* each that found the queue full.
    """

    def __init__(self, *, on_admit: Callable[[Message], object], on_full: Callable[[Message], object]) -> None:
        self._on_admit = on_admit
        self._on_full = on_full
        self._queue: asyncio.Queue[Message] = asyncio.Queue()
        self._bytes = 0

    def put(self, message: Message) -> None:
        """Queue *message*, unless the queue is full."""
        size = _held_bytes(message)
        if self._bytes + size > INBOX_BYTES:
            self._on_full(message)
        else:
            self._bytes += size
            self._queue.put_nowait(message)
            self._on_admit(message)

    def extend(self, messages: Iterable[Message]) -> None:
        """Queue each of *messages*."""
        for message in messages:
            self.put(message)

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return self._queue.empty()

    def pop_all(self) -> list[Message]:
        """Remove all messages that wait, and return them."""
        self._bytes = 0
        return [self._queue.get_nowait() for _ in range(self._queue.qsize())]

    async def get(self) -> Message:
        """Return the next message, in the order of arrival."""
        message = await self._queue.get()
        self._bytes -= _held_bytes(message)
        return message


def _held_bytes(message: Message) -> int:
    """Return how much memory *message* needs while it waits, rounded up.

    A character of a text needs up to four bytes in memory. A message of the longest destination and verb would
    otherwise need five times what it counts for.
    """
    return OVERHEAD_BYTES + len(message.payload) + 4 * (len(message.destination) + len(message.verb))
