"""An operation that a caller of the bus waits for, while the task of the bus carries it out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from remaphore.errors import BrokerUnavailableError, TransportError
from remaphore.transport.nats_reader import Handle
from remaphore.transport.servers import Failure, hints, summary


class PendingOperation:
    """A message to publish, or, with *deliver*, a subscription; *done* is the future that its caller waits for.

    batches: of a subscription, whether *deliver* gets what arrives together, and not one message at a time. optional:
    of a subscription, whether a connection is of use without it. whole: of a subscription, whether
    *deliver* is called with an `Incoming`, in place of bytes. on_gap: of a subscription, called after each
    reconnect. reply, headers: of a message. late: the second since the start of the machine after which a message
    must not be written; None: never. written: whether it may have been written.
    """

    __slots__ = (
        *("batches", "data", "deliver", "done", "ended", "handle", "headers"),
        *("late", "on_gap", "optional", "reply", "subject", "whole", "written"),
    )

    def __init__(
        self,
        subject: str,
        done: asyncio.Future[None] | None = None,
        *,
        data: bytes = b"",
        deliver: Callable[[Any], None] | None = None,
        batches: bool = False,
        optional: bool = False,
        whole: bool = False,
        on_gap: Callable[[], None] = lambda: None,
        reply: str = "",
        headers: Mapping[str, str] | None = None,
        late: float | None = None,
    ) -> None:
        self.subject = subject
        self.done = done or asyncio.get_running_loop().create_future()
        self.data = data
        self.deliver = deliver
        self.batches = batches
        self.optional = optional
        self.whole = whole
        self.on_gap = on_gap
        self.reply = reply
        self.headers = headers
        self.late = late
        self.written = False
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

    def receive(self, messages: Iterator[Any]) -> None:
        """Deliver *messages*, together or one by one, unless the subscription has ended."""
        if self.deliver is not None and self.batches and not self.ended:
            self.deliver(messages)
        else:
            for message in messages:
                if self.deliver is not None and not self.ended:
                    self.deliver(message)

    def settle(self, error: TransportError | None = None) -> None:
        """End the caller's wait, with *error* if there is one; only the first call has an effect."""
        if self.done.done():
            return  # settled before, or its caller was cancelled
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


def boot_time() -> float:
    """Return the seconds since the machine was started, also those for which it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def not_sent(subject: str) -> BrokerUnavailableError:
    """Return the error of a request that was not written in time, and will not be written later."""
    text = f"request on {subject} not sent in time"
    return BrokerUnavailableError(text, hint="remaphore doctor tests the broker; repeat the request then")


def not_published(timeout: float, failures: Mapping[str, Failure] | None) -> BrokerUnavailableError:
    """Return the error of a message that was not written in time. failures: of all servers; None: there is one."""
    if failures is None:
        text = f"message not sent within {timeout:.3g} s: other messages are queued before it"
        return BrokerUnavailableError(text, hint="allow more time, or send fewer messages at once")
    text = f"no broker within {timeout:.3g} s, message not sent: {summary(failures)}"
    return BrokerUnavailableError(text, hint=hints(failures))
