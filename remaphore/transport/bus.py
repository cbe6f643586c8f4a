"""What the rest of remaphore asks of a message bus; `nats_client` and `memory` provide it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Deliver = Callable[[bytes], None]


class Bus(Protocol):
    """A connection on which messages are published and received; it mends itself until it is closed."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""

    @property
    def reconnects(self) -> int:
        """How many connections there were after the first."""

    @property
    def max_payload(self) -> int:
        """The most bytes that one message may have."""

    async def publish(self, subject: str, data: bytes, *, timeout: float | None = None) -> None:
        """Return once the broker has *data*.

        timeout: seconds to wait until *data* can be written, should the connection be away, None for ever;
        BrokerUnavailableError then says that it was not. Raises PayloadTooLargeError, SubjectDeniedError, or
        ConnectionLostError when the connection ended before the broker confirmed, or the broker took too long over it.
        """

    async def subscribe(self, subject: str, deliver: Deliver) -> None:
        """Call *deliver*, a plain function that must not block, with every message on *subject* from now on.

        Returns once the broker has confirmed. The subscription outlives reconnects; what is published while the
        connection is away is lost, as NATS has it. Raises SubjectDeniedError.
        """

    async def unsubscribe(self, subject: str) -> None:
        """Receive nothing more on *subject*. Does nothing if there is no subscription."""

    async def close(self) -> None:
        """End the connection. Calling it again does nothing."""
