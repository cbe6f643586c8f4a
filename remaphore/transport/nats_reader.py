"""nats-py's client with our own reader, which uses `parser`: received bytes are checked here, not by nats-py.

Connecting, TLS, login, writing and pings are nats-py's. Its subscriptions are not used either: each message costs them
an object, a queue entry and a task switch.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from nats import errors
from nats.aio.client import Client

from remaphore.protocol.wire import MAX_MESSAGE_BYTES
from remaphore.transport import headers
from remaphore.transport.bus import Incoming
from remaphore.transport.parser import Control, Delivery, Flaw, Parser, Whole
from remaphore.transport.stream import Stream

MAX_SHOWN = 500  # characters of one text of the server that are shown
# Bytes of an INFO line, which may need thirty times that in memory once it is parsed; that of 1,000 servers has 25 KiB.
MAX_INFO = 128 * 1024
MAX_DISCOVERED = 100  # servers of a cluster that a broker may report
_CHUNK = 32 * 1024  # bytes read at once
_NAMES = ("server_name", "version", "cluster")

DENIED = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"', re.IGNORECASE)


# What `ReadingClient` overrides, calls or sets of nats-py although it is private. Where one is missing, `PublicClient`
# takes its place: nats-py would never call a method that it has renamed, and no message would arrive.
PRIVATE_METHODS = (
    *("_select_next_server", "_process_info", "_read_loop", "_flusher", "_process_ping", "_process_pong"),
    *("_send_command", "_flush_pending"),
)
PRIVATE_ATTRIBUTES = (
    *("_server_pool", "_current_server", "_transport", "_err", "_error_cb", "_pongs", "_pings_outstanding"),
)

TESTED = "install a version of nats-py that remaphore was tested with: pip install nats-py==2.16.0"


@functools.cache
def missing_names() -> tuple[str, ...]:
    """Return which private names that `ReadingClient` needs the installed nats-py does not have."""
    attributes = vars(Client())
    return (
        *(name for name in PRIVATE_METHODS if not callable(getattr(Client, name, None))),
        *(name for name in PRIVATE_ATTRIBUTES if name not in attributes),
    )


class Handle(NamedTuple):
    """A subscription on one connection: its number there (sid), and its subject."""

    sid: int
    subject: str


class ReadingClient(Client):
    """nats-py's client on a `Stream`, with our own reader. It needs PRIVATE_METHODS and PRIVATE_ATTRIBUTES of nats-py.

    ended: called when it has ended, perhaps more than once. report: called with a line for each violation of the NATS
    protocol by the server, whether it was skipped or ended the connection.
    """

    def __init__(self, stream: Stream, *, ended: Callable[[], None], report: Callable[[str], None]) -> None:
        super().__init__()
        self._stream = stream
        self._ended = ended
        self._report = report
        self._receivers: dict[int, Callable[[Sequence[Any]], None]] = {}
        self._whole: set[int] = set()  # the subscriptions that get an `Incoming`
        self._last_sid = 0
        self.server_info: Mapping[str, Any] = {}
        self.delivered = 0  # number of messages so far
        self.reads = False  # whether nats-py has started our reader

    # In place of nats-py's, which tries a server twice and then reports "no servers". nats-py calls it to connect.
    async def _select_next_server(self) -> None:
        (self._current_server,) = self._server_pool
        self._transport = self._stream
        await self._stream.connect(self._current_server.uri, _CHUNK, self.options["connect_timeout"])

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - nats-py's signature
        # nats-py's own is left out: a pool that grows with each server that a broker reports.
        largest = info.get("max_payload", 0)
        if not isinstance(largest, int) or largest <= 0:  # nats-py uses what it finds here after this
            info.pop("max_payload", None)
        self.server_info = _useful(info)

    async def listen(self, subject: str, deliver: Callable[[Sequence[Any]], None], *, whole: bool = False) -> Handle:
        """Write a subscription, and return its handle. *deliver* gets what arrives together, and must not raise.

        whole: it gets `Incoming`, in place of bytes.
        """
        self._last_sid += 1
        if whole:
            self._whole.add(self._last_sid)
        self._receivers[self._last_sid] = deliver
        await self._send_command(b"SUB %s %d\r\n" % (subject.encode(), self._last_sid))
        await self._flush_pending()
        return Handle(self._last_sid, subject)

    async def unlisten(self, handle: Handle) -> None:
        """Write the end of a subscription; nothing is delivered to it from now on."""
        self._receivers.pop(handle.sid, None)
        self._whole.discard(handle.sid)
        await self._send_command(b"UNSUB %d\r\n" % handle.sid)
        await self._flush_pending()

    # In place of nats-py's, for the reasons that `parser` gives. nats-py starts it after the login.
    async def _read_loop(self) -> None:
        self.reads = True
        parser = Parser(max_message=MAX_MESSAGE_BYTES, whole=self._whole)
        try:
            while self._transport is not None and (data := await self._transport.read(_CHUNK)):
                for event in parser.feed(data):
                    if isinstance(event, Delivery):
                        deliver = self._receivers.get(event.sid)
                        if deliver is None:
                            continue  # the subscription has just ended
                        self.delivered += len(event.payloads)
                        # Not silent: a PONG that is late is queued behind these messages.
                        self._pings_outstanding = 0
                        deliver(event.payloads)
                    elif isinstance(event, Whole):
                        self._deliver_whole(event)
                    elif isinstance(event, Flaw):
                        self._report(f"skipped {event.text}")
                    else:
                        await self._handle_control(event)
            self._err = errors.UnexpectedEOF()
        except Exception as error:  # noqa: BLE001 - it ends this connection, and the bus makes the next one
            self._err = error
            if not isinstance(error, errors.Error | OSError):
                self._report(f"connection ended after {error or type(error).__name__}")
        finally:
            self._ended()

    def _deliver_whole(self, event: Whole) -> None:
        deliver = self._receivers.get(event.sid)
        if deliver is not None:
            self.delivered += 1
            self._pings_outstanding = 0
            status, fields = headers.parse(event.headers)
            deliver([Incoming(event.subject.decode(errors="replace"), status, fields, event.payload)])

    async def _handle_control(self, line: Control) -> None:
        """React to a control line. Raise errors.Error for an error of the server that ends the connection."""
        if line.operation == b"PING":
            await self._process_ping()
        elif line.operation == b"PONG":
            await self._process_pong()
        elif line.operation == b"INFO":
            try:
                info = json.loads(line.text) if len(line.text) <= MAX_INFO else None
            except (ValueError, RecursionError):
                info = None
            if isinstance(info, dict):
                self.server_info = _useful(info)
            else:
                self._report(f"ignored an INFO line that is not a JSON object of at most {MAX_INFO} bytes")
        else:
            text = line.text.decode(errors="replace").strip("' ")
            if not DENIED.search(text):
                raise errors.Error(f"nats: {text[:MAX_SHOWN]}")
            await self._error_cb(errors.Error(f"nats: {text}"))

    async def _process_pong(self) -> None:
        # nats-py sets the result of a future that may have been cancelled, which raises and would end the reader.
        if self._pongs and not self._pongs[0].done():
            self._pongs[0].set_result(True)
        del self._pongs[:1]
        self._pings_outstanding = 0

    # A client ends both loops before it does anything that may wait forever. If one of them ends by an unexpected
    # error, the client still reports that it is connected (nats.py pull request 914).
    async def _flusher(self) -> None:
        try:
            await super()._flusher()
        finally:
            self._ended()

    def abort(self) -> None:
        """Release the socket at once; close() would first send what a silent server does not read."""
        self._stream.abort()

    @property
    def handshake_first(self) -> bool:
        """Whether TLS began before the server's first line."""
        return self._stream.tls_came_first

    @property
    def tls_version(self) -> str:
        """The version of TLS in use, empty without TLS."""
        secured = self._stream.ssl_object
        return secured.version() or "" if secured else ""

    @property
    def certificate_expires(self) -> str:
        """When the server's certificate expires, in the words of OpenSSL, empty without TLS."""
        secured = self._stream.ssl_object
        return str((secured.getpeercert() or {}).get("notAfter", "")) if secured else ""


def _useful(info: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a server's *info* that is used here, so that the rest is not kept."""
    urls = info.get("connect_urls")
    about = {key: text[:MAX_SHOWN] for key in _NAMES if isinstance(text := info.get(key), str)}
    discovered = [url for url in urls if isinstance(url, str)][:MAX_DISCOVERED] if isinstance(urls, list) else []
    return {**about, "connect_urls": discovered}
