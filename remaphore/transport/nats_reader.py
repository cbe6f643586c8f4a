"""nats-py's client with a reader of our own, which uses `parser`: what arrives is judged here, and not by nats-py.

Connecting, TLS, login, writing and pings are nats-py's. Its subscriptions are not used either: they make an object, an
entry of a queue and a turn of a task of each message.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from nats import errors
from nats.aio.client import Client
from nats.aio.transport import TcpTransport

from remaphore.protocol.wire import MAX_MESSAGE_BYTES
from remaphore.transport.bus import Deliver
from remaphore.transport.parser import Control, Delivery, Flaw, Parser
from remaphore.transport.servers import DialError, Failure

MAX_SHOWN = 500  # characters of one text of the server that are shown
MAX_INFO = (
    128 * 1024
)  # bytes of an INFO line, which may take thirty times that once it is read; of 1,000 servers 25 KiB
MAX_DISCOVERED = 100  # servers of a cluster that a broker may tell of
_CHUNK = 32 * 1024  # bytes read at once
_NAMES = ("server_name", "version", "cluster")

DENIED = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"', re.IGNORECASE)


class Handle(NamedTuple):
    """A subscription on one connection: its number there (sid), and its subject."""

    sid: int
    subject: str


class ReadingClient(Client):
    """nats-py's client with our own reader. It tells when it ends, and never speaks clear text where TLS was asked for.

    report: called with a line for each thing of the server that was passed over, or that ended the connection, because
    it is not the NATS protocol.
    """

    def __init__(self, *, require_tls: bool, ended: Callable[[], None], report: Callable[[str], None]) -> None:
        super().__init__()
        self._require_tls = require_tls
        self._ended = ended
        self._report = report
        self._receivers: dict[int, Deliver] = {}
        self._last_sid = 0
        self.server_info: Mapping[str, Any] = {}
        self.delivered = 0  # messages so far

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # noqa: FBT001, FBT002 - nats-py's signature
        # Without this, tls:// falls back to clear text and sends the login to whoever answers (fixed only in
        # nats-core: nats.py pull request 912). CONNECT has not been sent yet when this runs.
        if initial_connection and self._require_tls and not info.get("tls_required"):
            text = "the server offers no TLS, and clear text is not an alternative; hint the server, or use nats://"
            raise DialError(Failure(text, final=True))
        # The rest of nats-py's is left out: a pool that grows with each server that a broker tells of.
        most = info.get("max_payload", 0)
        if not isinstance(most, int) or most <= 0:  # nats-py takes over what it finds here after this
            info.pop("max_payload", None)
        self.server_info = _useful(info)

    async def listen(self, subject: str, deliver: Deliver) -> Handle:
        """Write a subscription. *deliver* must not raise."""
        self._last_sid += 1
        self._receivers[self._last_sid] = deliver
        await self._send_command(b"SUB %s %d\r\n" % (subject.encode(), self._last_sid))
        await self._flush_pending()
        return Handle(self._last_sid, subject)

    async def unlisten(self, handle: Handle) -> None:
        """Write the end of a subscription; nothing of it is delivered from now on."""
        self._receivers.pop(handle.sid, None)
        await self._send_command(b"UNSUB %d\r\n" % handle.sid)
        await self._flush_pending()

    # In place of nats-py's, for the reasons that `parser` gives. nats-py starts it after the login.
    async def _read_loop(self) -> None:
        parser = Parser(max_message=MAX_MESSAGE_BYTES)
        try:
            while self._transport is not None and (data := await self._transport.read(_CHUNK)):
                for event in parser.feed(data):
                    if isinstance(event, Delivery):
                        self._deliver(event)
                    elif isinstance(event, Flaw):
                        self._report(f"passed over {event.text}")
                    else:
                        await self._obey(event)
            self._err = errors.UnexpectedEOF()
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this connection, and the next one is made
            self._err = error
            if not isinstance(error, errors.Error | OSError):
                self._report(f"connection ended after {error or type(error).__name__}")
        finally:
            self._ended()

    def _deliver(self, message: Delivery) -> None:
        deliver = self._receivers.get(message.sid)
        if deliver is None:
            return  # the subscription has just ended
        self.delivered += 1
        # A PONG that is late stands in line behind the message, and the server is not silent.
        self._pings_outstanding = 0
        deliver(message.payload)

    async def _obey(self, line: Control) -> None:
        """Do what a control line asks for. Raises errors.Error for an error of the server that ends the connection."""
        if line.operation == b"PING":
            await self._process_ping()
        elif line.operation == b"PONG":
            await self._process_pong()
        elif line.operation == b"INFO":
            self._note_info(line.text)
        else:
            text = line.text.decode(errors="replace").strip("' ")
            if not DENIED.search(text):
                raise errors.Error(f"nats: {text[:MAX_SHOWN]}")
            await self._error_cb(errors.Error(f"nats: {text}"))

    async def _process_pong(self) -> None:
        # nats-py's sets the result of a future that may have been cancelled, which raises and would end the reader.
        if self._pongs and not self._pongs[0].done():
            self._pongs[0].set_result(True)
        del self._pongs[:1]
        self._pings_outstanding = 0

    def _note_info(self, text: bytes) -> None:
        try:
            info = json.loads(text) if len(text) <= MAX_INFO else None
        except (ValueError, RecursionError):
            info = None
        if isinstance(info, dict):
            self.server_info = _useful(info)
        else:
            self._report(f"passed over an INFO line that is not a JSON object of at most {MAX_INFO} bytes")

    # A client ends both loops before it does anything that may wait for ever. If one of them ends by an unexpected
    # error, the client still says that it is connected (nats.py pull request 914).
    async def _flusher(self) -> None:
        try:
            await super()._flusher()
        finally:
            self._ended()

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


def _useful(info: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return of a server's *info* what is used here, so that the rest is not kept."""
    urls = info.get("connect_urls")
    told = {key: text[:MAX_SHOWN] for key in _NAMES if isinstance(text := info.get(key), str)}
    discovered = [url for url in urls if isinstance(url, str)][:MAX_DISCOVERED] if isinstance(urls, list) else []
    return {**told, "connect_urls": discovered}
