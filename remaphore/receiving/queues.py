"""A queue for each verb: messages of a verb are handled in order, and no verb waits for another.

A verb has as many workers as its concurrency (by default one, so that its messages are handled in the order in
which they arrived). A worker lives while there is work, so a verb that is not used costs nothing. What may wait is
bounded, and the room is shared: when it is used up, the sender with the most waiting makes room for one with less, so
that no peer can keep the others out.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, KeysView, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from remaphore.config.settings import VerbSettings
from remaphore.hooks.stats import QueueState
from remaphore.protocol.message import Message

# Messages that may wait or run in all, and the bytes of their payloads, so that no permitted peer can fill the memory.
MAX_WAITING = 10_000
MAX_WAITING_BYTES = 64 * 1024 * 1024
# Workers in all, and those that one sender woke: each is a task, and a peer can invent verbs without end. No site has
# this many directories of handlers.
MAX_WORKERS = 2_000
MAX_WORKERS_PER_SENDER = 500
# Turns that are over at once, such as those of messages that waited too long, before the event loop does something
# else: 10,000 would keep it busy for a second.
MAX_TURNS = 100
# What a message counts for in addition to its payload when the sender with the most waiting is determined.
OVERHEAD_BYTES = 1024

# What costs one message, and not those behind it. The others, SystemExit and KeyboardInterrupt, end the event loop.
COSTS_A_MESSAGE = (Exception, asyncio.CancelledError)

AfterTurn = Callable[[], asyncio.Future[Any] | None]
EndTurn = Callable[[AfterTurn | None], None]


class Waiting(NamedTuple):
    """A message that waits, and since when by the monotonic clock."""

    message: Message
    since: float


@dataclass(slots=True)
class _Queue:
    waiting: deque[Waiting] = field(default_factory=deque)
    workers: int = 0
    running: int = 0  # messages that are being handled: a worker that was just started has none yet


class VerbQueues:
    """Passes messages to *on_message*, and those that waited longer than their verb allows to *on_expired*."""

    def __init__(
        self,
        settings: Callable[[str], VerbSettings],
        *,
        on_message: Callable[[Message, EndTurn], None],
        on_expired: Callable[[Message], None],
        on_evicted: Callable[[Message], None],
    ) -> None:
        """*on_evicted* gets a message that was queued and had to make room.

        *on_message* begins the turn of a message, and calls the function that it gets once when the turn is over, at
        once or later; if it raises, the turn is over. It may give that a function, which is called when the message no
        longer counts as running, and may return what is left to do, such as sending the reply. The worker takes the
        next message meanwhile, but only that one: if replies cannot be sent, handling stops too.
        """
        self._settings = settings
        self._on_message = on_message
        self._on_expired = on_expired
        self._on_evicted = on_evicted
        self._queues: dict[str, _Queue] = {}
        self._waiting = 0
        self._bytes = 0
        self._held: Counter[str] = Counter()  # bytes that wait or run, by sender
        self._workers: Counter[str] = Counter()  # by the sender that woke them
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, message: Message) -> str | None:
        """Queue *message*, or return why there is no room for it."""
        verb, sender = message.verb, message.sender
        settings = self._settings(verb)
        queue = self._queues.get(verb) or _Queue()
        another = queue.workers < settings.concurrency and self._may_wake(sender)
        if not queue.workers and not another:
            return "too many verbs are already being handled"
        while True:
            if len(queue.waiting) >= settings.queue:
                full = f"messages of this verb that are already waiting: {len(queue.waiting)}"
            elif self._waiting >= MAX_WAITING or self._bytes + len(message.payload) > MAX_WAITING_BYTES:
                full = f"messages that are already waiting or being handled: {self._waiting}"
            else:
                break
            if not self._make_room(queue, settings, message):
                return full
        if another:  # first, because nothing may have changed if this raises; it begins to work after this
            self._wake(verb, queue, sender)
        self._queues[verb] = queue
        self._idle.clear()
        queue.waiting.append(Waiting(message, time.monotonic()))
        self._count(message, 1)
        return None

    @property
    def verbs(self) -> KeysView[str]:
        """The verbs of which messages wait or run: a view, which changes with them."""
        return self._queues.keys()

    @property
    def held(self) -> int:
        """The number of messages that wait or run."""
        return self._waiting

    def state(self) -> Mapping[str, QueueState]:
        """Return the state of the queue of each verb that has one."""
        now = time.monotonic()
        return {
            verb: QueueState(len(queue.waiting), queue.running, now - queue.waiting[0].since if queue.waiting else 0.0)
            for verb, queue in self._queues.items()
        }

    def apply_settings(self) -> None:
        """Wake the workers that new settings permit for what waits. Those that they no longer permit end by themselves.

        Without this, a verb of which no more messages arrive would keep its old concurrency.
        """
        for verb, queue in self._queues.items():
            missing = self._settings(verb).concurrency - queue.workers
            for waiting in tuple(queue.waiting)[: max(0, missing)]:
                if self._may_wake(waiting.message.sender):
                    self._wake(verb, queue, waiting.message.sender)

    def pop_all(self) -> list[Message]:
        """Remove all messages that wait, and return them."""
        popped = [waiting.message for queue in self._queues.values() for waiting in queue.waiting]
        for queue in self._queues.values():
            queue.waiting.clear()
        for message in popped:
            self._count(message, -1)
        return popped

    async def join(self) -> None:
        """Return when no message waits or runs, and what was left to do of each is done."""
        await self._idle.wait()

    def _may_wake(self, sender: str) -> bool:
        return self._workers.total() < MAX_WORKERS and self._workers[sender] < MAX_WORKERS_PER_SENDER

    def _wake(self, verb: str, queue: _Queue, sender: str) -> None:
        asyncio.get_running_loop().call_soon(_Worker(self, verb, queue, sender).work)
        queue.workers += 1
        self._workers[sender] += 1

    def _make_room(self, queue: _Queue, settings: VerbSettings, message: Message) -> bool:
        """Evict the latest message of the sender with the most waiting; return False if that would not be fair.

        Where the verb's own queue is full, senders are compared by their messages in it; where the room for all is
        used up, by their bytes in all queues. A sender makes room only if it still has at least as much as
        the newcomer's sender afterwards, or the two would evict each other in turns. An example for a queue of 10:

            A has 10 waiting, B sends: 10 >= 0 + 2, A's latest is evicted; then A has 9 and B 1
            B sends more: 9 >= 1 + 2, 8 >= 2 + 2, 7 >= 3 + 2, 6 >= 4 + 2; then A has 5 and B 5
            B sends once more: 5 < 5 + 2, so B's message finds the queue full

        The latest message is evicted, not the oldest: it has waited the least, and the order within the verb is kept.
        """
        if len(queue.waiting) >= settings.queue:
            among, held, size = [queue], Counter(waiting.message.sender for waiting in queue.waiting), 1
        else:
            among, held, size = list(self._queues.values()), self._held, OVERHEAD_BYTES + len(message.payload)
        sender, most = max(held.items(), key=lambda item: item[1], default=("", 0))
        if most < held[message.sender] + 2 * size:
            return False
        latest: tuple[Waiting, _Queue] | None = None
        for candidate in among:
            own = (waiting for waiting in reversed(candidate.waiting) if waiting.message.sender == sender)
            found = next(own, None)
            if found is not None and (latest is None or found.since > latest[0].since):
                latest = found, candidate
        if latest is None:  # all that this sender has is being handled
            return False
        evicted, place = latest
        place.waiting.remove(evicted)
        self._count(evicted.message, -1)
        self._on_evicted(evicted.message)
        return True

    def _begin(self, message: Message, since: float, end: EndTurn) -> None:
        if time.monotonic() - since > self._settings(message.verb).max_wait_seconds:
            self._on_expired(message)
            end(None)
        else:
            self._on_message(message, end)

    def _count(self, message: Message, change: int) -> None:
        self._waiting += change
        self._bytes += change * len(message.payload)
        self._held[message.sender] += change * (OVERHEAD_BYTES + len(message.payload))
        if not self._held[message.sender]:
            del self._held[message.sender]

    def _retire(self, worker: _Worker) -> None:
        worker.queue.workers -= 1
        self._workers[worker.woken_by] -= 1
        if not self._workers[worker.woken_by]:
            del self._workers[worker.woken_by]
        if not worker.queue.workers and not worker.queue.waiting:
            self._queues.pop(worker.verb, None)
        if not self._queues:
            self._idle.set()


class _Worker:
    """Handles messages of one verb, one at a time, until none waits, or fewer workers are permitted by new settings.

    It is no task: a message that a plugin ends at once would pay more for that than for all the rest of its turn.
    Whatever is raised costs its message only: a worker that ended would leave its queue without one.
    """

    __slots__ = ("_before", "_message", "_queues", "_rest", "_working", "queue", "verb", "woken_by")

    def __init__(self, queues: VerbQueues, verb: str, queue: _Queue, woken_by: str) -> None:
        self.verb = verb
        self.queue = queue
        self.woken_by = woken_by
        self._queues = queues
        self._message: Message | None = None  # whose turn it is
        self._rest: asyncio.Future[Any] | None = None  # what is left to do of the last message
        self._before: asyncio.Future[Any] | None = None  # what is waited for before the next one
        self._working = False

    def work(self) -> None:
        """Begin the turn of the next message, or end if none waits."""
        if self._working:  # a turn was over at once: the loop below continues
            return
        self._working = True
        turns = 0
        try:
            while self._message is None and self._before is None:
                if turns == MAX_TURNS:
                    asyncio.get_running_loop().call_soon(self.work)
                    break
                turns += 1
                if self.queue.waiting and self.queue.workers <= self._queues._settings(self.verb).concurrency:  # noqa: SLF001 - they are one
                    self._begin(*self.queue.waiting.popleft())
                elif self._rest is not None:
                    rest, self._rest = self._rest, None
                    self._wait_for(rest)
                else:
                    self._queues._retire(self)  # noqa: SLF001 - the same
                    break
        except BaseException:  # such as no memory for a step of our own
            asyncio.get_running_loop().call_soon(self.work)
            raise
        finally:
            self._working = False

    def _begin(self, message: Message, since: float) -> None:
        self._message = message
        self.queue.running += 1
        try:
            self._queues._begin(message, since, self._end)  # noqa: SLF001 - the same
        except COSTS_A_MESSAGE as error:
            self._report(error)
            self._end(None)

    def _end(self, after: AfterTurn | None) -> None:
        message, self._message = self._message, None
        if message is None:
            return
        try:
            self.queue.running -= 1
            self._queues._count(message, -1)  # noqa: SLF001 - the same
            before, self._rest = self._rest, None
            try:
                self._rest = None if after is None else after()
            except COSTS_A_MESSAGE as error:
                self._report(error)
            if before is not None:
                self._wait_for(before)
        finally:
            self.work()

    def _wait_for(self, before: asyncio.Future[Any]) -> None:
        if before.done():
            self._note_done(before)
        else:
            before.add_done_callback(self._continue)
            self._before = before  # last: without the callback, nothing would end the wait

    def _continue(self, before: asyncio.Future[Any]) -> None:
        self._note_done(before)
        self.work()

    def _note_done(self, before: asyncio.Future[Any]) -> None:
        self._before = None
        try:
            before.result()
        except COSTS_A_MESSAGE as error:
            self._report(error)

    def _report(self, error: BaseException) -> None:
        context = {"message": f"handling a message of the verb {self.verb!r} failed", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)
