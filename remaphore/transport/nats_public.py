"""nats-py's client by its public interface alone: for a nats-py without the private names that `nats_reader` needs.

It is slower, and nats-py's own parser reads. A message that this cannot read ends its reader without a call to us, so
nothing is received until pings are not answered, for up to 20 s; then the bus makes the next connection. Whoever may
publish to a subject could so keep its receivers from receiving. TLS is only possible before the server's first line,
since nats-py would send the login in clear text to a server that offers no TLS afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from remaphore.protocol.wire import MAX_MESSAGE_BYTES
from remaphore.transport.bus import Incoming
from remaphore.transport.nats_reader import MAX_DISCOVERED, TESTED, Handle
from remaphore.transport.servers import DialError, Failure, Server

# nats-py's name for the status of the broker itself, "no responders", which no client has published.
_STATUS, _NO_RESPONDERS = "Status", "503"


class PublicClient(Client):
    """Does what `ReadingClient` does. ended: called when it has ended, perhaps more than once."""

    def __init__(self, server: Server, *, require_tls: bool, handshake_first: bool, ended: Callable[[], None]) -> None:
        """Raise DialError if nats-py alone cannot guarantee the TLS that is required."""
        super().__init__()
        if require_tls and not handshake_first:
            text = (
                f"nats-py {version('nats-py')} cannot be used for TLS, unless TLS comes before the server's first line"
            )
            raise DialError(Failure(text, f"{TESTED}; or set tls.handshake_first here and on the server", final=True))
        self._at = server
        self._tls_first = handshake_first and require_tls
        self._on_end = ended
        self._listening: dict[int, Subscription] = {}
        self._number = 0
        self.reads = True
        self.delivered = 0  # number of messages so far
        self.tls_version = "TLS" if self._tls_first else ""
        self.certificate_expires = ""
        self.handshake_first = self._tls_first

    @property
    def options_of_connect(self) -> Mapping[str, Any]:
        """The arguments of `connect` that depend on the server."""
        parts = urlsplit(self._at.url)
        login, at, _ = parts.netloc.rpartition("@")

        async def on_end() -> None:
            self._on_end()

        tls = {"tls_hostname": self._at.certificate_name, "tls_handshake_first": True} if self._tls_first else {}
        url = parts._replace(netloc=f"{login}{at}{self._at.address}").geturl()
        return {"servers": [url], "closed_cb": on_end, "disconnected_cb": on_end, **tls}

    @property
    def server_info(self) -> Mapping[str, Any]:
        """What nats-py tells about the server: its version, and the other servers of its cluster."""
        found = self.connected_server_version
        others = [uri.netloc for uri in self.discovered_servers]
        return {"version": f"{found.major}.{found.minor}.{found.patch}", "connect_urls": others[:MAX_DISCOVERED]}

    async def listen(self, subject: str, deliver: Callable[[Sequence[Any]], None], *, whole: bool = False) -> Handle:
        """Write a subscription, and return its handle. *deliver* gets one message at a time, and must not raise.

        whole: as an `Incoming`, in place of bytes.
        """
        self._number += 1
        handle = Handle(self._number, subject)

        async def on_message(message: Msg) -> None:
            status = message.headers.get(_STATUS) if message.headers else None
            if handle.sid not in self._listening or (status == _NO_RESPONDERS and not whole):
                return
            self.delivered += 1
            data = message.data[: MAX_MESSAGE_BYTES + 1]
            if whole:
                number = int(status) if status and status.isdigit() else 0
                deliver([Incoming(message.subject, number, message.headers or {}, data)])
            else:
                deliver([data])

        # No limits (0): this never waits, so its queue is short, and nats-py would drop the newest messages.
        self._listening[handle.sid] = await self.subscribe(
            subject, cb=on_message, pending_msgs_limit=0, pending_bytes_limit=0
        )
        return handle

    async def unlisten(self, handle: Handle) -> None:
        """Write the end of a subscription; nothing is delivered to it from now on."""
        await self._listening.pop(handle.sid).unsubscribe()

    def abort(self) -> None:
        """Do nothing: nats-py has no public way to release the socket at once."""
