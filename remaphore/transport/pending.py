"""What a caller of the bus waits for while the bus, in a task of its own, does it."""

from __future__ import annotations

import asyncio

from remaphore.errors import TransportError
from remaphore.transport.bus import Deliver
from remaphore.transport.nats_reader import Handle


class PendingOperation:
    """What a caller waits for: a message to be sent, or, with *deliver*, a subscription."""

    __slots__ = ("data", "deliver", "done", "ended", "handle", "subject")

    def __init__(
        self, subject: str, done: asyncio.Future[None], *, data: bytes = b"", deliver: Deliver | None = None
    ) -> None:
        self.subject = subject
        self.done = done
        self.data = data
        self.deliver = deliver
        self.handle: Handle | None = None  # on the connection of the moment
        self.ended = False

    @property
    def action(self) -> str:
        """What the broker would have to permit, in its words."""
        return "publish" if self.deliver is None else "subscription"

    @property
    def failed(self) -> bool:
        """Whether the caller has been told of an error; a caller that gave up does not count."""
        return self.done.done() and not self.done.cancelled() and self.done.exception() is not None

    def receive(self, data: bytes) -> None:
        """Hand on a message, unless the subscription has ended."""
        if self.deliver is not None and not self.ended:
            self.deliver(data)

    def settle(self, error: TransportError | None = None) -> None:
        """Tell the caller how it went; only the first time counts."""
        if self.done.done():
            return  # its caller was cancelled, or knows already
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)
