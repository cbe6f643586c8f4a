"""The frames between the local agent and its clients, version 1: the codec that both sides use. It does no I/O.

A connection to the Unix socket is one operation, and its end is a cancellation. A frame is one byte for its kind, four
for the length of its body (big endian), and the body. What a small client needs is a line of its own before the JSON,
or is the exit code of the last frame, so that no JSON has to be parsed on its way.

    H  client  JSON: {"v": 1, "op": operation, and its keys in `head.HEADS`}; first, within `HEAD_SECONDS`
    P  client  payload; second, and only in `send` and `request`
    M  agent   request: JSON {digest, sender, id, time_ns, expected: [destination]}: it was sent
    C  agent   request: JSON {peer, sender, time_ns}: a receipt, if "receipts" is true
    R  agent   request: exit code or `-`, newline, peer, newline, JSON {sender, time_ns, bound, cut?}, newline, output
    W  agent   receive: JSON {destination, subject}: the broker has confirmed the subscription
    G  agent   receive: JSON {`describe_message`}, newline, payload
    A  client  receive: digest in hex, newline, exit code or `-`, newline, output: the reply to a message of a `G`
    N  agent   a line for people, such as that the broker is away
    E  agent   exit code, newline, JSON {exit, error?, hint?, kind?, and what the operation returns}; last

Digests and ids are in hex, times in Unix nanoseconds, timeouts in seconds (null: no limit). A key that the agent does
not know is refused, never ignored: a new key needs no new version, and none is lost on an older agent. *cut* is the
size of an output of which only the beginning is here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from remaphore.errors import DecodeError
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.message import Message, Reply
from remaphore.protocol.receipt import Receipt

VERSION = 1

HEAD, PAYLOAD, ANSWER = b"H", b"P", b"A"  # from the client
ASKED, RECEIPT, REPLY, READY, MESSAGE, NOTICE, END = b"M", b"C", b"R", b"W", b"G", b"N", b"E"  # from the agent

SEND, REQUEST, RECEIVE, WHOAMI = "send", "request", "receive", "whoami"
OPERATIONS = (SEND, REQUEST, RECEIVE, WHOAMI)
WITH_PAYLOAD = (SEND, REQUEST)

HEADER_BYTES = 5
HEAD_SECONDS = 5.0
MAX_HEAD_BYTES = 64 * 1024
MAX_PAYLOAD_BYTES = 1024 * 1024
MAX_JSON_BYTES = 16 * 1024 * 1024  # of the agent: the names of 100,000 peers
# A payload or output, with the lines and the JSON before it.
MAX_BODY_BYTES = MAX_PAYLOAD_BYTES + MAX_HEAD_BYTES

_LIMITS: Mapping[bytes, int] = {
    HEAD: MAX_HEAD_BYTES,
    PAYLOAD: MAX_PAYLOAD_BYTES,
    ANSWER: MAX_BODY_BYTES,
    ASKED: MAX_JSON_BYTES,
    RECEIPT: MAX_HEAD_BYTES,
    REPLY: MAX_BODY_BYTES,
    READY: MAX_HEAD_BYTES,
    MESSAGE: MAX_BODY_BYTES,
    NOTICE: MAX_HEAD_BYTES,
    END: MAX_JSON_BYTES,
}
FROM_CLIENT = frozenset((HEAD, PAYLOAD, ANSWER))
FROM_AGENT = frozenset(_LIMITS) - FROM_CLIENT


def encode(kind: bytes, body: bytes) -> bytes:
    """Return the frame *kind* with this *body*."""
    return kind + len(body).to_bytes(4, "big") + body


class Decoder:
    """Splits a stream of bytes into frames. kinds: those that the other side may send."""

    def __init__(self, kinds: Iterable[bytes]) -> None:
        self._limits = {kind: _LIMITS[kind] for kind in kinds}
        self._buffer = bytearray()

    @property
    def partial(self) -> bool:
        """Whether the beginning of a frame has arrived, and not its end."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield kind and body of each frame that is complete with *data*. Raise DecodeError.

        A kind that may not come, and a length above its limit, are an error as soon as the header is here.
        """
        buffer = self._buffer
        buffer += data
        while len(buffer) >= HEADER_BYTES:
            kind, size = bytes(buffer[:1]), int.from_bytes(buffer[1:HEADER_BYTES], "big")
            if kind not in self._limits:
                raise DecodeError(f"unknown frame {kind!r}")
            if size > self._limits[kind]:
                raise DecodeError(f"a frame {kind.decode()} of {size} bytes, the limit is {self._limits[kind]}")
            end = HEADER_BYTES + size
            if len(buffer) < end:
                return
            body = bytes(buffer[HEADER_BYTES:end])
            del buffer[:end]
            yield kind, body


def encode_json(kind: bytes, value: Mapping[str, Any], *, lines: bytes = b"", rest: bytes | None = None) -> bytes:
    """Return the frame *kind*: the *lines* before the JSON of *value*, and what follows it after a newline."""
    text = json.dumps(value, separators=(",", ":")).encode()
    return encode(kind, lines + text if rest is None else lines + text + b"\n" + rest)


def decode_json(body: bytes) -> dict[str, Any]:
    """Return the JSON object *body*. Raise DecodeError."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):  # also of bytes that are not UTF-8
        raise DecodeError("not JSON") from None
    if not isinstance(value, dict):
        raise DecodeError("not a JSON object")
    return value


def encode_end(exit_code: int, **about: Any) -> bytes:
    """Return the last frame. about: what the operation returns, or the error, its hint and its kind."""
    return encode_json(END, {"exit": exit_code, **about}, lines=b"%d\n" % exit_code)


def decode_end(body: bytes) -> dict[str, Any]:
    """Return what the last frame says; its `exit` is a number. Raise DecodeError."""
    _, _, text = body.partition(b"\n")
    end = decode_json(text)
    if not isinstance(end.get("exit"), int):
        raise DecodeError("an end without an exit code")
    return end


def encode_reply(reply: Reply, *, cut: int | None = None) -> bytes:
    """Return the frame of *reply*. cut: the size of its output if that is not whole here."""
    about = {"sender": reply.sender, "time_ns": reply.time_ns, "bound": reply.bound}
    lines = f"{_shown(reply.exit_code)}\n{reply.peer}\n".encode()
    return encode_json(REPLY, about if cut is None else {**about, "cut": cut}, lines=lines, rest=reply.output)


def decode_reply(body: bytes) -> tuple[Reply, int | None]:
    """Return the reply, and the size of its output if it was cut. Raise DecodeError."""
    try:
        code, peer, text, output = body.split(b"\n", 3)
        about = decode_json(text)
        reply = Reply(
            _exit_code(code),
            output,
            peer=peer.decode(),
            sender=about["sender"],
            time_ns=about["time_ns"],
            bound=about["bound"],
        )
    except (ValueError, KeyError) as error:
        raise DecodeError(f"not a reply: {type(error).__name__}: {error}") from None
    return reply, about.get("cut")


def encode_answer(digest: bytes, exit_code: int | None, output: bytes) -> bytes:
    """Return the frame of the reply to the message with this *digest*."""
    return encode(ANSWER, f"{digest.hex()}\n{_shown(exit_code)}\n".encode() + output)


def decode_answer(body: bytes) -> tuple[bytes, Reply]:
    """Return the digest of the message, and the reply to it. Raise DecodeError."""
    try:
        digest, code, output = body.split(b"\n", 2)
        return bytes.fromhex(digest.decode()), Reply(_exit_code(code), output)
    except ValueError as error:
        raise DecodeError(f"not an answer: {type(error).__name__}: {error}") from None


def encode_receipt(receipt: Receipt) -> bytes:
    """Return the frame of *receipt*."""
    return encode_json(RECEIPT, receipt._asdict())


def decode_receipt(body: bytes) -> Receipt:
    """Return the receipt. Raise DecodeError."""
    about = decode_json(body)
    try:
        return Receipt(about["peer"], about["sender"], about["time_ns"])
    except KeyError as error:
        raise DecodeError(f"a receipt without {error}") from None


def describe_message(message: Message) -> dict[str, Any]:
    """Return all fields of *message* but its payload, for JSON."""
    return {
        "digest": message.digest.hex(),
        "sender": message.sender,
        "peer": message.sender_name,
        "to": message.destination,
        "matched": message.own_destination,
        "verb": message.verb,
        "id": message.uuid.hex(),
        "time_ns": message.time_ns,
        "wants_reply": message.wants_reply,
    }


def encode_message(message: Message) -> bytes:
    """Return the frame of a *message* that was received."""
    return encode_json(MESSAGE, describe_message(message), rest=message.payload)


def decode_message(body: bytes) -> Message:
    """Return the message. Raise DecodeError."""
    text, _, payload = body.partition(b"\n")
    about = decode_json(text)
    try:
        return Message(
            sender=about["sender"],
            destination=about["to"],
            verb=about["verb"],
            uuid=bytes.fromhex(about["id"]),
            time_ns=about["time_ns"],
            wants_reply=about["wants_reply"],
            payload=payload,
            digest=bytes.fromhex(about["digest"]),
            sender_name=about["peer"],
            own_destination=about["matched"],
        )
    except (KeyError, ValueError, TypeError) as error:
        raise DecodeError(f"not a message: {type(error).__name__}: {error}") from None


def decode_drops(counts: Mapping[str, int]) -> list[Drop]:
    """Return the drops that `dropped` of an end counts. Raise DecodeError."""
    try:
        return [Drop(DropReason(reason), count=count) for reason, count in counts.items()]
    except (ValueError, AttributeError) as error:
        raise DecodeError(f"not drops: {error}") from None


def _shown(exit_code: int | None) -> str:
    return "-" if exit_code is None else str(exit_code)


def _exit_code(text: bytes) -> int | None:
    return None if text == b"-" else int(text)
