"""An operation that a caller of the bus waits for, while the task of the bus carries it out."""

from __future__ import annotations

import asyncio

from remaphore.errors import TransportError
from remaphore.transport.bus import Deliver
from remaphore.transport.nats_reader import Handle


class PendingOperation:
    """A message to publish, or, with *deliver*, a subscription; *done* is the future that its caller waits for.

    optional: of a subscription, whether a connection is of use without it.
    """

    __slots__ = ("data", "deliver", "done", "ended", "handle", "optional", "subject")

    def __init__(
        self,
        subject: str,
        done: asyncio.Future[None],
        *,
        data: bytes = b"",
        deliver: Deliver | None = None,
        optional: bool = False,
    ) -> None:
        self.subject = subject
        self.done = done
        self.data = data
        self.deliver = deliver
        self.optional = optional
        self.handle: Handle | None = None  # of the subscription, on the current connection
        self.ended = False

    @property
    def action(self) -> str:
        """What the broker has to permit, in the words of its error: `publish` or `subscription`."""
        return "publish" if self.deliver is None else "subscription"

    @property
    def failed(self) -> bool:
        """Whether the caller got an error; a caller that was cancelled does not count."""
        return self.done.done() and not self.done.cancelled() and self.done.exception() is not None

    def receive(self, data: bytes) -> None:
        """Deliver a message, unless the subscription has ended."""
        if self.deliver is not None and not self.ended:
            self.deliver(data)

    def settle(self, error: TransportError | None = None) -> None:
        """End the caller's wait, with *error* if there is one; only the first call has an effect."""
        if self.done.done():
            return  # settled before, or its caller was cancelled
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)
