"""Each configured server: whether it can be reached, who it is, and whether it lets us do what we need."""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import NamedTuple

from remaphore.config.settings import Config
from remaphore.diagnostics.findings import Code, Finding, Level, from_error
from remaphore.errors import BrokerRefusedError, SubjectDeniedError, TransportError
from remaphore.messaging.signer import Outgoing
from remaphore.protocol import subject, wire
from remaphore.transport.nats_client import NatsBus

_DIGEST_BYTES = 32


class Visit(NamedTuple):
    """What became of a look at one server; bus: the connection, if there is one. The caller closes it."""

    findings: tuple[Finding, ...]
    bus: NatsBus | None = None

    @property
    def usable(self) -> bool:
        """Whether peers can be asked there."""
        return self.bus is not None and all(finding.code is not Code.SUBJECT_DENIED for finding in self.findings)

    async def close(self) -> None:
        """End the connection, if there is one."""
        if self.bus is not None:
            await self.bus.close()


async def visit(config: Config, url: str, *, message: Outgoing | None, timeout: float) -> Visit:
    """Connect to the server *url* alone, and use every kind of subject that a node needs.

    message: is published where messages go, if this node can sign one at all. timeout: seconds, for the connecting and
    for the use.
    """
    try:
        bus = await NatsBus.connect(
            (url,), auth=config.auth, tls=config.tls, limit=timeout, on_notice=lambda _line: None
        )
    except TransportError as error:
        return Visit((_failure(config, url, error),))
    try:
        async with asyncio.timeout(timeout):
            findings = tuple([finding async for finding in _use(config, url, bus, message)])
    except (TimeoutError, TransportError) as error:
        await bus.close()
        reason = error if isinstance(error, TransportError) else TransportError(f"no confirmation within {timeout:g} s")
        return Visit((_failure(config, url, reason),))
    except BaseException:
        await bus.close()
        raise
    return Visit(findings, bus)


def _failure(config: Config, url: str, error: TransportError) -> Finding:
    if isinstance(error, BrokerRefusedError):
        return from_error(Code.SERVER_REFUSES, url, error, hint=f"remaphore check -c {shlex.quote(config.source)}")
    return from_error(Code.SERVER_UNREACHABLE, url, error, hint="start it, open the way to it, or correct servers")


async def _use(config: Config, url: str, bus: NatsBus, message: Outgoing | None) -> AsyncIterator[Finding]:
    about = bus.about
    messages = subject.for_messages(config.subject)
    replies = subject.for_replies(config.subject, os.urandom(_DIGEST_BYTES))  # of a request that nobody makes
    started = time.monotonic()
    denied = [await _denied(url, bus.subscribe(messages, _ignore))]
    yield _describe(url, about, max_payload=bus.max_payload, round_trip=time.monotonic() - started)
    denied.append(await _denied(url, bus.subscribe(replies, _ignore)))
    denied.append(await _denied(url, bus.publish(replies, b"")))
    if message is not None:
        denied.append(await _denied(url, bus.publish(messages, message.raw)))
    await bus.unsubscribe(messages)
    await bus.unsubscribe(replies)
    if bus.max_payload < wire.MAX_MESSAGE_BYTES:
        what = f"it takes messages of {bus.max_payload} bytes at most: more cannot be sent, and outputs are cut to it"
        yield Finding(Level.NOTE, Code.SERVER_PAYLOAD, url, what, f"raise its max_payload to {wire.MAX_MESSAGE_BYTES}")
    found = [finding for finding in denied if finding is not None]
    for finding in found:
        yield finding
    if not found:
        yield Finding(Level.OK, Code.SUBJECTS_OK, url, f"we may publish and subscribe below {config.subject}")


async def _denied(url: str, action: Awaitable[None]) -> Finding | None:
    try:
        await action
    except SubjectDeniedError as error:
        return from_error(Code.SUBJECT_DENIED, url, error)
    return None


def _ignore(_raw: bytes) -> None:
    """Take what arrives meanwhile: it is for the daemon, which gets it too."""


def _describe(url: str, about: Mapping[str, str], *, max_payload: int, round_trip: float) -> Finding:
    cluster = f" in cluster {about['cluster']}" if about.get("cluster") else ""
    secured = f"{about['tls']}" if about.get("tls") else "no TLS"
    milliseconds = round(round_trip * 1000, 3)
    what = (
        f"{about.get('name', '')} {about.get('version', '')}{cluster}, {secured}, login accepted, {milliseconds:.1f} ms"
    )
    return Finding(
        Level.OK, Code.SERVER_OK, url, what, facts={**about, "max_payload": max_payload, "round_trip_ms": milliseconds}
    )
