"""The requesting side: a message goes out, verified replies come in."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Set
from typing import NamedTuple, Self

from remaphore.config.settings import Config
from remaphore.errors import NoReceiversError, NotPermittedError
from remaphore.messaging.signer import Clock, Outgoing
from remaphore.protocol import peers, subject
from remaphore.protocol.drop import Drop
from remaphore.protocol.exchange import Exchange, Summary
from remaphore.protocol.message import Message, Reply
from remaphore.transport.bus import Bus


def expect(config: Config, pattern: str) -> tuple[peers.Peer, ...]:
    """Return the peers that a request to *pattern* addresses. Raises NoReceiversError if there are none."""
    responders = peers.addressed(config.peers, pattern)
    if not responders:
        raise NoReceiversError(f"no known receivers: no peer in {config.source} matches {pattern!r}")
    return responders


class Target(NamedTuple):
    """A known destination, and why a request would not ask it; empty: it would."""

    destination: str
    skip_reason: str = ""


def preview(config: Config, verb: str, pattern: str, *, key: str = "") -> tuple[Target, ...]:
    """Return whom a request would ask, and why not the others, in the order of the configuration, each once."""
    try:
        config.sender(verb, key)
    except NotPermittedError as error:
        return tuple(Target(name, str(error)) for name in names(config.peers))
    asked = frozenset(names(peers.addressed(config.peers, pattern)))
    known = frozenset(names(peers.by_key(config.peers).values()))
    return tuple(Target(name, _skip_reason(name, pattern, asked, known)) for name in names(config.peers))


def names(of: Iterable[peers.Peer]) -> tuple[str, ...]:
    """Return the destinations of some peers, each once, in their order: one with several keys is one node."""
    return tuple(dict.fromkeys(peer.destination for peer in of))


def _skip_reason(name: str, pattern: str, asked: Set[str], known: Set[str]) -> str:
    if name in asked:
        return ""
    if name not in known:
        return "its key is listed before under another destination, and the first counts"
    return f"the pattern {pattern!r} does not match it"


class Request:
    """A request under way. Iterate over it for the replies, in the order of arrival.

    The iteration ends when every expected destination has answered, or at the deadline. What was not taken (another's
    reply, a second one, a late one) goes to *on_drop* and is counted.
    """

    def __init__(
        self,
        outgoing: Outgoing,
        exchange: Exchange,
        *,
        on_drop: Callable[[Drop], None] = lambda _drop: None,
        clock: Clock = time.time_ns,
    ) -> None:
        self.outgoing = outgoing
        self._exchange = exchange
        self._on_drop = on_drop
        self._clock = clock
        self._arrived: asyncio.Queue[Reply] = asyncio.Queue()
        self._deadline: float | None = None

    @property
    def message(self) -> Message:
        """The request as it was sent."""
        return self.outgoing.message

    @property
    def expected(self) -> tuple[str, ...]:
        """The destinations that were asked."""
        return self._exchange.expected

    @property
    def missing(self) -> tuple[str, ...]:
        """The destinations that have not answered (yet)."""
        return self._exchange.missing

    @property
    def rejected(self) -> tuple[str, ...]:
        """The destinations that answered that they would not act."""
        return self.summary().rejected

    def summary(self) -> Summary:
        """Return how things stand."""
        return self._exchange.summary()

    async def start(self, bus: Bus, config: Config, *, subject_name: str, deadline: float | None) -> None:
        """Listen for replies, then publish. *deadline*: when iterating ends, by the loop's clock; None for never.

        Returns at the deadline too, if the broker went away and has not taken the request: then all are missing.
        """
        self._deadline = deadline
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await bus.subscribe(self._reply_subject(config), self._deliver)
                await bus.publish(subject.for_messages(config.subject, subject_name), self.outgoing.raw)

    async def stop(self, bus: Bus, config: Config) -> None:
        """Listen no more."""
        await bus.unsubscribe(self._reply_subject(config))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Reply:
        """Return the next verified reply."""
        if self._exchange.complete and self._arrived.empty():
            raise StopAsyncIteration
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._arrived.get()
        except TimeoutError:
            raise StopAsyncIteration from None

    def _deliver(self, raw: bytes) -> None:
        verdict = self._exchange.admit(raw, self._clock())
        if isinstance(verdict, Drop):
            self._on_drop(verdict)
        else:
            self._arrived.put_nowait(verdict)

    def _reply_subject(self, config: Config) -> str:
        return subject.for_replies(config.subject, self.message.digest)
