"""Each configured server: whether it can be reached, its properties, and whether it permits what a node needs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from remaphore.config.settings import Config
from remaphore.diagnostics.coordination import check_captured, check_coordination
from remaphore.diagnostics.files import check_expiry
from remaphore.diagnostics.findings import Code, Finding, Level, from_error
from remaphore.errors import BrokerRefusedError, ConfigError, SubjectDeniedError, TransportError, hint_of
from remaphore.messaging.signer import Outgoing
from remaphore.protocol import subject, wire
from remaphore.transport.nats_client import NatsBus
from remaphore.transport.servers import INFO_WAIT

_DIGEST_BYTES = 32
SEPARATE_LIMIT = 3.0  # seconds in which a message has to reach the other servers; in a cluster it takes milliseconds
_PUBLISH_AGAIN = 0.1  # seconds: a server hears of a subscription on another one a moment after it was confirmed


class ServerProbe(NamedTuple):
    """The result of probing one server; bus: the connection, if there is one. The caller closes it."""

    findings: tuple[Finding, ...]
    bus: NatsBus | None = None

    @property
    def usable(self) -> bool:
        """Whether peers can be asked through this server."""
        return self.bus is not None and all(finding.code is not Code.SUBJECT_DENIED for finding in self.findings)

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self.bus is not None:
            await self.bus.close()


async def probe_server(config: Config, url: str, *, message: Outgoing | None, timeout: float) -> ServerProbe:
    """Connect to the server *url* alone, and use every kind of subject that a node needs.

    message: is published to the subject of messages, None if this node may not sign one. timeout: seconds, for the
    connection and for the use, each.
    """
    try:
        bus = await NatsBus.connect(
            (url,), auth=config.auth, tls=config.tls, limit=timeout, on_notice=lambda _line: None
        )
    except TransportError as error:
        return ServerProbe((server_failure(config, url, error),))
    try:
        async with asyncio.timeout(timeout):
            findings = [finding async for finding in use_server(config, url, bus, message)]
            findings += [finding async for finding in check_captured(config, url, bus)]
            findings += [finding async for finding in check_coordination(config, url, bus)]
        findings += certificate_expiry(url, bus.about.get("certificate_expires"), now=time.time_ns())
        findings += [address_failure(*unusable) for unusable in (await bus.unusable_addresses()).items()]
    except (TimeoutError, TransportError, ConfigError) as error:  # ConfigError: a file of the login has changed
        await bus.close()
        text = f"no confirmation within {timeout:g} s" if isinstance(error, TimeoutError) else str(error)
        reason = error if isinstance(error, TransportError) else TransportError(text, hint=hint_of(error))
        return ServerProbe((server_failure(config, url, reason),))
    except BaseException:
        await bus.close()
        raise
    return ServerProbe(tuple(findings), bus)


async def separate(config: Config, probes: Sequence[ServerProbe], *, timeout: float) -> Finding | None:
    """Return the finding if a message on one server does not reach the others, such as if they are not a cluster.

    Nodes that connect to different servers then do not reach each other.
    """
    usable = [(url, probe.bus) for url, probe in zip(config.servers, probes, strict=True) if probe.usable and probe.bus]
    if len(usable) < 2:
        return None
    (first, publisher), *others = usable
    where = subject.for_replies(config.subject, os.urandom(_DIGEST_BYTES))  # of a request that does not exist
    arrived = {url: asyncio.Event() for url, _ in others}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(min(timeout, SEPARATE_LIMIT)):
            for url, bus in others:
                await bus.subscribe(where, partial(_set, arrived[url]))
            for each in arrived.values():
                while not each.is_set():
                    await publisher.publish(where, b"")
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(each.wait(), _PUBLISH_AGAIN)
    missed = [url for url, each in arrived.items() if not each.is_set()]
    if not missed:
        return None
    what = (
        f"a message that is published here does not reach {', '.join(missed)}: nodes there are separate from those here"
    )
    return Finding(Level.ERROR, Code.SERVERS_SEPARATE, first, what, "connect the servers as a cluster, or list one")


def address_failure(shown: str, cause: str) -> Finding:
    """Return the finding about one of several addresses of a server that works over another one."""
    hint = "let the server listen there, or write an address that works in servers"
    return Finding(Level.NOTE, Code.SERVER_ADDRESS_UNUSABLE, shown, f"{cause}; another address works", hint)


def certificate_expiry(url: str, expires: str | None, *, now: int) -> Iterator[Finding]:
    """Yield that the certificate of the server *url* expires soon: no node would connect any more."""
    if expires:
        codes = (Code.SERVER_CERTIFICATE_EXPIRES_SOON,) * 2  # one that has expired is rejected
        hint = "renew it on the server, and reload the broker"
        last = ssl.cert_time_to_seconds(expires)
        yield from check_expiry(codes, url, "certificate of the server", last, now=now, hint=hint)


def server_failure(config: Config, url: str, error: TransportError) -> Finding:
    """Return the finding about a server that cannot be used."""
    if isinstance(error, BrokerRefusedError):
        hint = f"remaphore check -c {shlex.quote(config.source)}"
        return from_error(Code.SERVER_REJECTS, url, error, default_hint=hint)
    hint = "start it, make it reachable, or correct servers"
    return from_error(Code.SERVER_UNREACHABLE, url, error, default_hint=hint)


async def use_server(config: Config, url: str, bus: NatsBus, message: Outgoing | None) -> AsyncIterator[Finding]:
    """Subscribe and publish like a node; yield what the server is, its limits, and the subjects that it denies."""
    messages = subject.for_messages(config.subject)
    replies = subject.for_replies(config.subject, os.urandom(_DIGEST_BYTES))  # of a request that does not exist
    about = bus.about
    started = time.monotonic()
    denied = [await denial(url, bus.subscribe(messages, ignore))]
    milliseconds = round((time.monotonic() - started) * 1000, 3)
    cluster = f" in cluster {about['cluster']}" if about.get("cluster") else ""
    what = f"{about.get('name', '')} {about.get('version', '')}{cluster}, {about.get('tls') or 'no TLS'}"
    what += f", login accepted, {milliseconds:.1f} ms"
    what += f", at {about['address']}" if about.get("address", url) != url else ""
    facts = {**about, "max_payload": bus.max_payload, "round_trip_ms": milliseconds}
    yield Finding(Level.OK, Code.SERVER_OK, url, what, facts=facts)
    if about.get("handshake_first") and not config.tls.handshake_first:
        what = f"begins with TLS: each connection waits {INFO_WAIT:g} s for its first line"
        hint = "set handshake_first = true in [tls], if all servers begin with TLS"
        yield Finding(Level.NOTE, Code.SERVER_HANDSHAKE_FIRST, url, what, hint)
    denied.append(await denial(url, bus.subscribe(replies, ignore)))
    denied.append(await denial(url, bus.publish(replies, b"")))
    if message is not None:
        denied.append(await denial(url, bus.publish(messages, message.raw)))
    await bus.unsubscribe(messages)
    await bus.unsubscribe(replies)
    if bus.max_payload < wire.MAX_MESSAGE_BYTES:
        what = f"accepts messages of at most {bus.max_payload} bytes: larger ones are not sent, outputs are truncated"
        hint = f"raise max_payload of the server to {wire.MAX_MESSAGE_BYTES}"
        yield Finding(Level.NOTE, Code.SERVER_MAX_PAYLOAD, url, what, hint)
    findings = [finding for finding in denied if finding is not None]
    for finding in findings:
        yield finding
    if not findings:
        what = f"publishing and subscribing below {config.subject} is permitted"
        yield Finding(Level.OK, Code.SUBJECTS_OK, url, what)


async def denial(url: str, action: Awaitable[None]) -> Finding | None:
    """Await *action*; return the finding if the server denies the subject."""
    try:
        await action
    except SubjectDeniedError as error:
        hint = "ask the broker's administrator to permit this subject to these credentials"
        return from_error(Code.SUBJECT_DENIED, url, error, default_hint=hint)
    return None


def _set(event: asyncio.Event, _raw: bytes) -> None:
    event.set()


def ignore(_raw: bytes) -> None:
    """Ignore what arrives meanwhile: the daemon receives it too."""
