"""The byte stream of a connection: TCP to one address, and TLS on it, before or after the server's first line.

It takes the place of nats-py's transport, which looks the name up itself, uses one address of it, waits forever for the
end of a failed TLS handshake (nats.py issue 718), and makes asyncio log a warning at the end of each TLS connection
(nats.py issue 574).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from urllib.parse import ParseResult

from nats.aio.transport import Transport

from remaphore.transport.servers import INFO_WAIT, Address, DialError, Failure, LateInfoError, is_alert, reason

_HANDSHAKE_FIRST = "remove handshake_first from [tls], or configure it on the server"
_NEITHER = "check host and port in servers"
# Bytes that are received at once. asyncio's 256 KiB are more than malloc keeps: each message that arrives alone would
# map and unmap as much memory, which takes 16 of the 26 us from the socket to the reader.
_RECEIVE_BYTES = 64 * 1024


class Stream(Transport):
    """A stream to one address, over which nothing is sent in clear text if *require_tls* is true.

    tls_name: the name for SNI that the server's certificate must carry. context: set where TLS is required.
    handshake_first: start TLS before the server's first line, as nats-server requires with its setting of this name;
    None: try that if *context* is set and the server sends nothing for INFO_WAIT.
    """

    def __init__(
        self,
        address: Address,
        *,
        tls_name: str,
        context: ssl.SSLContext | None,
        handshake_first: bool | None,
        require_tls: bool = False,
    ) -> None:
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._clear_writer: asyncio.StreamWriter | None = None  # kept: its end would close the socket under TLS
        self._address = address
        self._tls_name = tls_name
        self._require_tls = require_tls
        self._context = context
        self._handshake_first = handshake_first
        self._aborted = False
        self.tls_came_first = False  # before the server's first line

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """The state of TLS, None in clear text."""
        return self._writer.get_extra_info("ssl_object") if self._writer else None

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: float) -> None:  # noqa: ARG002 - nats-py's signature
        """Connect to the address, whatever *uri* names; then begin TLS if it comes first. Times are in seconds."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(connect_timeout):
            # With its protocol named: asyncio sets TCP_NODELAY on no other socket, and a round trip would take 40 ms.
            sock = socket.socket(self._address.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            try:
                sock.setblocking(False)  # noqa: FBT003
                await loop.sock_connect(sock, self._address.sockaddr)
                reader = asyncio.StreamReader(limit=buffer_size)
                transport, protocol = await loop.create_connection(lambda: _Protocol(reader, sock), sock=sock)
                writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            except BaseException:
                sock.close()
                raise
        with contextlib.suppress(AttributeError):  # another event loop's transport may not have it
            writer.transport.max_size = _RECEIVE_BYTES  # type: ignore[attr-defined]
        self._reader = reader
        self._clear_writer = self._writer = writer
        if self._handshake_first and self._context is not None:
            self.tls_came_first = True
            try:
                await self._begin_tls(self._context, connect_timeout)
            except OSError as error:
                if _is_clear_text(error):
                    text = f"the server does not begin with TLS, which tls.handshake_first demands ({reason(error)})"
                    raise DialError(Failure(text, _HANDSHAKE_FIRST)) from None
                raise

    async def connect_tls(
        self,
        uri: str | ParseResult,  # noqa: ARG002 - nats-py's signature
        ssl_context: ssl.SSLContext,
        buffer_size: int,  # noqa: ARG002
        connect_timeout: float,
    ) -> None:
        """Begin TLS, unless it has begun before."""
        if self.ssl_object is None:
            await self._begin_tls(ssl_context, connect_timeout)

    async def readline(self) -> bytes:
        """Return the next line. Before the first one, begin TLS if it is required and the server sends nothing."""
        assert self._reader is not None, "connect comes first"
        if self._handshake_first is not None or self._context is None:
            return await self._reader.readline()
        self._handshake_first = False
        try:
            async with asyncio.timeout(INFO_WAIT):
                first = await self._reader.read(1)
        except TimeoutError:
            self.tls_came_first = True
            try:
                await self._begin_tls(self._context, None)
            except OSError as error:
                if not _is_clear_text(error):
                    raise
                text = f"no INFO within {INFO_WAIT:g} s, and no TLS before it ({reason(error)})"
                raise LateInfoError(Failure(text, _NEITHER)) from None
            return await self._reader.readline()
        return first + await self._reader.readline() if first not in (b"", b"\n") else first

    def unread_line(self) -> bytes:
        """Return the line that has arrived and was not read, empty if there is none."""
        # Once a write has failed, asyncio's reader raises that error instead of returning what it still has.
        return bytes(getattr(self._reader, "_buffer", b"")).partition(b"\n")[0]

    def write(self, payload: bytes) -> None:
        """Queue *payload*. Raise DialError in place of sending anything, such as the login, without the required TLS.

        nats-py would fall back to clear text for any server that does not offer TLS (fixed only in nats-core: nats.py
        pull request 912).
        """
        assert self._writer is not None, "connect comes first"
        if self._require_tls and self.ssl_object is None:
            hint = "configure TLS on the server, or use nats:// and no table [tls]"
            raise DialError(
                Failure("the server does not offer TLS, which the configuration requires", hint, final=True)
            )
        self._writer.write(payload)

    def writelines(self, payload: list[bytes]) -> None:
        """Do as `write` for each of *payload*."""
        self.write(b"".join(payload))

    async def drain(self) -> None:
        """Wait until there is room for more."""
        assert self._writer is not None, "connect comes first"
        await self._writer.drain()

    async def read(self, buffer_size: int) -> bytes:
        """Return at most *buffer_size* bytes that have arrived, none at the end."""
        assert self._reader is not None, "connect comes first"
        return await self._reader.read(buffer_size)

    def at_eof(self) -> bool:
        """Return whether everything was read, and nothing more will arrive."""
        return self._reader is None or self._reader.at_eof()

    def close(self) -> None:
        """Send what is queued, then close."""
        if self._writer is not None:
            self._writer.close()

    async def wait_closed(self) -> None:
        """Wait until the stream is closed; not after `abort`, whose end is not reported during a TLS handshake."""
        if not self._aborted and self._writer is not None:
            await self._writer.wait_closed()

    def __bool__(self) -> bool:
        """Return whether it was connected."""
        return self._writer is not None

    def abort(self) -> None:
        """Release the socket at once."""
        self._aborted = True
        for writer in (self._writer, self._clear_writer):
            if writer is not None:
                writer.transport.abort()

    async def _begin_tls(self, context: ssl.SSLContext, limit: float | None) -> None:
        assert self._writer is not None, "connect comes first"
        loop = asyncio.get_running_loop()
        # A new reader: what is in the old one was sent in clear text, and must not be taken for a part of the secured
        # stream.
        reader = asyncio.StreamReader()
        protocol = _TlsProtocol(reader)
        async with asyncio.timeout(limit):
            transport = await loop.start_tls(self._writer.transport, protocol, context, server_hostname=self._tls_name)
        if transport is None:
            raise ConnectionResetError("connection lost during the TLS handshake")
        self._reader, self._writer = reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class _Protocol(asyncio.StreamReaderProtocol):
    """asyncio's, which also has the last words of a server that has closed the connection on *sock*.

    A server that is full says so and closes at once. On a busy machine, our login is written before that is read, its
    write fails, and asyncio reads no more; what has arrived is still there.
    """

    def __init__(self, reader: asyncio.StreamReader, sock: socket.socket) -> None:
        super().__init__(reader)
        self._last_words = reader.feed_data
        self._socket = sock
        self._ended = False  # the server has said all, and feeding the reader any more is an error

    def eof_received(self) -> bool | None:
        self._ended = True
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, ConnectionError) and not self._ended:
            # Whatever is raised here: without the next line, `wait_closed` would wait forever.
            with contextlib.suppress(Exception):
                self._last_words(self._socket.recv(_RECEIVE_BYTES))
        super().connection_lost(exc)


class _TlsProtocol(asyncio.StreamReaderProtocol):
    """asyncio's, which learns of TLS only where it sees the connection being made; not here, where TLS comes later."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False  # to keep a TLS connection half open is impossible, and asyncio logs each such attempt


def _is_clear_text(error: OSError) -> bool:
    """Return whether *error*, of a handshake, means that the other side sent no TLS.

    A rejected certificate is none of these, nor the end of the stream, nor an alert, which the other side sends in TLS.
    """
    other = (ssl.SSLCertVerificationError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
    return isinstance(error, ssl.SSLError) and not isinstance(error, other) and not is_alert(error)
