"""The interface of a message bus, which `nats_client` and `memory` implement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

Deliver = Callable[[bytes], None]
DeliverBatch = Callable[[Iterator[bytes]], None]


class Incoming(NamedTuple):
    """A message with its subject and headers, none of which is verified. status: of a server, such as 404; else 0."""

    subject: str
    status: int
    headers: Mapping[str, str]
    data: bytes


Hear = Callable[[Incoming], None]
Callback = Callable[[], None]


def is_first(responses: Sequence[Incoming]) -> bool:
    """Return whether there is a response: a request with one is complete."""
    return bool(responses)


class Bus(Protocol):
    """A connection on which messages are published and received; it reconnects by itself until it is closed."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""

    @property
    def reconnects(self) -> int:
        """The number of connections after the first."""

    @property
    def about(self) -> Mapping[str, str]:
        """What the broker reports about itself, such as its version; empty if nothing is known."""

    @property
    def max_payload(self) -> int:
        """The largest size of one message in bytes."""

    async def publish(self, subject: str, data: bytes, *, timeout: float | None = None) -> None:
        """Return once the broker has *data*.

        timeout: seconds to wait until *data* can be written while there is no connection, None for no limit. After it,
        BrokerUnavailableError states that *data* was not sent. Raise PayloadTooLargeError, SubjectDeniedError, or
        ConnectionLostError if the connection ended before the broker confirmed, or the broker took too long to confirm.
        """

    async def subscribe(self, subject: str, deliver: Deliver, *, optional: bool = False) -> None:
        """Call *deliver*, a plain function that must not block, with every message on *subject* from now on.

        Return once the broker has confirmed. The subscription outlives reconnects; messages that are published while
        there is no connection are lost, as always with core NATS. Raise SubjectDeniedError. A broker that does not
        permit the subscription any more when there is a new connection is not used, unless it is *optional*: it ends.
        """

    async def subscribe_batches(self, subject: str, deliver: DeliverBatch) -> None:
        """Call *deliver* with the messages on *subject* that arrive together, in their order. Otherwise as `subscribe`.

        If it raises, that costs the message that it had got last: it is called again with the rest.
        """

    async def listen(self, subject: str, hear: Hear, *, on_gap: Callback = lambda: None) -> Callback:
        """Call *hear* with every message on *subject*, with its headers; return the function that ends that.

        on_gap: called after each reconnect, because messages may have been lost. Otherwise as `subscribe`, if optional.
        """

    async def unsubscribe(self, subject: str) -> None:
        """Stop receiving on *subject*. Without a subscription, do nothing."""

    async def request(
        self,
        subject: str,
        data: bytes,
        *,
        inbox: str,
        timeout: float,
        headers: Mapping[str, str] | None = None,
        complete: Callable[[Sequence[Incoming]], bool] = is_first,
    ) -> list[Incoming]:
        """Publish *data* with a reply subject below *inbox*, and return the responses once *complete* is true of them.

        It is not written later than *timeout* seconds from now, also if the machine is suspended meanwhile. Raise
        BrokerUnavailableError if it was not written; SubjectDeniedError, also for the inbox; NoRespondersError;
        NoResponseError or ConnectionLostError if it was written, so that it may or may not have been carried out.
        """

    async def close(self) -> None:
        """End the connection. A second call does nothing."""
