"""A request that goes out in batches: the next one when all of the last have answered, or when their time is over.

A message has one pattern, so each destination of a batch is asked by a message of its own; those of a batch are under
way together. A request that goes to all at once is one batch with one message, so that who collects sees no difference.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence, Set
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import NamedTuple

from remaphore.protocol.exchange import Summary
from remaphore.protocol.message import Reply
from remaphore.requesting.requester import Request
from remaphore.tasks import spawn


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """How a request rolls through its destinations.

    size: how many are asked together, with *percent* that share of all, rounded up. pause: seconds between two batches.
    stop_after: how many destinations without success end it; None: it goes on to the last.
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
    """What happened to *request*: it was sent, or *reply* came, or it has *ended* and nothing more will come."""

    request: Request
    reply: Reply | None = None
    ended: bool = False


class Rollout:
    """Requests to *destinations*, batch by batch as *plan* has it, or by one message to the pattern *to* without one.

        rollout = Rollout(partial(node.request, "deploy", timeout=30), ["com.a", "com.b"], plan=BatchPlan(size=1))
        async with aclosing(rollout.events()) as events:
            async for event in events: ...
        rollout.summary()

    *ask* opens a request to the pattern that it is given as `to`; a time limit in it is that of one batch.
    """

    def __init__(
        self,
        ask: Callable[..., AbstractAsyncContextManager[Request]],
        destinations: Sequence[str],
        *,
        to: str = "",
        plan: BatchPlan | None = None,
    ) -> None:
        self.requests: list[Request] = []
        self._destinations = tuple(destinations)
        self._batches = plan.batches(destinations) if plan else (self._destinations,)
        self._to = to
        self._plan = plan
        self._ask = ask
        self._begun = 0  # batches

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield what happens, as it happens. Who leaves the loop early closes the generator: that ends the requests.

        Raises what opening a request raises; those that were sent together with it are ended then.
        """
        for number, batch in enumerate(self._batches):
            if self._plan and number:
                await asyncio.sleep(self._plan.pause)
            self._begun += 1
            async with aclosing(self._run(batch if self._plan else (self._to,))) as events:
                async for event in events:
                    yield event
            if self._is_enough():
                return

    def summary(self) -> Summary:
        """Return how things stand, of all batches together."""
        parts = [request.summary() for request in self.requests]
        asked = frozenset(name for batch in self._batches[: self._begun] for name in batch)
        answered = _united(part.answered for part in parts)
        return Summary(
            expected=self._destinations,
            answered=self._in_order(answered),
            failed=self._in_order(_united(part.failed for part in parts)),
            rejected=self._in_order(_united(part.rejected for part in parts)),
            missing=self._in_order(asked - answered),
            dropped=sum(part.dropped for part in parts),
            without_code=self._in_order(_united(part.without_code for part in parts)),
            not_asked=self._in_order(frozenset(self._destinations) - asked),
        )

    async def _run(self, patterns: Sequence[str]) -> AsyncGenerator[Event, None]:
        arrived: asyncio.Queue[Event | Exception] = asyncio.Queue()
        tasks = [spawn(self._follow(pattern, arrived), name=f"request to {pattern}") for pattern in patterns]
        ended = 0
        try:
            while ended < len(tasks):
                event = await arrived.get()
                if isinstance(event, Exception):
                    raise event
                ended += event.ended
                yield event
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _follow(self, pattern: str, arrived: asyncio.Queue[Event | Exception]) -> None:
        try:
            async with self._ask(to=pattern) as request:
                self.requests.append(request)
                arrived.put_nowait(Event(request))
                async for reply in request:
                    arrived.put_nowait(Event(request, reply))
            arrived.put_nowait(Event(request, ended=True))
        except Exception as error:  # noqa: BLE001 - it is raised where the events are read
            arrived.put_nowait(error)

    def _is_enough(self) -> bool:
        if self._plan is None or self._plan.stop_after is None:
            return False
        summary = self.summary()
        return len(summary.expected) - len(summary.ok) - len(summary.not_asked) >= self._plan.stop_after

    def _in_order(self, names: Set[str]) -> tuple[str, ...]:
        return tuple(name for name in self._destinations if name in names)


def _united(groups: Iterable[Iterable[str]]) -> frozenset[str]:
    return frozenset().union(*groups)
