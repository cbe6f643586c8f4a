"""A queue for each verb: order within a verb, and no verb waits for another.

A verb has as many workers as its concurrency says (one: messages are handled in the order in which they arrived). A
worker lives while there is work, so a verb that nobody uses costs nothing. What may wait is bounded, and shared: where
there is no room, who has the most waiting makes room for who has less, so that no peer can keep the others out.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from remaphore.config.settings import VerbSettings
from remaphore.hooks.stats import QueueState
from remaphore.protocol.message import Message
from remaphore.tasks import spawn

# What may wait or be in hand in all, so that no permitted peer can fill the memory by large payloads.
MAX_WAITING = 10_000
MAX_WAITING_BYTES = 64 * 1024 * 1024
# Workers in all, and of the verbs that one sender woke: each is a task, and a peer can invent verbs without end. Nobody
# has as many directories of handlers.
MAX_WORKERS = 2_000
MAX_WORKERS_PER_SENDER = 500
# What a message counts for beside its payload, when it is asked who has the most waiting.
OVERHEAD_BYTES = 1024


class Waiting(NamedTuple):
    """A message that waits, and since when by the monotonic clock."""

    message: Message
    since: float


@dataclass(slots=True)
class _Queue:
    waiting: deque[Waiting] = field(default_factory=deque)
    workers: int = 0
    running: int = 0  # messages in hand: a worker that was just made has none yet


class VerbQueues:
    """Hands messages to *handle*, and to *expired* those that waited longer than their verb allows."""

    def __init__(
        self,
        settings: Callable[[str], VerbSettings],
        *,
        handle: Callable[[Message], Awaitable[Awaitable[None] | None]],
        expired: Callable[[Message], Awaitable[None]],
        displaced: Callable[[Message], None],
    ) -> None:
        """*displaced* gets what was queued and had to make room.

        *handle* may return what is left to do once the message's turn is over, such as its reply. The worker takes the
        next message meanwhile, and no more than that one: who cannot get rid of replies does not go on for ever.
        """
        self._settings = settings
        self._handle = handle
        self._expired = expired
        self._displaced = displaced
        self._queues: dict[str, _Queue] = {}
        self._waiting = 0
        self._bytes = 0
        self._held: Counter[str] = Counter()  # bytes that wait or are in hand, by sender
        self._workers: Counter[str] = Counter()  # by who woke them
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, message: Message) -> str | None:
        """Queue *message*, or return why there is no room for it."""
        settings = self._settings(message.verb)
        queue = self._queues.get(message.verb)
        workers = queue.workers if queue else 0
        another = workers < settings.concurrency and self._may_wake(message.sender)
        if not workers and not another:
            return "too many verbs are being handled already"
        queue = queue or _Queue()
        while (full := self._full(queue, settings, len(message.payload))) is not None:
            if not self._make_room(queue, settings, message):
                return full
        self._queues[message.verb] = queue
        self._idle.clear()
        queue.waiting.append(Waiting(message, time.monotonic()))
        self._count(message, 1)
        if another:
            self._wake(message, queue)
        return None

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
        for message in taken:
            self._count(message, -1)
        return taken

    async def join(self) -> None:
        """Return when nothing waits and nothing is being handled."""
        await self._idle.wait()

    def _may_wake(self, sender: str) -> bool:
        return self._workers.total() < MAX_WORKERS and self._workers[sender] < MAX_WORKERS_PER_SENDER

    def _wake(self, message: Message, queue: _Queue) -> None:
        queue.workers += 1
        self._workers[message.sender] += 1
        spawn(self._work(message.verb, queue, message.sender), name=f"verb {message.verb}")

    def _full(self, queue: _Queue, settings: VerbSettings, size: int) -> str | None:
        if len(queue.waiting) >= settings.queue:
            return f"{len(queue.waiting)} messages of this verb wait already"
        if self._waiting >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
            return f"{self._waiting} messages wait or are being handled already"
        return None

    def _make_room(self, queue: _Queue, settings: VerbSettings, message: Message) -> bool:
        """Displace the latest message of who has the most waiting; False if that would be fair to nobody."""
        if len(queue.waiting) >= settings.queue:
            among, held, size = [queue], Counter(waiting.message.sender for waiting in queue.waiting), 1
        else:
            among, held, size = list(self._queues.values()), self._held, OVERHEAD_BYTES + len(message.payload)
        sender, most = max(held.items(), key=lambda item: item[1], default=("", 0))
        if most < held[message.sender] + 2 * size:  # it would be the other way round afterwards
            return False
        latest = [(found.since, each, found) for each in among if (found := _latest(each, sender)) is not None]
        if not latest:  # all that it has is in hand
            return False
        _, place, displaced = max(latest, key=lambda item: item[0])
        place.waiting.remove(displaced)
        self._count(displaced.message, -1)
        self._displaced(displaced.message)
        return True

    def _count(self, message: Message, change: int) -> None:
        self._waiting += change
        self._bytes += change * len(message.payload)
        self._held[message.sender] += change * (OVERHEAD_BYTES + len(message.payload))
        if not self._held[message.sender]:
            del self._held[message.sender]

    async def _work(self, verb: str, queue: _Queue, woken_by: str) -> None:
        rest: Awaitable[None] | None = None
        try:
            while queue.waiting or rest is not None:
                before, rest = rest, await self._handle_next(verb, queue) if queue.waiting else None
                if before is not None:
                    await before
        finally:
            queue.workers -= 1
            self._workers[woken_by] -= 1
            if not self._workers[woken_by]:
                del self._workers[woken_by]
            if not queue.workers and not queue.waiting:
                self._queues.pop(verb, None)
            if not self._queues:
                self._idle.set()

    async def _handle_next(self, verb: str, queue: _Queue) -> Awaitable[None] | None:
        message, since = queue.waiting.popleft()
        queue.running += 1
        late = time.monotonic() - since > self._settings(verb).max_wait_seconds
        try:
            return await (self._expired if late else self._handle)(message)
        finally:
            queue.running -= 1
            self._count(message, -1)


def _latest(queue: _Queue, sender: str) -> Waiting | None:
    return next((waiting for waiting in reversed(queue.waiting) if waiting.message.sender == sender), None)
