"""A queue for each verb: order within a verb, and no verb waits for another.

A verb has as many workers as its concurrency says (one: messages are handled in the order in which they arrived). A
worker lives while there is work, so a verb that nobody uses costs nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from remaphore.config.settings import VerbSettings
from remaphore.hooks.status import QueueState
from remaphore.protocol.message import Message
from remaphore.tasks import spawn

# What may wait in all, so that no permitted peer can fill the memory by inventing verbs or by large payloads.
MAX_WAITING = 10_000
MAX_WAITING_BYTES = 64 * 1024 * 1024


class Waiting(NamedTuple):
    """A message that waits, and since when by the monotonic clock."""

    message: Message
    since: float


@dataclass(slots=True)
class _Queue:
    waiting: deque[Waiting] = field(default_factory=deque)
    running: int = 0


class VerbQueues:
    """Hands messages to *handle*, and to *expired* those that waited longer than their verb allows."""

    def __init__(
        self,
        settings: Callable[[str], VerbSettings],
        *,
        handle: Callable[[Message], Awaitable[None]],
        expired: Callable[[Message], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._handle = handle
        self._expired = expired
        self._queues: dict[str, _Queue] = {}
        self._waiting = 0
        self._bytes = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, message: Message) -> str | None:
        """Queue *message*, or return why there is no room for it."""
        queue = self._queues.setdefault(message.verb, _Queue())
        settings = self._settings(message.verb)
        full = self._full(queue, settings, len(message.payload))
        if full is None:
            self._idle.clear()
            queue.waiting.append(Waiting(message, time.monotonic()))
            self._count(message, 1)
            if queue.running < settings.concurrency:
                queue.running += 1
                spawn(self._work(message.verb, queue), name=f"verb {message.verb}")
        elif not queue.running:
            del self._queues[message.verb]
        return full

    def state(self) -> Mapping[str, QueueState]:
        """Return how the queue of each verb is that has one."""
        now = time.monotonic()
        return {
            verb: QueueState(len(queue.waiting), queue.running, now - queue.waiting[0].since if queue.waiting else 0.0)
            for verb, queue in self._queues.items()
        }

    def take_all(self) -> list[Message]:
        """Take out all that wait, and return them."""
        taken = [waiting.message for queue in self._queues.values() for waiting in queue.waiting]
        for queue in self._queues.values():
            queue.waiting.clear()
        self._waiting = self._bytes = 0
        return taken

    async def join(self) -> None:
        """Return when nothing waits and nothing is being handled."""
        await self._idle.wait()

    def _full(self, queue: _Queue, settings: VerbSettings, size: int) -> str | None:
        if len(queue.waiting) >= settings.queue:
            return f"{len(queue.waiting)} messages of this verb wait already"
        if self._waiting >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
            return f"{self._waiting} messages wait already"
        return None

    def _count(self, message: Message, change: int) -> None:
        self._waiting += change
        self._bytes += change * len(message.payload)

    async def _work(self, verb: str, queue: _Queue) -> None:
        try:
            while queue.waiting:
                message, since = queue.waiting.popleft()
                self._count(message, -1)
                late = time.monotonic() - since > self._settings(verb).max_wait_seconds
                await (self._expired if late else self._handle)(message)
        finally:
            queue.running -= 1
            if not queue.running and not queue.waiting:
                self._queues.pop(verb, None)
            if not self._queues:
                self._idle.set()
