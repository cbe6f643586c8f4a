"""A request in batches: the next batch starts when all destinations of the last have answered, or at its timeout.

A message has one pattern, so each destination of a batch is sent a message of its own, and all messages of a batch are
in progress together. A request to all destinations at once is one batch: with one message if a single pattern addresses
them, else with a message for each. The collector of the replies sees no difference.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence, Set
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import NamedTuple

from remaphore.protocol.exchange import Summary
from remaphore.protocol.message import Reply
from remaphore.protocol.quorum import ReplyQuorum
from remaphore.protocol.receipt import Receipt
from remaphore.requesting.requester import Request
from remaphore.tasks import deadline_after, seconds_until, spawn

# Requests that are signed and sent together, before the next ones are. A thousand that are signed first and sent then
# would be seconds old when they are sent, and outside the time window of their receivers.
OPENING = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """How the destinations of a request are cut into batches.

    size: destinations per batch, or, with *percent*, their share of all destinations, rounded up: 30 % of 10 are 3, of
    11 they are 4. pause: seconds between two batches. stop_after: the number of destinations without success after
    which no further batch starts; None: no limit.
    """

    size: int
    percent: bool = False
    pause: float = 0.0
    stop_after: int | None = None

    def batches(self, destinations: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """Return *destinations* cut into batches, in their order."""
        size = max(1, -(-len(destinations) * self.size // 100) if self.percent else self.size)
        return tuple(tuple(destinations[start : start + size]) for start in range(0, len(destinations), size))


class Event(NamedTuple):
    """An event of *request*: it was sent, *reply* or *receipt* arrived, or it has *ended*: nothing more will arrive.

    more: the next event has arrived, too; output may wait for it.
    """

    request: Request
    reply: Reply | None = None
    ended: bool = False
    receipt: Receipt | None = None
    more: bool = False

    def release(self) -> None:
        """Free the room that the reply or the receipt occupied while it waited to be read."""
        if (arrived := self.reply or self.receipt) is not None:
            self.request.release(arrived)


class Rollout:
    """Requests to *destinations* in the batches of *plan*; without a plan, all at once.

    to: the pattern that addresses *destinations*, for one message to all of them if there is no plan; if it is empty,
    each is sent a message of its own.

        ask = partial(node.request, "deploy")
        rollout = Rollout(ask, ["com.example.a", "com.example.b"], timeout=30, plan=BatchPlan(size=1))
        async with aclosing(rollout.events()) as events:
            async for event in events: ...
        rollout.summary()

    ask: opens a request to the pattern of its argument `to`, which ends after the seconds of its argument `timeout`.
    timeout: seconds for each batch, None for no limit. It begins for all requests of a batch when the batch does:
    without a broker, each 100 of them would wait one after the other. quorum: how many destinations must succeed; once
    it is decided, nothing more is sent, and what is in progress ends.
    """

    def __init__(
        self,
        ask: Callable[..., AbstractAsyncContextManager[Request]],
        destinations: Sequence[str],
        *,
        timeout: float | None,
        to: str = "",
        plan: BatchPlan | None = None,
        quorum: ReplyQuorum | None = None,
    ) -> None:
        self.requests: list[Request] = []
        self._destinations = tuple(destinations)
        self._batches = plan.batches(destinations) if plan else (self._destinations,)
        self._timeout = timeout
        self._to = to
        self._plan = plan
        self._quorum = quorum
        self._ask = ask
        self._opening = asyncio.Semaphore(OPENING)

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield the events as they happen. Closing the generator (`aclosing`) ends the requests that are in progress.

        Raise what opening a request raises; the other requests of its batch are ended then.
        """
        for number, batch in enumerate(self._batches):
            if self._plan and number:
                await asyncio.sleep(self._plan.pause)
            deadline = deadline_after(self._timeout)
            patterns = (self._to,) if self._to and not self._plan else batch
            run = self._ask_one(patterns[0], deadline) if len(patterns) == 1 else self._ask_all(patterns, deadline)
            async with aclosing(run):
                async for event in run:
                    self._count(event)
                    try:
                        yield event
                    finally:
                        event.release()
            if self._decided():
                return
            if self._plan and self._plan.stop_after is not None:
                summary = self.summary()
                without_success = len(summary.expected) - len(summary.ok) - len(summary.not_asked)
                if without_success >= self._plan.stop_after:
                    return

    def summary(self) -> Summary:
        """Return the present state of all batches together."""
        parts = [request.summary() for request in self.requests]
        asked = _united(part.expected for part in parts)
        answered = _united(part.answered for part in parts)
        missing = asked - answered
        return Summary(
            expected=self._destinations,
            answered=self._in_order(answered),
            failed=self._in_order(_united(part.failed for part in parts)),
            rejected=self._in_order(_united(part.rejected for part in parts)),
            missing=self._in_order(missing),
            running=self._in_order(missing & _united(part.running for part in parts)),
            dropped=sum(part.dropped for part in parts),
            without_code=self._in_order(_united(part.without_code for part in parts)),
            not_asked=self._in_order(frozenset(self._destinations) - asked),
        )

    async def _ask_one(self, pattern: str, deadline: float | None) -> AsyncGenerator[Event, None]:
        async with AsyncExitStack() as stack:
            async with self._opening:
                if self._decided():
                    return
                left = seconds_until(deadline)
                request = await stack.enter_async_context(self._ask(to=pattern, timeout=left))
            self.requests.append(request)
            if self._decided():
                request.end()
            yield Event(request)
            async for arrived in request.events(keep=True):
                reply, receipt = (None, arrived) if isinstance(arrived, Receipt) else (arrived, None)
                yield Event(request, reply, receipt=receipt, more=request.has_event)
        yield Event(request, ended=True)

    async def _ask_all(self, patterns: Sequence[str], deadline: float | None) -> AsyncGenerator[Event, None]:
        # A task for each request puts its events into this queue, or the exception that ended it, or
        # None if the quorum was decided before it was sent.
        arrived: asyncio.Queue[Event | Exception | None] = asyncio.Queue()

        async def follow(pattern: str) -> None:
            event = None
            try:
                async for event in self._ask_one(pattern, deadline):
                    arrived.put_nowait(event)
            except Exception as error:  # noqa: BLE001 - it is raised where the events are read
                arrived.put_nowait(error)
            else:
                if event is None:
                    arrived.put_nowait(None)

        tasks = [spawn(follow(pattern), name=f"request to {pattern}") for pattern in patterns]
        ended = 0
        try:
            while ended < len(tasks):
                event = await arrived.get()
                if isinstance(event, Exception):
                    raise event
                ended += event is None or event.ended
                if event is not None:
                    yield event._replace(more=not arrived.empty())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            _release_all(arrived)  # after an error, or because the caller ended it

    def _decided(self) -> bool:
        return self._quorum is not None and self._quorum.decided

    def _count(self, event: Event) -> None:
        """Count *event* for the quorum; once it is decided, end all requests."""
        if self._quorum is None or self._decided():
            return
        if event.reply is not None:
            self._quorum.count(event.reply)
        elif event.ended:
            self._quorum.count_timeouts(len(event.request.missing))
        if self._decided():
            for request in self.requests:
                request.end()

    def _in_order(self, names: Set[str]) -> tuple[str, ...]:
        return tuple(name for name in self._destinations if name in names)


def _united(groups: Iterable[Iterable[str]]) -> frozenset[str]:
    return frozenset().union(*groups)


def _release_all(arrived: asyncio.Queue[Event | Exception | None]) -> None:
    while not arrived.empty():
        if isinstance(event := arrived.get_nowait(), Event):
            event.release()
