r"""The NATS client protocol as a server speaks it: bytes in, messages and control lines out. No I/O.

nats-py's own parser is not used. It decodes headers and reply subjects, of which remaphore needs neither, and a header
block of two bytes, or one byte 0xff, VT or FF in a reply subject, raises there and ends the reader: any client that may
publish could end the connection of every receiver. It also accepts any size and any length of a line.

Three rules apply here instead:

1. Subject, reply subject and headers are skipped, never decoded. For the subscriptions in *whole* alone, subject and
   headers are passed on as bytes.
2. An error within one line or one message whose end is known affects that line or message alone: a `Flaw`.
3. Where the end is not known, what follows cannot be trusted: ProtocolError, and the caller ends the connection.

Examples, each of them followed by a message that is correct:

    MSG a x 5\r\nhello\r\n        the sid is not a number; the size is known, so the next line is too: Flaw
    HMSG a 1 9 5\r\nhello\r\n     more header bytes than bytes; the same: Flaw
    MSG a 1 4\r\nhello\r\n        after 4 bytes there is no CRLF: which of the two sizes is right? ProtocolError
    MSG a 1 x\r\nhello\r\n        no size at all, and `hello` could be a line of the protocol: ProtocolError

Nearly all that a server writes is messages without headers, many in a chunk. `Parser._plain_messages` is a fast path
for these alone: whatever differs in one byte, or is not complete, is left to the other methods, which define what the
stream means. A property test holds the two equal.

Memory is bounded by one line (MAX_LINE) or one message (*max_message*), and one chunk of the caller's. Work is linear
in the number of bytes, however they are cut into chunks. The protocol: https://docs.nats.io/reference/reference-protocols
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

# Bytes of one line. nats-server allows 4 KiB (max_control_line) unless an administrator raises it; a reply subject,
# which any publisher chooses, is at most as long as that. INFO of a cluster of 1,000 servers has 25 KiB.
MAX_LINE = 1024 * 1024
# Bytes of a message that are skipped. nats-server queues at most that much for one client (max_pending); its
# max_payload is not a bound, since servers of a cluster may have different ones.
MAX_SKIPPED = 64 * 1024 * 1024

_CRLF = b"\r\n"
# The line of a message without headers, up to its size: subject, sid and perhaps a reply subject. Neither subject has a
# byte that could be a blank or the end of the line.
_PLAIN = re.compile(rb"MSG [^ \t\r\n]{1,4096} ([0-9]{1,19}) (?:[^ \t\r\n]{1,4096} )?")
_PLAIN_SIZE = re.compile(rb"([0-9]{1,8})\r\n")
_CONTROL = (b"PING", b"PONG", b"INFO", b"-ERR", b"+OK")
_MAX_DIGITS = 19  # of a number; more is never right, and not worth converting
# Bytes of the headers of one message that is delivered whole; JetStream writes less than 1 KiB.
MAX_HEADERS = 16 * 1024
# The status line of the broker itself, "no responders": sent to a reply subject, and not published by any client.
_NO_RESPONDERS = b"NATS/1.0 503"


class ProtocolError(Exception):
    """The stream is out of sync: the start of the next line is not known. Its text quotes nothing of the stream."""


class Delivery(NamedTuple):
    """Messages for the subscription *sid*, in their order; at least one.

    payloads: without headers; one that is too large is cut, see `Parser`.
    """

    sid: int
    payloads: list[bytes]


class Whole(NamedTuple):
    """A message for the subscription *sid* with its subject, and its headers as they were sent, which may be empty."""

    sid: int
    subject: bytes
    headers: bytes
    payload: bytes


class Control(NamedTuple):
    """A line of the server: operation PING, PONG, INFO or -ERR, and what follows it."""

    operation: bytes
    text: bytes


class Flaw(NamedTuple):
    """A line or a message that was skipped, and why, without quoting it."""

    text: str


Event = Delivery | Whole | Control | Flaw


@dataclass(slots=True)
class _Announced:
    """A message whose line was read. size: bytes still to come, *header* of them first; flaw: why it is dropped.

    kept: how many bytes of the headers are kept.
    """

    sid: int
    header: int
    size: int
    flaw: str = ""
    subject: bytes = b""
    kept: int = len(_NO_RESPONDERS)

    @classmethod
    def parse(cls, spaced: bytes, *, with_headers: bool) -> _Announced:
        """Read `MSG subject sid [reply] size` or `HMSG subject sid [reply] header-size size`. Raise ProtocolError.

        *spaced*: the line with spaces for tabs. It is split at these alone, as nats-server does: a subject may contain
        any other byte, also those that `bytes.split()` considers white space (VT, FF).
        """
        words = [word for word in spaced.split(b" ") if word]
        size = _number(words[-1])
        if size is None or size > MAX_SKIPPED:
            raise ProtocolError("a message without a size" if size is None else f"a message of {size} bytes")
        sid = _number(words[2]) if len(words) > 2 else None
        header = _number(words[-2]) if with_headers else 0
        if sid is None or len(words) - with_headers not in (4, 5):
            return cls(0, 0, size, "a message for no subscription")
        if header is None or header > size:
            return cls(0, 0, size, "a message whose headers have no size")
        return cls(sid, header, size, subject=words[1])


class Parser:
    """Reads one connection, from after the login. `feed` it with the received bytes.

    A message of more than *max_message* bytes is delivered with the first *max_message* + 1 of them, so that the gate
    sees that it is too large; the rest is never in memory.

    whole: the subscriptions whose messages are delivered with subject and headers; it may change meanwhile.
    """

    def __init__(self, *, max_message: int, whole: Collection[int] = ()) -> None:
        self._max_message = max_message
        self._whole = whole
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer known to contain no end of a line
        self._announced: _Announced | None = None
        self._head = b""  # the first bytes of the headers that are being skipped
        self._kept = b""  # the payload of a message that is too large, while the rest of it is skipped

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield the events that *data* completes, in order. Raise ProtocolError, after the events before it."""
        self._buffer += data
        while True:
            if self._announced is None and not self._searched and self._buffer.startswith(b"MSG "):
                yield from self._plain_messages()
            event = self._line() if self._announced is None else self._payload(self._announced)
            if event is None:
                return
            if event is not _NOTHING:
                yield event

    def _plain_messages(self) -> list[Delivery]:
        """Read the complete messages without headers with which the buffer begins.

        Those for one subscription are one Delivery as long as their lines are equal up to the size: of
        `MSG a 1 2|hi|MSG a 1 3|you|MSG b 2 2|hi|HMSG ...` these are [Delivery(1, [hi, you]), Delivery(2, [hi])], and
        the buffer then begins with HMSG.
        """
        found: list[Delivery] = []
        buffer, start = bytes(self._buffer), 0  # start: of the first message that is not in `found`
        while (plain := _PLAIN.match(buffer, start)) is not None and int(plain[1]) not in self._whole:
            payloads, start = self._of_one_head(buffer, start, plain[0])
            if not payloads:
                break
            found.append(Delivery(int(plain[1]), payloads))
        del self._buffer[:start]
        return found

    def _of_one_head(self, buffer: bytes, start: int, head: bytes) -> tuple[list[bytes], int]:
        """Return the complete messages from *start* on whose lines begin with *head*, and where the next line begins.

        At least the first line begins with it. Of `MSG a 1 2|hi|MSG a 1 3|you|MSG b ...` and the head `MSG a 1 ` these
        are hi and you. Sizes repeat: one that was read is recognized by its digits, with the end of the line.
        """
        payloads: list[bytes] = []
        sizes: dict[bytes, int] = {}
        digits = 0  # bytes of the last size and the end of its line
        next_head = _CRLF + head
        after_head = start + len(head)
        while True:
            size = sizes.get(buffer[after_head : after_head + digits])
            if size is None:
                found = _PLAIN_SIZE.match(buffer, after_head)
                if found is None or int(found[1]) > self._max_message:
                    return payloads, start
                digits = len(found[0])
                size = sizes[found[0]] = int(found[1])
            begin = after_head + digits
            end = begin + size
            followed = buffer.startswith(next_head, end)
            if not followed and not buffer.startswith(_CRLF, end):
                return payloads, start
            payloads.append(buffer[begin:end])
            start = end + len(_CRLF)
            if not followed:
                return payloads, start
            after_head = end + len(next_head)

    def _line(self) -> Event | None:
        """Read one line; return its event, None if the line is not complete yet."""
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
            message = self._announced = _Announced.parse(spaced, with_headers=operation == b"HMSG")
            if message.sid in self._whole and not message.flaw:
                if message.header > MAX_HEADERS:
                    message.flaw = f"a message with more than {MAX_HEADERS} bytes of headers"
                else:
                    message.kept = message.header
            return _NOTHING
        if operation not in _CONTROL:
            raise ProtocolError("a line that is not an operation of the protocol")
        return _NOTHING if operation == b"+OK" else Control(operation, line[len(operation) :].strip())

    def _payload(self, message: _Announced) -> Event | None:
        """Read the rest of *message*; return its event, None if it is not complete yet."""
        self._pass_over(message)
        if len(self._buffer) < message.size + len(_CRLF):
            return None
        if not self._buffer.startswith(_CRLF, message.size):
            raise ProtocolError("a message whose size is not the announced one")
        head = self._head
        payload = self._kept or bytes(self._buffer[: message.size])
        del self._buffer[: message.size + len(_CRLF)]
        self._announced, self._head, self._kept = None, b"", b""
        if message.flaw:
            return Flaw(message.flaw)
        if message.sid in self._whole:
            return Whole(message.sid, message.subject, head, payload)
        return _NOTHING if head == _NO_RESPONDERS else Delivery(message.sid, [payload])

    def _pass_over(self, message: _Announced) -> None:
        """Drop the headers as far as they have arrived, and the part of the payload that is not delivered.

        The rest stays in the buffer until the message is complete. Of `HMSG a 1 12 17`, cut into chunks anywhere, 12
        bytes are dropped as they arrive, and the buffer never holds more than 5 bytes of payload and a CRLF.
        """
        if message.header:
            missing = min(message.kept, message.header + len(self._head)) - len(self._head)
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
        """Drop up to *most* of the bytes of *message* that have arrived; return how many."""
        dropped = min(len(self._buffer), most)
        del self._buffer[:dropped]
        message.size -= dropped
        return dropped


_NOTHING = Flaw("")  # an event that is not yielded


def _number(text: bytes) -> int | None:
    return int(text) if text.isdigit() and len(text) <= _MAX_DIGITS else None
