"""The HTTP server: prometheus_client's handler, in one thread that answers one scrape at a time.

prometheus_client.start_http_server is not used: it starts a thread for each connection, without a limit of number or
time, so that any client could use up the daemon's file descriptors; and it looks up the name of the address, which
waits for a name server in the event loop.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import socketserver
import sys
import threading
import time
from http.server import HTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, MetricsHandler

from remaphore_plugins.metrics.settings import Listen

# A scrape takes milliseconds. A client that connects and sends nothing delays others by this long, and a daemon that
# stops, which has 5 seconds for it.
CONNECTION_SECONDS = 2.0

_POLL_SECONDS = 0.25  # within this time the thread notices `stop`

_log = logging.getLogger("remaphore.metrics")


class MetricsServer:
    """Serves *registry* on *listen* from its construction on, which raises OSError if it cannot listen there."""

    def __init__(self, listen: Listen, registry: CollectorRegistry) -> None:
        self._server = _Server(listen, registry)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name="metrics", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """The address, with the port that is really used."""
        return f"http://{self._server.listen}/metrics"

    def stop(self) -> None:
        """Finish the current scrape, and end; return when the port is free. Blocks, for seconds at worst."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(HTTPServer):
    # Whatever the base class has: a second daemon must fail to listen on the port, not share it.
    allow_reuse_port = False

    def __init__(self, listen: Listen, registry: CollectorRegistry) -> None:
        self.listen = listen
        self.address_family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        super().__init__(listen, MetricsHandler.factory(registry))

    def server_bind(self) -> None:
        # Not HTTPServer's, which would look up a name for the address.
        socketserver.TCPServer.server_bind(self)
        self.listen = Listen(self.listen.host, self.socket.getsockname()[1])
        self.server_name, self.server_port = self.listen

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:
            # Without a free descriptor the client stays in the queue, and the next attempt would fail at once.
            self.pause(_POLL_SECONDS)
            raise

    pause = staticmethod(time.sleep)

    def process_request(self, request: Any, client_address: Any) -> None:
        limit = threading.Timer(CONNECTION_SECONDS, self._disconnect, [request])
        limit.daemon = True
        limit.start()
        try:
            super().process_request(request, client_address)
        finally:
            limit.cancel()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's arguments
        error = sys.exception()
        if isinstance(error, ConnectionError):
            return  # the client has disconnected: nothing can be done about it here
        _log.error("a scrape failed: %r", error)

    @staticmethod
    def _disconnect(request: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            request.shutdown(socket.SHUT_RDWR)
