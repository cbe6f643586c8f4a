"""From the bus through the gate: everything that arrives is judged on arrival, in the order of arrival."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from remaphore.config.settings import Config
from remaphore.messaging.signer import Clock
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.gate import Filters, Gate, Policy
from remaphore.protocol.message import Message
from remaphore.protocol.peers import by_key
from remaphore.protocol.replay import ReplayWindow

# Messages that wait for their turn in a receiver that handles one at a time, and their payloads in bytes: the most
# memory that permitted peers can take up. Who is this far behind will not be in time for what comes next.
INBOX_LENGTH = 1_000
INBOX_BYTES = 64 * 1024 * 1024


class Intake:
    """Judges what the bus delivers. *taken* and *dropped* are called on arrival and must not wait."""

    def __init__(
        self,
        gate: Gate,
        *,
        taken: Callable[[Message], None],
        dropped: Callable[[Drop], None],
        clock: Clock = time.time_ns,
    ) -> None:
        self.gate = gate
        self._taken = taken
        self._dropped = dropped
        self._clock = clock

    def deliver(self, raw: bytes) -> None:
        """Judge *raw* by the time of its arrival, which is now."""
        verdict = self.gate.admit(raw, self._clock())
        if isinstance(verdict, Drop):
            self._dropped(verdict)
        else:
            self._taken(verdict)


class Inbox:
    """The one queue of a receiver that handles one message at a time."""

    def __init__(self, dropped: Callable[[Drop], None], admitted: Callable[[Message], None]) -> None:
        self._dropped = dropped
        self._admitted = admitted
        self._queue: asyncio.Queue[Message] = asyncio.Queue(INBOX_LENGTH)
        self._bytes = 0

    def put(self, message: Message) -> None:
        """Queue *message*, or drop it if the queue is full."""
        size = len(message.payload)
        if self._queue.full() or self._bytes + size > INBOX_BYTES:
            self._dropped(Drop(DropReason.BUSY, "the queue is full", size))
        else:
            self._bytes += size
            self._queue.put_nowait(message)
            self._admitted(message)

    async def get(self) -> Message:
        """Return the next message, in the order of arrival."""
        message = await self._queue.get()
        self._bytes -= len(message.payload)
        return message


def make_gate(config: Config, filters: Filters, *, subject: str, window: ReplayWindow | None = None) -> Gate:
    """Return the gate of a node with this configuration, for a receiver with these filters on this subject."""
    policy = Policy(
        destination=config.destination,
        peers=by_key(config.peers),
        allow_skew_ns=config.allow_skew_ns,
        filters=filters,
        subject=subject,
    )
    return Gate(policy, window)
