"""Receiving for local clients: one subscription of a subject for all of them, and one check of each message."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import structlog

from remaphore.config.settings import Config
from remaphore.messaging.signer import Clock
from remaphore.protocol.drop import Drop
from remaphore.protocol.gate import Filters, Gate
from remaphore.protocol.message import Message
from remaphore.receiving.gates import make_gate
from remaphore.receiving.inline import InlineAdmission
from remaphore.tasks import spawn
from remaphore.transport.bus import Bus

OnMessage = Callable[[Message], None]

_log = structlog.get_logger()


class Feeds:
    """The subjects on which clients receive now."""

    def __init__(self, bus: Bus, config: Config, clock: Clock) -> None:
        self._bus = bus
        self._config = config
        self._clock = clock
        self._feeds: dict[str, Feed] = {}

    @asynccontextmanager
    async def joined(self, subject: str, on_message: OnMessage, *, any_destination: bool) -> AsyncIterator[None]:
        """Call *on_message* with each verified message on *subject* for the length of a block.

        The block begins once the broker has confirmed. any_destination: with messages to other destinations as well.
        Raise TransportError.
        """
        feed = self._feeds.get(subject)
        if feed is None:
            feed = self._feeds[subject] = Feed(self._bus, self._config, self._clock, subject)
        feed.add(on_message, any_destination=any_destination)
        try:
            await feed.subscribed()
            yield
        finally:
            if not feed.remove(on_message, any_destination=any_destination):
                if self._feeds.get(subject) is feed:
                    del self._feeds[subject]
                await feed.close()

    def apply_config(self, config: Config) -> None:
        """Check the next messages by *config*."""
        self._config = config
        for feed in self._feeds.values():
            feed.apply_config(config)


class Feed:
    """One subject. Its messages are checked once for the clients that want those to us, once for the others."""

    def __init__(self, bus: Bus, config: Config, clock: Clock, subject: str) -> None:
        self._bus = bus
        self._config = config
        self._clock = clock
        self._subject = subject
        self._admissions: dict[bool, tuple[Gate, InlineAdmission]] = {}
        self._listeners: dict[bool, list[OnMessage]] = {False: [], True: []}
        self._subscribing: asyncio.Task[None] | None = None

    def add(self, on_message: OnMessage, *, any_destination: bool) -> None:
        """Call *on_message* with each message from now on."""
        self._listeners[any_destination].append(on_message)
        if any_destination not in self._admissions:
            self._admissions[any_destination] = self._make(any_destination)

    async def subscribed(self) -> None:
        """Return once the broker has confirmed. Raise TransportError."""
        if self._subscribing is None:
            self._subscribing = spawn(self._bus.subscribe(self._subject, self._deliver), name="agent subscription")
        await asyncio.shield(self._subscribing)

    def remove(self, on_message: OnMessage, *, any_destination: bool) -> bool:
        """Stop calling *on_message*; return whether others are left."""
        self._listeners[any_destination].remove(on_message)
        if not self._listeners[any_destination]:
            self._admissions.pop(any_destination)[1].close()
        return any(self._listeners.values())

    async def close(self) -> None:
        """End the subscription."""
        if self._subscribing is not None:
            self._subscribing.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._subscribing
            await self._bus.unsubscribe(self._subject)

    def apply_config(self, config: Config) -> None:
        """Check the next messages by *config*. What was accepted before is remembered: it is not accepted again."""
        self._config = config
        for any_destination, (gate, admission) in tuple(self._admissions.items()):
            self._admissions[any_destination] = self._make(any_destination, gate)
            spawn(close_when_done(admission), name="end of an admission")

    def _make(self, any_destination: bool, before: Gate | None = None) -> tuple[Gate, InlineAdmission]:  # noqa: FBT001
        filters = Filters(any_destination=any_destination)
        gate = make_gate(self._config, filters, subject=self._subject, window=before.window if before else None)
        listeners = self._listeners[any_destination]

        def on_accept(messages: Iterable[Message]) -> None:
            for message in messages:
                for on_message in tuple(listeners):
                    on_message(message)

        def on_drop(drop: Drop) -> None:
            _log.debug("message_dropped", reason=str(drop.reason), detail=drop.detail)

        return gate, InlineAdmission(gate, on_accept=on_accept, on_drop=on_drop, clock=self._clock)

    def _deliver(self, raw: bytes) -> None:
        for _, admission in self._admissions.values():
            admission.deliver((raw,))


async def close_when_done(admission: InlineAdmission) -> None:
    """Close *admission* once every message that has arrived was accepted or dropped."""
    await admission.join()
    admission.close()
