"""One connection to one NATS server. Only this module, `nats_reader`, `nats_public` and `stream` import nats.

A `Connection` is dialled, used and discarded; nothing here tries again. What nats-py does about reconnecting, timeouts
and errors of the server is not used, or is reduced to two facts: the round trip came back, or the connection `ended`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from nats import errors
from nats.aio.client import RawCredentials

from remaphore.errors import PayloadTooLargeError, SubjectDeniedError
from remaphore.tasks import spawn
from remaphore.transport.nats_reader import DENIED, MAX_SHOWN, TESTED, Handle, ReadingClient, missing_names
from remaphore.transport.servers import DialError, Failure, Server, discovered, explain
from remaphore.transport.stream import Stream

if TYPE_CHECKING:
    from remaphore.transport.nats_public import PublicClient

CONNECT_TIMEOUT = 2.0  # seconds for each step: TCP, INFO, TLS, PONG
DIAL_LIMIT = 6.0  # seconds for all of them
CLOSE_LIMIT = 0.5  # seconds; closing waits forever after a failed TLS handshake (nats.py issue 718)
PING_INTERVAL = 10  # seconds
# Unanswered pings after which the next one ends the connection: silence is noticed within two intervals, and a daemon
# has the third to report it (docs/reliability.md promises three).
UNANSWERED_PINGS = 1
# What writing raises once the connection is lost; it may do so before `Connection.ended` is done.
LOST = (OSError, errors.Error)
_CORRECT_SUBJECT = "correct subject in the configuration"


class Connection:
    """An accepted connection. `ended` is a future that is done once it has ended, for any reason."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._client: ReadingClient | PublicClient
        self._asked: set[tuple[str, str]] = set()  # (action, subject) written since the last round trip
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
        handshake_first: bool | None = None,
        report: Callable[[str], None] = lambda _line: None,
    ) -> Connection:
        """Connect to *server*, which has an address, once. Raise DialError.

        login: options of nats-py, see `credentials.login`; source: where they come from, for messages. context: needed
        when TLS is required; without one, a server that asks for TLS is checked against the system's CAs.
        handshake_first: see `Stream`. report: called with a line for each violation of the NATS protocol.
        """
        connection = cls(server)
        stream, chosen = connection._use_client(
            context, require_tls=require_tls or server.tls, handshake_first=handshake_first, report=report
        )
        options: dict[str, Any] = {**chosen, **login}
        if "user_credentials" in options:
            options["user_credentials"] = RawCredentials(options["user_credentials"])
        try:
            async with asyncio.timeout(DIAL_LIMIT):
                await connection._client.connect(
                    name="remaphore",
                    tls=context,
                    allow_reconnect=False,  # a failed attempt is reported, and not made again
                    connect_timeout=CONNECT_TIMEOUT,  # type: ignore[arg-type]  # annotated as int, used as seconds
                    ping_interval=PING_INTERVAL,
                    max_outstanding_pings=UNANSWERED_PINGS,
                    error_cb=connection._on_error,
                    **options,
                )
        except BaseException as error:
            cause = _cause(error, stream) if isinstance(error, ConnectionError) else error
            stream.abort()  # nothing is worth sending any more
            await connection.close()
            if isinstance(error, DialError) or not isinstance(error, Exception):
                raise
            raise DialError(explain(cause, source=source, timeout=CONNECT_TIMEOUT)) from None
        await asyncio.sleep(0)  # nats-py has made a task of our reader
        failure = connection._failure_of_login()
        if failure is not None:
            await connection.close()
            raise DialError(failure)
        return connection

    def _failure_of_login(self) -> Failure | None:
        if not self._client.is_connected:  # connect() accepts an end of file in place of PONG
            return Failure("connection closed during the login")
        if not self._client.reads:
            return Failure(f"nats-py {version('nats-py')} does not start remaphore's reader", TESTED, final=True)
        return None

    def _use_client(
        self,
        context: ssl.SSLContext | None,
        *,
        require_tls: bool,
        handshake_first: bool | None,
        report: Callable[[str], None],
    ) -> tuple[Stream, Mapping[str, Any]]:
        """Choose the client; return its stream and its options for `connect`. Raise DialError."""
        server = self.server
        assert server.address is not None, server
        stream = Stream(
            server.address,
            tls_name=server.certificate_name,
            context=context,
            handshake_first=handshake_first,
            require_tls=require_tls,
        )
        missing = missing_names()
        if not missing:
            what = f"{server.shown} does not follow the NATS protocol"
            self._client = ReadingClient(stream, ended=self._end, report=lambda text: report(f"{what}: {text}"))
            return stream, {"servers": [server.url]}
        from remaphore.transport.nats_public import PublicClient

        first = bool(handshake_first)
        client = PublicClient(server, require_tls=require_tls, handshake_first=first, ended=self._end)
        names = ", ".join(missing)
        report(f"nats-py {version('nats-py')} has no {names}: receiving is slower and less robust; hint: {TESTED}")
        self._client = client
        return stream, client.options_of_connect

    @property
    def max_payload(self) -> int:
        """The largest message that the server accepts, in bytes. Credentials may allow less, without reporting it."""
        return self._client.max_payload

    @property
    def about(self) -> Mapping[str, str]:
        """The server's address, name, version and cluster, and the version of TLS in use; empty what is unknown.

        certificate_expires: that of the server, such as `Nov 30 12:00:00 2027 GMT`.
        handshake_first: `yes` if TLS began before the server's first line.
        """
        info = self._client.server_info
        return {
            "address": self.server.shown,
            "name": info.get("server_name", ""),
            "version": info.get("version", ""),
            "cluster": info.get("cluster", ""),
            "tls": self._client.tls_version,
            "certificate_expires": self._client.certificate_expires,
            "handshake_first": "yes" if self._client.handshake_first else "",
        }

    @property
    def received(self) -> int:
        """How many messages have been received so far."""
        return self._client.delivered

    @property
    def reason(self) -> str:
        """Why the connection ended, in the server's words if there are any."""
        error = self._client.last_error or self._first_error
        if error is None or isinstance(error, errors.UnexpectedEOF | OSError):
            return "closed by the other side"
        return str(error)[:MAX_SHOWN].removeprefix("nats: ").strip("'") or type(error).__name__

    def discovered(self) -> Iterable[Server]:
        """Return the other servers of the cluster, as this one reports them."""
        scheme = "tls" if self.server.tls else "nats"
        places = self._client.server_info.get("connect_urls", ())
        servers = [discovered(f"{scheme}://{place}", self.server) for place in places]
        ours = self.server.shown, f"{scheme}://{self.server.address}"
        return [server for server in servers if not server.problem and server.shown not in ours]

    async def publish(
        self, subject: str, data: bytes, *, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Write one message. It is delivered only once `confirm` has returned.

        Raise PayloadTooLargeError or SubjectDeniedError for a message that cannot be written at all.
        """
        if len(data) > self.max_payload:
            text = f"message of {len(data)} bytes for {subject}: the broker accepts at most {self.max_payload}"
            raise PayloadTooLargeError(text, hint="send less, or raise max_payload of the broker")
        self._asked.add(("publish", subject.lower()))
        try:
            await self._client.publish(subject, data, reply, dict(headers) if headers else None)
        except errors.BadSubjectError:
            raise SubjectDeniedError(f"not a NATS subject: {subject!r}", hint=_CORRECT_SUBJECT) from None

    async def subscribe(self, subject: str, deliver: Callable[[Iterator[Any]], None], *, whole: bool = False) -> Handle:
        """Write one subscription, and return its handle. It is in effect only once `confirm` has returned.

        *deliver* gets what arrives together; if it raises, that costs the message that it had got last: it is called
        again with the rest. whole: each is an `Incoming`, in place of bytes.
        """

        def receive(messages: Sequence[Any]) -> None:
            left = iter(messages)
            for _ in range(len(messages) + 1):  # as often as one of them can raise
                try:
                    deliver(left)
                    break
                except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it would end the reader
                    context = {"message": f"delivery of a message on {subject} failed", "exception": error}
                    asyncio.get_running_loop().call_exception_handler(context)

        if subject.split() != [subject]:
            raise SubjectDeniedError(f"not a NATS subject: {subject!r}", hint=_CORRECT_SUBJECT)
        self._asked.add(("subscription", subject.lower()))
        handle = await self._client.listen(subject, receive, whole=whole)
        self._written.add(handle)
        return handle

    async def unsubscribe(self, handle: Handle) -> None:
        """End a subscription of this connection."""
        self._standing.discard(handle)
        self._written.discard(handle)
        await self._client.unlisten(handle)

    async def confirm(self) -> None:
        """Return once the server has handled all that was written before; raise, or never return, if it has not.

        The caller watches `ended` and the time, and closes the connection if it gives up.
        """
        # flush() writes PING before what is queued for the flusher: of publish("x"), flush() the server sees PING, PUB,
        # and its PONG would prove nothing. So the queue has to be empty first.
        pause = 0.0
        while self._client.pending_data_size:
            await asyncio.sleep(pause)
            pause = min(pause + 0.001, 0.02)
        if self.ended.done():  # flush() without its reader returns at once
            raise errors.ConnectionClosedError
        await self._client.flush(timeout=3600)
        self._standing |= {
            handle for handle in self._written if ("subscription", handle.subject.lower()) not in self._denied
        }
        self._written.clear()

    def pop_denied(self) -> set[tuple[str, str]]:
        """Return what was denied since the last call: pairs of publish or subscription, and subject in lower case."""
        denied, self._denied = self._denied, set()
        self._asked.clear()
        return denied

    async def close(self) -> None:
        """End the connection, whatever its state. Never raise; take at most twice CLOSE_LIMIT seconds."""
        self._end()
        closing = spawn(self._client.close(), name="nats-close")
        try:
            await asyncio.wait({closing}, timeout=CLOSE_LIMIT)
        finally:
            self._client.abort()
            closing.cancel()
            await asyncio.wait({closing}, timeout=CLOSE_LIMIT)
            if closing.done() and not closing.cancelled():
                closing.exception()  # closing what is broken may fail, and nothing can be done about it

    async def _on_error(self, error: Exception) -> None:
        # Must not raise: nats-py awaits this while it connects, and our reader for each denial.
        found = DENIED.search(str(error))
        if found:
            denied = found[1].lower(), found[2].lower()
            withdrawn = any(("subscription", handle.subject.lower()) == denied for handle in self._standing)
            if withdrawn or denied in self._asked:  # a server may write any number of others: they are not kept
                self._denied.add(denied)
            if withdrawn:
                # By a reload of the server, which keeps the connection open while no message arrives any more.
                self._first_error = error
                self._end()
        elif self._first_error is None:
            self._first_error = error

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


def _cause(lost: ConnectionError, stream: Stream) -> Exception:
    """Return the error that the server wrote before it closed *stream*, such as that it has too many connections.

    nats-py writes the login before it reads that line, and fails there: *lost*, which is returned if there is no line.
    """
    operation, _, text = stream.unread_line().decode(errors="replace").strip().partition(" ")
    return errors.Error(f"nats: {text}") if operation == "-ERR" else lost
