"""One connection to one NATS server: the only module that imports nats.

A `Link` is made, used and thrown away; nothing here tries again. What nats-py does about reconnecting, time-outs and
errors of the server is not used, or is brought down to two facts: the round trip came back, or the link has `ended`.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nats import errors
from nats.aio.client import Client, RawCredentials
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport

from remaphore.errors import PayloadTooLargeError, SubjectDeniedError
from remaphore.tasks import spawn
from remaphore.transport.bus import Deliver
from remaphore.transport.servers import DialError, Failure, Server, discovered, explain

CONNECT_TIMEOUT = 2.0  # seconds for each step: TCP, INFO, TLS, PONG
DIAL_LIMIT = 6.0  # seconds for all of them
CLOSE_LIMIT = 0.5  # seconds; closing waits for ever after a failed TLS handshake (nats.py issue 718)
PING_INTERVAL = 10  # seconds
# A connection on which so many stay unanswered is given up with the next: within two intervals, so that a third is left
# to say so.
UNANSWERED_PINGS = 1
NO_RESPONDERS = "503"

Handle = Subscription  # of a subscription on one link; others only keep it

_DENIED = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"', re.IGNORECASE)


class _Client(Client):
    """nats-py's client, which tells when it ends, and which never speaks clear text where TLS was asked for."""

    def __init__(self, *, require_tls: bool, ended: Callable[[], None]) -> None:
        super().__init__()
        self._require_tls = require_tls
        self._ended = ended
        self.told: Mapping[str, Any] = {}

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # noqa: FBT001, FBT002 - nats-py's signature
        # Without this, tls:// falls back to clear text and sends the login to whoever answers (mended only in
        # nats-core: nats.py pull request 912). CONNECT has not been sent yet when this runs.
        if initial_connection and self._require_tls and not info.get("tls_required"):
            text = "the server offers no TLS, and clear text is not an alternative; mend the server, or use nats://"
            raise DialError(Failure(text, final=True))
        self.told = info
        await super()._process_info(info, initial_connection)

    # A client ends both loops before it does anything that may wait for ever. If one of them ends by an unexpected
    # error, the client still says that it is connected (nats.py pull request 914).
    async def _read_loop(self) -> None:
        try:
            await super()._read_loop()
        finally:
            self._ended()

    async def _flusher(self) -> None:
        try:
            await super()._flusher()
        finally:
            self._ended()

    def heard(self) -> None:
        """Note that something came: a PONG that is late stands in line behind it, and the server is not silent."""
        self._pings_outstanding = 0

    def abort(self) -> None:
        """Give the socket back at once; close() would first send what a silent server does not take."""
        writer = self._socket
        if writer is not None:
            writer.transport.abort()

    @property
    def tls_version(self) -> str:
        """The version of TLS that is spoken, empty if none is."""
        secured = self._socket and self._socket.get_extra_info("ssl_object")
        return secured.version() or "" if secured else ""

    @property
    def _socket(self) -> asyncio.StreamWriter | None:
        return self._transport._io_writer if isinstance(self._transport, TcpTransport) else None  # noqa: SLF001 - no public way


class Link:
    """A connection that was accepted. `ended` is a future that is done when it has ended, for whatever reason."""

    def __init__(self, server: Server, *, require_tls: bool) -> None:
        self.server = server
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._client = _Client(require_tls=require_tls or server.tls, ended=self._end)
        self._denied: set[tuple[str, str]] = set()
        self._written: set[Handle] = set()
        self._standing: set[Handle] = set()
        self._first_error: Exception | None = None

    @classmethod
    async def dial(
        cls,
        server: Server,
        *,
        login: Mapping[str, str],
        source: str,
        context: ssl.SSLContext | None,
        require_tls: bool,
    ) -> Link:
        """Connect to *server* once. Raises DialError.

        login: options of nats-py, see `credentials.login`; source: where they come from, for messages. context: needed
        when TLS is required; without one, a server that asks for TLS is checked against the system's CAs.
        """
        if server.problem:
            raise DialError(Failure(server.problem, final=True))
        link = cls(server, require_tls=require_tls)
        try:
            async with asyncio.timeout(DIAL_LIMIT):
                await link._connect(login, context)
        except BaseException as error:
            await link.close()
            if not isinstance(error, Exception):
                raise
            cause = link._first_error if isinstance(error, errors.NoServersError) else None
            raise DialError(explain(cause or error, source=source, timeout=CONNECT_TIMEOUT)) from None
        return link

    async def _connect(self, login: Mapping[str, str], context: ssl.SSLContext | None) -> None:
        options: dict[str, Any] = dict(login)
        if "user_credentials" in options:
            options["user_credentials"] = RawCredentials(options["user_credentials"])
        # nats-py makes two attempts with these and then says "no servers"; its first error is the cause. Any other
        # setting makes it retry for ever, whatever allow_reconnect says (nats.py issues 645, 663).
        await self._client.connect(
            servers=[self.server.url],
            name="remaphore",
            tls=context,
            tls_hostname=self.server.tls_name or None,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0.05,  # type: ignore[arg-type]  # annotated as int, used as seconds
            connect_timeout=CONNECT_TIMEOUT,  # type: ignore[arg-type]  # the same
            ping_interval=PING_INTERVAL,
            max_outstanding_pings=UNANSWERED_PINGS,
            error_cb=self._on_error,
            **options,
        )
        if not self._client.is_connected:  # connect() takes an end of file in place of PONG for success
            raise DialError(Failure("the connection was closed during the login"))

    @property
    def max_payload(self) -> int:
        """The most bytes that the server takes in one message. Credentials may allow less, and do not say so."""
        return self._client.max_payload

    @property
    def about(self) -> Mapping[str, str]:
        """The server's own name, version and cluster, its address, and the version of tls; empty for what is not."""
        told = self._client.told
        return {
            "address": self.server.shown,
            "name": str(told.get("server_name", "")),
            "version": str(told.get("version", "")),
            "cluster": str(told.get("cluster", "")),
            "tls": self._client.tls_version,
        }

    @property
    def received(self) -> int:
        """How many messages have come so far."""
        return self._client.stats["in_msgs"]

    @property
    def reason(self) -> str:
        """Why the link ended, in the server's words if it gave any."""
        error = self._client.last_error or self._first_error
        if error is None or isinstance(error, errors.UnexpectedEOF | OSError):
            return "closed by the other side"
        return str(error).removeprefix("nats: ").strip("'") or type(error).__name__

    def discovered(self) -> Iterable[Server]:
        """Return the other servers of the cluster, as this one tells them."""
        return [discovered(uri.geturl(), self.server) for uri in self._client.discovered_servers]

    async def publish(self, subject: str, data: bytes) -> None:
        """Write one message. It is delivered only once `confirm` has returned.

        Raises PayloadTooLargeError or SubjectDeniedError for what is not even written.
        """
        if len(data) > self.max_payload:
            raise PayloadTooLargeError(
                f"message of {len(data)} bytes for {subject}: the broker takes {self.max_payload};"
                " send less, or raise its max_payload"
            )
        try:
            await self._client.publish(subject, data)
        except errors.BadSubjectError:
            raise SubjectDeniedError(f"{subject!r} is no NATS subject; correct the configuration's subject") from None

    async def subscribe(self, subject: str, deliver: Deliver) -> Handle:
        """Write one subscription, which `unsubscribe` takes. It stands only once `confirm` has returned."""

        async def on_message(message: Msg) -> None:
            self._client.heard()
            # The broker itself tells a message that asks for a reply "nobody is there": no data for the gate.
            if message.headers and message.headers.get("Status") == NO_RESPONDERS:
                return
            try:
                deliver(message.data)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - nats-py ends the subscription at the latter
                context = {"message": f"delivery of a message on {subject} failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)

        # No limits (0): a callback that never waits empties the queue in each turn of the loop, and reading stops
        # while it runs; nats-py's own limits would drop the newest messages.
        try:
            handle = await self._client.subscribe(subject, cb=on_message, pending_msgs_limit=0, pending_bytes_limit=0)
        except errors.BadSubjectError:
            raise SubjectDeniedError(f"{subject!r} is no NATS subject; correct the configuration's subject") from None
        self._written.add(handle)
        return handle

    async def unsubscribe(self, handle: Handle) -> None:
        """End a subscription of this link."""
        self._standing.discard(handle)
        self._written.discard(handle)
        await handle.unsubscribe()

    async def confirm(self) -> None:
        """Return once the server has handled all that was written before; raises, or never returns, when it has not.

        The caller watches `ended` and the time, and closes the link if it gives up: nats-py's reader does not survive
        the PONG of a round trip that was cancelled.
        """
        # flush() writes PING past what waits in the queue of the flusher, so that its PONG would prove nothing.
        pause = 0.0
        while self._client.pending_data_size:
            await asyncio.sleep(pause)
            pause = min(pause + 0.001, 0.02)
        if self.ended.done():  # flush() without its reader returns at once
            raise errors.ConnectionClosedError
        await self._client.flush(timeout=3600)
        self._standing |= {handle for handle in self._written if not self._is_denied(handle)}
        self._written.clear()

    def take_denied(self) -> set[tuple[str, str]]:
        """Return what was not permitted since the last call: publish or subscription, and the subject in lower case."""
        denied, self._denied = self._denied, set()
        return denied

    async def close(self) -> None:
        """Give the connection up. Never raises, takes at most CLOSE_LIMIT seconds."""
        self._end()
        closing = spawn(self._client.close(), name="nats-close")
        try:
            await asyncio.wait({closing}, timeout=CLOSE_LIMIT)
        finally:
            self._client.abort()
            closing.cancel()
            await asyncio.wait({closing}, timeout=CLOSE_LIMIT)
            if closing.done() and not closing.cancelled():
                closing.exception()  # closing what is broken may fail; nobody can do anything about it

    async def _on_error(self, error: Exception) -> None:
        # Must not raise: nats-py awaits this in its read loop.
        denied = _DENIED.search(str(error))
        if denied:
            self._denied.add((denied[1].lower(), denied[2].lower()))
            if any(map(self._is_denied, self._standing)):
                # Withdrawn by a reload of the server, which keeps the connection, and no message would come any more.
                self._first_error = error
                self._end()
        elif self._first_error is None:
            self._first_error = error

    def _is_denied(self, handle: Handle) -> bool:
        return ("subscription", handle.subject.lower()) in self._denied

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
