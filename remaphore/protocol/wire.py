"""Version 1 of the wire: the bytes of one message.

    base58(public key),base58(signature),destination,time,uuid,verb,flag,payload

Eight fields; only the payload may hold commas. The signature is over every byte after the second comma. `decode`
takes nothing but what `encode` would have produced: the original checks signatures over fields that it has encoded
again, so it takes altered copies of a signed message, each with another hash. Here a message has one form.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from remaphore.errors import DecodeError, EncodeError, KeyFormatError
from remaphore.protocol import keys
from remaphore.protocol.message import UUID_BYTES, Message

# NATS takes 1 MiB unless an administrator raises it (max_payload); nothing larger is worth holding in memory.
MAX_MESSAGE_BYTES = 1024 * 1024
# A destination is a host's name, a verb a word; both are printed, logged and compared for every message.
MAX_DESTINATION_BYTES = 1024
MAX_VERB_BYTES = 256
# Segments of a destination: a name of the DNS has at most 127, and every one costs a comparison.
MAX_DESTINATION_DEPTH = 127

_FIELDS = 8
_FLAG = 6
_FLAGS = {b"Q": True, b"_": False}
_TIME_RANGE = range(-(2**63), 2**63)


class Frame(NamedTuple):
    """The fields of a message whose form is right, and of which nothing is believed yet."""

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
        """The bytes that the signature covers: those that arrived, never encoded again."""
        return self.raw[len(self.sender) + len(self.signature) + 2 :]

    def message(self, digest: bytes = b"", *, sender_name: str = "", own_destination: str = "") -> Message:
        """Return the contents as a `Message`. Only who has verified the signature may call this.

        *digest*: that of `raw`, for who has it already.
        """
        return Message(
            sender=self.sender,
            destination=self.destination,
            verb=self.verb,
            uuid=self.uuid,
            time_ns=self.time_ns,
            wants_reply=self.wants_reply,
            payload=self.payload,
            digest=digest or hashlib.sha256(self.raw).digest(),
            sender_name=sender_name,
            own_destination=own_destination,
        )


def encode(message: Message, key: keys.PrivateKey) -> bytes:
    """Sign *message* with *key* and return its bytes. The sender is the key's owner; `message.sender` must say so.

    Raises EncodeError for values that no receiver could take.
    """
    if message.sender != key.public:
        raise EncodeError(f"the message names {message.sender} as its sender, the key belongs to {key.public}")
    depth = message.destination.count(".") + 1
    if depth > MAX_DESTINATION_DEPTH:
        raise EncodeError(f"the destination has {depth} parts, the most is {MAX_DESTINATION_DEPTH}")
    body = b",".join(
        (
            _text(message.destination, "destination", MAX_DESTINATION_BYTES),
            _time(message.time_ns),
            _uuid(message.uuid),
            _text(message.verb, "verb", MAX_VERB_BYTES),
            b"Q" if message.wants_reply else b"_",
            message.payload,
        )
    )
    return b",".join((key.public.encode(), keys.encode_base58(key.sign(body)), body))


def _text(value: str, name: str, limit: int) -> bytes:
    if "," in value:
        raise EncodeError(f"a {name} cannot hold a comma: {value!r}")
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        raise EncodeError(f"the {name} is not valid UTF-8: {value!r}") from None
    if len(encoded) > limit:
        raise EncodeError(f"the {name} has {len(encoded)} bytes, the most is {limit}")
    return encoded


def _time(time_ns: int) -> bytes:
    if time_ns not in _TIME_RANGE:
        raise EncodeError(f"the time {time_ns} ns is not a 64-bit number")
    return b"%x" % time_ns


def _uuid(uuid: bytes) -> bytes:
    if not 1 <= len(uuid) <= UUID_BYTES:
        raise EncodeError(f"the uuid has {len(uuid)} bytes, it needs 1 to {UUID_BYTES}")
    return uuid.hex().encode()


def decode(raw: bytes) -> Frame:
    """Split *raw* into its fields. Raises DecodeError, whose text is ours alone, for any form `encode` does not make.

    The keys and the signature are looked at as text only: `verify` decodes them, once the rest has passed.
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
        raise DecodeError(f"the destination has more than {MAX_DESTINATION_DEPTH} parts")
    try:
        return Frame(
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
    except UnicodeDecodeError:
        raise DecodeError("the sender, the destination or the verb is not text") from None


def asks(raw: bytes) -> bool:
    """Tell whether *raw*, which `decode` takes, has the flag that asks for a reply; at a quarter of its cost."""
    return raw.split(b",", _FIELDS - 1)[_FLAG] == b"Q"


def _read_time(text: bytes) -> int:
    try:
        time_ns = int(text, 16)
    except ValueError:
        raise DecodeError("the time is not a hexadecimal number") from None
    if b"%x" % time_ns != text or time_ns not in _TIME_RANGE:
        raise DecodeError("the time is not written as an encoder writes it")
    return time_ns


def _read_uuid(text: bytes) -> bytes:
    try:
        uuid = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        raise DecodeError("the uuid is not hexadecimal") from None
    if uuid.hex().encode() != text or not 1 <= len(uuid) <= UUID_BYTES:
        raise DecodeError("the uuid is not written as an encoder writes it")
    return uuid


def verify(frame: Frame) -> bool:
    """Tell whether the signature over the bytes that arrived was made by the key that the frame names."""
    try:
        public = keys.decode_public(frame.sender)
        signature = keys.decode_exact(frame.signature, keys.SIGNATURE_BYTES)
    except KeyFormatError:
        return False
    return keys.verify(public, signature, frame.signed)


def digest(raw: bytes) -> bytes:
    """Return the SHA-256 of a whole message as sent; in hex it names the subject for replies."""
    return hashlib.sha256(raw).digest()
