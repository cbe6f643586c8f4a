"""The NATS client protocol as a server speaks it: bytes in, messages and control lines out. No I/O.

nats-py's own parser is not used. It decodes headers and reply subjects, which remaphore needs neither of, and a header
block of two bytes, or one byte 0xff, VT or FF in a reply subject, raises there and ends the reader: anyone who may
publish could end the connection of every receiver. It also believes any size and any length of a line.

Three rules hold here instead:

1. Subject, reply subject and headers are skipped, never decoded.
2. What is wrong within one line or one message, while the end of it is known, costs that line or message: a `Flaw`.
3. Where the end is not known, what follows cannot be trusted: ProtocolError, and the caller ends the connection.

Memory is bounded by one line (MAX_LINE) or one message (*max_message*), and one chunk of the caller's. Work is linear
in the number of bytes, however they are cut into chunks. The protocol: https://docs.nats.io/reference/reference-protocols
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

# Bytes of one line. nats-server has 4 KiB (max_control_line) unless an administrator raises it; a reply subject, which
# anyone who may publish chooses, is as long as that at most. INFO of a cluster of 1,000 servers has 25 KiB.
MAX_LINE = 1024 * 1024
# Bytes of a message that are passed over. nats-server has at most that much under way to one client (max_pending); its
# max_payload is no bound, since servers of a cluster may have different ones.
MAX_SKIPPED = 64 * 1024 * 1024

_CRLF = b"\r\n"
_CONTROL = (b"PING", b"PONG", b"INFO", b"-ERR", b"+OK")
_MAX_DIGITS = 19  # of a number; more is never right, and not worth converting
# The status line of the broker itself, "no responders": an answer to a reply subject, and no message of anyone.
_NO_RESPONDERS = b"NATS/1.0 503"


class ProtocolError(Exception):
    """The stream is out of step: where the next line begins is not known. Its text is ours alone."""


class Delivery(NamedTuple):
    """A message for the subscription *sid*. payload: without headers; of one that is too large, see `Parser`."""

    sid: int
    payload: bytes


class Control(NamedTuple):
    """A line of the server: operation PING, PONG, INFO or -ERR, and what follows it."""

    operation: bytes
    text: bytes


class Flaw(NamedTuple):
    """A line or a message that was passed over, and why, in our own words."""

    text: str


Event = Delivery | Control | Flaw


@dataclass(slots=True)
class _Announced:
    """A message whose line was read. size: bytes that still come, *header* of them first; flaw: it is not delivered."""

    sid: int
    header: int
    size: int
    flaw: str = ""


class Parser:
    """Reads one connection, from after the login. `feed` it with what arrives.

    A message of more than *max_message* bytes is delivered with the first *max_message* + 1 of them, so that whoever
    judges it sees that it is too large; the rest is never in memory.
    """

    def __init__(self, *, max_message: int) -> None:
        self._max_message = max_message
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer that hold no end of a line
        self._announced: _Announced | None = None
        self._head = b""  # of the headers of a message, once they have been passed over
        self._kept = b""  # the payload of a message that is too large, while the rest of it is passed over

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield what is complete with *data*, in order. Raises ProtocolError, after what came before it."""
        self._buffer += data
        while True:
            event = self._line() if self._announced is None else self._payload(self._announced)
            if event is None:
                return
            if event is not _NOTHING:
                yield event

    def _line(self) -> Event | None:
        """Read one line; return what it says, None if it is not whole yet."""
        end = self._buffer.find(b"\n", self._searched)
        if end > MAX_LINE or (end < 0 and len(self._buffer) > MAX_LINE):
            raise ProtocolError(f"a line of more than {MAX_LINE} bytes")
        if end < 0:
            self._searched = len(self._buffer)
            return None
        line = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        self._searched = 0
        spaced = line.replace(b"\t", b" ")
        operation = spaced.partition(b" ")[0].upper()
        if operation in (b"MSG", b"HMSG"):
            self._announced = _read_arguments(spaced, with_headers=operation == b"HMSG")
            return _NOTHING
        if operation not in _CONTROL:
            raise ProtocolError("a line that is no operation of the protocol")
        return _NOTHING if operation == b"+OK" else Control(operation, line[len(operation) :].strip())

    def _payload(self, message: _Announced) -> Event | None:
        """Read the rest of *message*; return what came of it, None if it is not whole yet."""
        self._pass_over(message)
        if len(self._buffer) < message.size + len(_CRLF):
            return None
        if not self._buffer.startswith(_CRLF, message.size):
            raise ProtocolError("a message whose size is not the announced one")
        status = self._head == _NO_RESPONDERS
        payload = self._kept or bytes(self._buffer[: message.size])
        del self._buffer[: message.size + len(_CRLF)]
        self._announced, self._head, self._kept = None, b"", b""
        if message.flaw:
            return Flaw(message.flaw)
        return _NOTHING if status else Delivery(message.sid, payload)

    def _pass_over(self, message: _Announced) -> None:
        """Drop what has come of the headers, and of the payload what its receiver is not to see."""
        if message.header:
            missing = min(len(_NO_RESPONDERS), message.header + len(self._head)) - len(self._head)
            self._head += bytes(self._buffer[:missing])
            message.header -= self._drop(message, message.header)
            if message.header:
                return
        if not message.flaw and not self._kept:
            if message.size <= self._max_message or len(self._buffer) <= self._max_message:
                return
            self._kept = bytes(self._buffer[: self._max_message + 1])
        self._drop(message, message.size)

    def _drop(self, message: _Announced, most: int) -> int:
        """Drop up to *most* of the bytes that have come of *message*; return how many."""
        dropped = min(len(self._buffer), most)
        del self._buffer[:dropped]
        message.size -= dropped
        return dropped


_NOTHING = Flaw("")  # an event that is not yielded


def _read_arguments(spaced: bytes, *, with_headers: bool) -> _Announced:
    """Read `MSG subject sid [reply] size` or `HMSG subject sid [reply] header-size size`. Raises ProtocolError.

    *spaced*: the line with spaces for tabs. It is split at these alone, as nats-server does: a subject may hold any
    other byte, also those that `bytes.split()` takes for white space.
    """
    words = [word for word in spaced.split(b" ") if word]
    size = _number(words[-1])
    if size is None or size > MAX_SKIPPED:
        raise ProtocolError("a message without a size" if size is None else f"a message of {size} bytes")
    sid = _number(words[2]) if len(words) > 2 else None
    header = _number(words[-2]) if with_headers else 0
    if sid is None or len(words) - with_headers not in (4, 5):
        return _Announced(0, 0, size, "a message for no subscription")
    if header is None or header > size:
        return _Announced(0, 0, size, "a message whose headers have no size")
    return _Announced(sid, header, size)


def _number(text: bytes) -> int | None:
    return int(text) if text.isdigit() and len(text) <= _MAX_DIGITS else None
