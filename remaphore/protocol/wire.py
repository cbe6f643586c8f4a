"""Version 1 of the wire format: the bytes of one message.

    base58(public key),base58(signature),destination,time,uuid,verb,flag,payload

Eight fields; only the payload may contain commas. The signature covers every byte after the second comma.

The encoding is canonical: `decode` accepts only bytes that `encode` could have produced. For example, the time
1700000000000000000 ns is `17979cfe362a0000`; `17979CFE362A0000`, `+17979cfe362a0000` and `017979cfe362a0000` mean the
same number and are malformed. The Go implementation decodes the fields, encodes them again, and checks the signature
over that. So it accepts altered copies of a signed message, each with another digest.
"""

from __future__ import annotations

import hashlib
from binascii import hexlify, unhexlify
from typing import NamedTuple

from remaphore.errors import DecodeError, EncodeError
from remaphore.protocol import keys
from remaphore.protocol.message import UUID_BYTES, Message, MessageDraft
from remaphore.text import quoted

# The default limit of NATS (max_payload) is 1 MiB; larger messages are dropped, however high an administrator sets it.
MAX_MESSAGE_BYTES = 1024 * 1024
# A destination is a host's name, a verb a word; both are printed, logged and compared for each message.
MAX_DESTINATION_BYTES = 1024
MAX_VERB_BYTES = 256
# Segments of a destination: a DNS name has at most 127, and each costs a comparison.
MAX_DESTINATION_DEPTH = 127

_FIELDS = 8
_FLAGS = {b"Q": True, b"_": False}
_TIME_RANGE = range(-(2**63), 2**63)


class Frame(NamedTuple):
    """The fields of a well-formed message, all of them unverified."""

    raw: bytes
    sender: str
    signature: bytes
    destination: str
    time_ns: int
    uuid: bytes
    verb: str
    wants_reply: bool
    payload: bytes

    @property
    def signed(self) -> bytes:
        """The bytes that the signature covers, as they arrived."""
        return self.raw[len(self.sender) + len(self.signature) + 2 :]

    def message(self, digest: bytes = b"", *, sender_name: str = "", own_destination: str = "") -> Message:
        """Return the contents as a `Message`. The caller must have verified the signature.

        *digest*: that of `raw`, if it has been computed already.
        """
        return MessageDraft(
            self.sender,
            self.destination,
            self.verb,
            self.uuid,
            self.time_ns,
            self.wants_reply,
            self.payload,
            digest or hashlib.sha256(self.raw).digest(),
            sender_name,
            own_destination,
        )  # type: ignore[return-value]  # it has become one


def encode(message: Message, key: keys.PrivateKey) -> bytes:
    """Return the bytes of *message*, signed with *key*. `message.sender` must be the public key of *key*.

    Raise EncodeError for values that no receiver accepts.
    """
    if message.sender != key.public:
        raise EncodeError(f"the sender of the message is {message.sender}, but the key is that of {key.public}")
    body = signed_part(message)
    return b",".join((key.public.encode(), keys.encode_base58(key.sign(body)), body))


def signed_part(message: Message) -> bytes:
    """Return the bytes of *message* that its signature covers.

    Raise EncodeError for values that no receiver accepts.
    """
    if message.time_ns not in _TIME_RANGE:
        raise EncodeError(f"the time {message.time_ns} ns is not a 64-bit number")
    if not 1 <= len(message.uuid) <= UUID_BYTES:
        raise EncodeError(f"the uuid has {len(message.uuid)} bytes, it must have 1 to {UUID_BYTES}")
    depth = message.destination.count(".") + 1
    if depth > MAX_DESTINATION_DEPTH:
        raise EncodeError(f"the destination has {depth} segments, the limit is {MAX_DESTINATION_DEPTH}")
    return b",".join(
        (
            _text(message.destination, "destination", MAX_DESTINATION_BYTES),
            b"%x" % message.time_ns,
            message.uuid.hex().encode(),
            _text(message.verb, "verb", MAX_VERB_BYTES),
            b"Q" if message.wants_reply else b"_",
            message.payload,
        )
    )


def _text(value: str, name: str, limit: int) -> bytes:
    if "," in value:
        raise EncodeError(f"a {name} cannot contain a comma: {quoted(value)}")
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        hint = "type it in UTF-8, or check the encoding of the terminal or file that it comes from"
        raise EncodeError(f"the {name} is not valid UTF-8: {quoted(value)}", hint=hint) from None
    if len(encoded) > limit:
        raise EncodeError(f"the {name} has {len(encoded)} bytes, the limit is {limit}")
    return encoded


def decode(raw: bytes) -> Frame:
    """Return the fields of *raw*. Raise DecodeError, which quotes nothing of it, for a form that `encode` never makes.

    Key and signature are not decoded: `verify` does that, after the cheaper checks.
    """
    if len(raw) > MAX_MESSAGE_BYTES:
        raise DecodeError(f"larger than {MAX_MESSAGE_BYTES} bytes")
    fields = raw.split(b",", _FIELDS - 1)
    if len(fields) != _FIELDS:
        raise DecodeError(f"{len(fields)} fields instead of {_FIELDS}")
    sender, signature, destination, time, uuid, verb, flag, payload = fields
    if flag not in _FLAGS:
        raise DecodeError("the flag is neither Q nor _")
    if len(destination) > MAX_DESTINATION_BYTES or len(verb) > MAX_VERB_BYTES:
        raise DecodeError("the destination or the verb is too long")
    if destination.count(b".") >= MAX_DESTINATION_DEPTH:
        raise DecodeError(f"the destination has more than {MAX_DESTINATION_DEPTH} segments")
    try:
        fields_read = (
            raw,
            sender.decode("ascii"),
            signature,
            destination.decode(),
            _read_time(time),
            _read_uuid(uuid),
            verb.decode(),
            _FLAGS[flag],
            payload,
        )
        return tuple.__new__(Frame, fields_read)  # what `Frame(...)` calls in its own function: half its time
    except UnicodeDecodeError:
        raise DecodeError("the sender, the destination or the verb is not text") from None


def _read_time(text: bytes) -> int:
    try:
        time_ns = int(text, 16)
    except ValueError:
        raise DecodeError("the time is not a hexadecimal number") from None
    if b"%x" % time_ns != text or time_ns not in _TIME_RANGE:
        raise DecodeError("the time is not in the canonical form")
    return time_ns


def _read_uuid(text: bytes) -> bytes:
    try:
        uuid = unhexlify(text)
    except ValueError:
        raise DecodeError("the uuid is not hexadecimal") from None
    if hexlify(uuid) != text or not 1 <= len(uuid) <= UUID_BYTES:
        raise DecodeError("the uuid is not in the canonical form")
    return uuid


def verify(frame: Frame) -> bool:
    """Return whether the signature was made with the key that the frame names, over the bytes that arrived."""
    return keys.verify(frame.raw)


def digest(raw: bytes) -> bytes:
    """Return the SHA-256 of a whole message as sent; in hex it is the last part of the reply subject."""
    return hashlib.sha256(raw).digest()
