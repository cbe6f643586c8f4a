"""Waiting for messages of several nodes, until enough of them are heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple, Self

from remaphore.protocol.message import Message
from remaphore.protocol.quorum import SenderQuorum
from remaphore.receiving.inline import Inbox


class Heard(NamedTuple):
    """A message of a node that is waited for.

    message: the message, verified. first: whether it is the first one of its destination, which counts.
    """

    message: Message
    first: bool


class Wait:
    """A wait in progress. Iterate over it for the first message of each destination, in the order of arrival.

    The iteration ends when enough destinations are heard, or at the deadline (seconds of the loop's clock, None for
    none).
    """

    def __init__(self, inbox: Inbox, quorum: SenderQuorum, deadline: float | None) -> None:
        self._inbox = inbox
        self._quorum = quorum
        self._deadline = deadline

    @property
    def expected(self) -> tuple[str, ...]:
        """The destinations that are waited for, in natural order."""
        return self._quorum.expected

    @property
    def required(self) -> int:
        """How many of them are required."""
        return self._quorum.required

    @property
    def heard(self) -> tuple[str, ...]:
        """The destinations that are heard, in the order of arrival."""
        return tuple(self._quorum.heard)

    @property
    def missing(self) -> tuple[str, ...]:
        """The destinations that are not heard yet."""
        return self._quorum.missing

    @property
    def met(self) -> bool:
        """Whether enough destinations are heard."""
        return self._quorum.met

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """Return the next message that counts. Raise StopAsyncIteration at the end, see `Wait`."""
        while (heard := await self._next()) is not None:
            if heard.first:
                return heard.message
        raise StopAsyncIteration

    async def events(self) -> AsyncIterator[Heard]:
        """Yield all messages of the nodes that are waited for, up to the same end as the iteration."""
        while (heard := await self._next()) is not None:
            yield heard

    async def _next(self) -> Heard | None:
        while not self._quorum.met:
            try:
                async with asyncio.timeout_at(self._deadline):
                    message = await self._inbox.get()
            except TimeoutError:
                return None
            if self._quorum.expects(message):
                return Heard(message, self._quorum.count(message))
        return None
