"""The Python API: `connect`, and the node that it gives.

async with remaphore.connect("/etc/remaphore/remaphore.toml") as node:
    await node.send("deploy", to="com.crypto.**", payload="v42")
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from remaphore.config.search import load
from remaphore.config.settings import Config
from remaphore.errors import UsageError
from remaphore.messaging.signer import Clock, Signer
from remaphore.protocol import subject
from remaphore.protocol.message import Message, Reply, uuid_from_text

if TYPE_CHECKING:
    from remaphore.protocol.drop import Drop
    from remaphore.requesting.requester import Request
    from remaphore.transport.bus import Bus

EVERYBODY = "**"
CONNECT_SECONDS = 10.0
REQUEST_SECONDS = 30.0


@asynccontextmanager
async def connect(
    config: Config | str | os.PathLike[str] | None = None,
    *,
    timeout: float | None = CONNECT_SECONDS,
    on_notice: Callable[[str], None] = lambda _line: None,
    on_reconnect: Callable[[str], None] | None = None,
    on_protocol_error: Callable[[str], None] | None = None,
) -> AsyncIterator[Node]:
    """Connect to the broker of *config* (a `Config`, a path, or None: where the command line looks).

    timeout: seconds to go on trying while no server answers, None for ever. notice: called with a line for people when
    the broker is away, and when it is back after that; returned: with one whenever it is back, however short the time
    was, instead; protocol_error: with one, at most every 15 s, when a broker sends what is not the NATS protocol (else
    notice gets it). Raises ConfigError, BrokerRefusedError (wrong credentials, TLS: at once) or
    BrokerUnavailableError (no server answered in time).
    """
    from remaphore.transport.nats_client import NatsBus

    settings = config if isinstance(config, Config) else load(os.fspath(config) if config else None, os.environ)
    bus = await NatsBus.connect(
        settings.servers,
        auth=settings.auth,
        tls=settings.tls,
        limit=timeout,
        on_notice=on_notice,
        on_reconnect=on_reconnect,
        on_protocol_error=on_protocol_error,
    )
    try:
        yield Node(bus, settings)
    finally:
        await bus.close()


class Node:
    """A connected node: sends, requests, receives and replies. Made by `connect`, or on another bus by hand."""

    def __init__(self, bus: Bus, config: Config, *, clock: Clock = time.time_ns) -> None:
        self.bus = bus
        self.config = config
        self._clock = clock
        self._signer = Signer(config, clock)

    async def send(
        self,
        verb: str,
        *,
        to: str = EVERYBODY,
        payload: str | bytes = b"",
        id: str = "",  # noqa: A002 - the name of the option on the command line
        key: str = "",
        subject_name: str = "",
        timeout: float | None = None,
    ) -> Message:
        """Send and forget; return the message once the broker has it.

        to: the pattern of destinations. id: text that receivers can wait for, random if empty. key: which identity
        signs, the default one if empty. timeout: seconds to wait for a broker that is away, None for ever.
        Raises NotPermittedError, EncodeError, TransportError; of these, BrokerUnavailableError says that it was not
        sent, ConnectionLostError that it may have been.
        """
        outgoing = self._signer.compose(verb, to=to, payload=_bytes(payload), uuid=id, key=key)
        where = subject.for_messages(self.config.subject, _checked(subject_name))
        await self.bus.publish(where, outgoing.raw, timeout=timeout)
        return outgoing.message

    @asynccontextmanager
    async def request(
        self,
        verb: str,
        *,
        to: str = EVERYBODY,
        payload: str | bytes = b"",
        id: str = "",  # noqa: A002 - as above
        key: str = "",
        subject_name: str = "",
        timeout: float | None = REQUEST_SECONDS,
        on_drop: Callable[[Drop], None] = lambda _drop: None,
    ) -> AsyncIterator[Request]:
        """Send a message that asks for replies, and collect them.

            async with node.request("deploy", to="com.crypto.**", timeout=30) as exchange:
                async for reply in exchange: ...

        timeout: seconds for the whole request, None for no limit. Raises NoReceiversError if no peer matches *to*, and
        what `send` raises.
        """
        from remaphore.protocol.exchange import Exchange
        from remaphore.requesting.requester import Request, expect

        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        responders = expect(self.config, to)
        outgoing = self._signer.compose(verb, to=to, payload=_bytes(payload), uuid=id, key=key, wants_reply=True)
        where = subject.for_replies(self.config.subject, outgoing.message.digest)
        exchange = Exchange(outgoing.message, responders, allow_skew_ns=self.config.allow_skew_ns, subject=where)
        request = Request(outgoing, exchange, on_drop=on_drop, clock=self._clock)
        subject_name = _checked(subject_name)
        try:
            await request.start(self.bus, self.config, subject_name=subject_name, deadline=deadline)
            yield request
        finally:
            await request.stop(self.bus, self.config)

    async def receive(
        self,
        *,
        verbs: Iterable[str] | None = None,
        id: str | None = None,  # noqa: A002 - as above
        sender: str | None = None,
        subject_name: str = "",
        on_drop: Callable[[Drop], None] = lambda _drop: None,
    ) -> AsyncIterator[Message]:
        """Yield verified messages for this node, in the order of arrival, until the caller leaves the loop.

        verbs, id, sender (a base58 key): take only these. on_drop: called with each message that was dropped.
        """
        from remaphore.protocol.gate import Filters
        from remaphore.receiving.gates import make_gate
        from remaphore.receiving.inline import Inbox, InlineAdmission

        filters = Filters(
            verbs=None if verbs is None else frozenset(verbs),
            uuid=None if id is None else uuid_from_text(id),
            sender=sender,
        )
        where = subject.for_messages(self.config.subject, _checked(subject_name))
        inbox = Inbox(on_admit=lambda _message: None, on_drop=on_drop)
        gate = make_gate(self.config, filters, subject=where)
        admission = InlineAdmission(gate, on_accept=inbox.put, on_drop=on_drop, clock=self._clock)
        await self.bus.subscribe(where, admission.deliver)
        try:
            while True:
                yield await inbox.get()
        finally:
            await self.bus.unsubscribe(where)

    async def reply(self, message: Message, exit_code: int, output: str | bytes = b"") -> None:
        """Answer *message*. Raises UsageError if its sender does not wait for replies, TransportError."""
        from remaphore.messaging.replier import send_reply

        if not message.wants_reply:
            raise UsageError("the sender of this message does not wait for replies")
        await send_reply(self.bus, self.config, self._signer, message, Reply(exit_code, _bytes(output)))


def _bytes(text: str | bytes) -> bytes:
    return text.encode(errors="surrogateescape") if isinstance(text, str) else text


def _checked(subject_name: str) -> str:
    problem = subject.problem(subject_name) if subject_name else None
    if problem:
        raise UsageError(f"{subject_name!r} cannot be part of a subject: {problem}")
    return subject_name
