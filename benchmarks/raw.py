"""A NATS client that costs next to nothing: a blocking socket, so that what is measured is the other side."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import NamedTuple, Self
from urllib.parse import urlsplit


class Delivery(NamedTuple):
    """A message as it was delivered."""

    subject: str
    data: bytes


class RawClient:
    """Publishes and subscribes without authentication. Every wait ends after *timeout* seconds, with TimeoutError."""

    def __init__(self, url: str, *, timeout: float = 60.0) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port or 4222), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._subscriptions = 0
        self._line()
        self._socket.sendall(
            b'CONNECT {"verbose":false,"pedantic":false,"name":"bench","lang":"raw","version":"1"}\r\n'
        )
        self.confirm()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()

    def subscribe(self, *subjects: str) -> None:
        """Return once the subscriptions stand. Nothing may be on its way to us yet."""
        numbered = enumerate(subjects, self._subscriptions + 1)
        self._socket.sendall(b"".join(b"SUB %b %d\r\n" % (subject.encode(), number) for number, subject in numbered))
        self._subscriptions += len(subjects)
        self.confirm()

    def confirm(self) -> None:
        """Return once the server has handled all that was sent; to be called while nothing is being delivered."""
        self._socket.sendall(b"PING\r\n")
        while (line := self._line()) != b"PONG":
            if line.startswith(b"-ERR"):
                raise ConnectionError(line.decode())

    def send(self, packed: bytes) -> None:
        """Write what `pack` made."""
        self._socket.sendall(packed)

    def receive(self) -> Delivery:
        """Return the next message that is delivered to us."""
        while True:
            line = self._line()
            if line.startswith(b"MSG "):
                fields = line.split(b" ")
                data = self._exactly(int(fields[-1]) + 2)[:-2]
                return Delivery(fields[1].decode(), data)
            if line == b"PING":
                self._socket.sendall(b"PONG\r\n")
            elif line.startswith(b"-ERR"):
                raise ConnectionError(line.decode())

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._fill()
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._fill()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _fill(self) -> None:
        more = self._socket.recv(65_536)
        if not more:
            raise ConnectionError("the broker closed the connection")
        self._buffer += more


def pack(subject: str, messages: Iterable[bytes]) -> bytes:
    """Return the bytes that publish *messages*, ready to be written in one go."""
    head = f"PUB {subject} ".encode()
    return b"".join(b"%b%d\r\n%b\r\n" % (head, len(message), message) for message in messages)
