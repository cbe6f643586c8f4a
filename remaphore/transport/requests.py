"""Requests over NATS, such as those to JetStream: a message with a reply subject, and the responses to it.

The replies of nodes are not received here: they are signed messages on a subject of their own. A response is whatever
arrives at the inbox of a request, and only the permissions of the broker decide who can publish there.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence

from remaphore.errors import (
    ConnectionLostError,
    NoRespondersError,
    NoResponseError,
    TransportError,
)
from remaphore.transport.bus import Incoming
from remaphore.transport.pending import PendingOperation, boot_time, not_sent

MAX_RESPONSE_BYTES = 16 * 1024 * 1024  # of all responses to one request, with their headers
UNDECIDED = "it may or may not have been carried out"
_UNDECIDED_HINT = "read what it was to change, before you repeat it"
_NO_RESPONDERS = 503  # the status that the server sends when no client subscribes to the subject
_TOKEN_BYTES = 9  # random: whoever guesses an inbox, and may publish there, can forge a response


class _Inbox:
    """The subscription for the responses to all requests of a bus."""

    def __init__(self, root: str) -> None:
        self.prefix = f"{root}.{secrets.token_hex(_TOKEN_BYTES)}"
        self.waiting: dict[str, _Request] = {}
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.subscription = PendingOperation(f"{self.prefix}.*", done, deliver=self._deliver, optional=True, whole=True)

    @property
    def usable(self) -> bool:
        """Whether it is subscribed to, or will be."""
        return not self.subscription.ended and not self.subscription.done.cancelled() and not self.subscription.failed

    def _deliver(self, response: Incoming) -> None:
        request = self.waiting.get(response.subject.rpartition(".")[2])
        if request is not None:
            request.receive(response)


class _Request:
    """One request: its message, and the responses so far."""

    def __init__(self, operation: PendingOperation, complete: Callable[[Sequence[Incoming]], bool]) -> None:
        self.operation = operation
        self.responses: list[Incoming] = []
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._complete = complete
        self._bytes = 0

    def receive(self, response: Incoming) -> None:
        """Take one response."""
        if self.answered.done():
            return
        where = self.operation.subject
        self._bytes += len(response.data) + sum(map(len, response.headers.values()))
        if response.status == _NO_RESPONDERS:
            self.fail(NoRespondersError(f"no responders on {where}", hint="check the subject, and start what answers"))
        elif self._bytes > MAX_RESPONSE_BYTES:
            text = f"responses of more than {MAX_RESPONSE_BYTES} bytes on {where}"
            self.fail(NoResponseError(text, hint="find out what answers there"))
        else:
            self.responses.append(response)
            if self._complete(self.responses):
                self.answered.set_result(None)

    def fail(self, error: TransportError) -> None:
        """End it with *error*, unless it has ended."""
        if not self.answered.done():
            self.answered.set_exception(error)
            self.answered.exception()  # mark it as retrieved: the caller may have been cancelled


class Requests:
    """The requests of one bus. add: queues an operation of that bus, or raises."""

    def __init__(self, add: Callable[[PendingOperation], None]) -> None:
        self._add = add
        self._inboxes: dict[str, _Inbox] = {}

    async def ask(
        self,
        subject: str,
        data: bytes,
        inbox: str,
        timeout: float,
        headers: Mapping[str, str] | None,
        *,
        complete: Callable[[Sequence[Incoming]], bool],
    ) -> list[Incoming]:
        """Return the responses, once *complete* is true of them; see `Bus.request`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        late = boot_time() + timeout
        place = self._inbox(inbox)
        await asyncio.wait({place.subscription.done}, timeout=timeout)
        if not place.subscription.done.done():
            raise not_sent(subject)
        place.subscription.done.result()
        token = secrets.token_hex(_TOKEN_BYTES)
        sent: asyncio.Future[None] = loop.create_future()
        reply = f"{place.prefix}.{token}"
        operation = PendingOperation(subject, sent, data=data, reply=reply, headers=headers, late=late)
        request = place.waiting[token] = _Request(operation, complete)
        try:
            self._add(operation)
            waiting: set[asyncio.Future[None]] = {sent, request.answered}
            while waiting and not request.answered.done() and not operation.failed:
                ended, waiting = await asyncio.wait(
                    waiting, timeout=max(0.0, end - loop.time()), return_when=asyncio.FIRST_COMPLETED
                )
                if not ended:
                    break
            return self._result(request, timeout)
        finally:
            del place.waiting[token]
            sent.cancel()  # what is still queued is not written any more
            request.answered.cancel()

    def _result(self, request: _Request, timeout: float) -> list[Incoming]:
        """Return the responses to *request*, or raise why there are none."""
        operation = request.operation
        if request.answered.done():
            request.answered.result()
            return request.responses
        if operation.done.done():
            operation.done.result()
        if not operation.written:
            raise not_sent(operation.subject)
        text = f"no response on {operation.subject} within {timeout:.3g} s: {UNDECIDED}"
        raise NoResponseError(text, hint=_UNDECIDED_HINT)

    def fail(self, reason: str) -> None:
        """End the requests that were written: the connection ended, and with it the way of their responses."""
        for request in [request for inbox in self._inboxes.values() for request in inbox.waiting.values()]:
            if request.operation.written:
                text = f"connection ended before the response on {request.operation.subject} ({reason}): {UNDECIDED}"
                request.fail(ConnectionLostError(text, hint=_UNDECIDED_HINT))

    def _inbox(self, root: str) -> _Inbox:
        """Return the inbox below *root*, a new one if there is none, or if the broker has denied it."""
        found = self._inboxes.get(root)
        if found is None or not found.usable:
            found = self._inboxes[root] = _Inbox(root)
            try:
                self._add(found.subscription)
            except TransportError:
                del self._inboxes[root]
                raise
        return found
