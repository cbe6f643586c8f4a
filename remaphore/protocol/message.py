"""The values that are sent: a message, a reply, and the uuid that identifies a message."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import Self

UUID_BYTES = 12  # the limit of the wire; a longer text is hashed to this length
_ID_CHARACTERS = "abcdefghijklmnopqrstuvwxyz234567"  # of base32: 32, so that each is as likely as the others
HEX_MARK = "hex:"  # how an id that is no readable text is shown

REPLY_VERB = "reply"
REJECTED = b"remaphore: refused: "  # how the output of a rejection begins
NO_DATA = b"NO_DATA"  # the payload of a reply from a receiver that runs nothing

# Bytes of which no text consists that is shown as it is: control characters, and what UTF-8 never has. Nearly every
# random uuid has one of them, and need not be decoded.
_NEVER_SHOWN = bytes([*range(32), 127, 192, 193, *range(245, 256)])

# The characters that Go's strings.TrimFunc(unicode.IsSpace) trims; Python's str.strip would also trim U+001C to U+001F.
_GO_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
# An exit code is that of a process, or -1; more digits are ordinary text.
_REPLY = re.compile(rb"(-?[0-9]{1,10}),")
# The first number that `Reply.parse` would not read as an exit code; the ledger could not record much larger ones.
EXIT_CODE_LIMIT = 10**10


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message: the contents that a sender signs, and that a plugin receives after they are verified.

    sender: the signer's public key in base58. destination: the pattern of the receivers' destinations. verb: what the
    message is about. uuid: 1 to 12 bytes. time_ns: Unix nanoseconds of the sender's clock. wants_reply: whether the
    sender waits for replies. payload: any bytes; text is UTF-8.

    The gate adds what only a receiver knows. digest: the SHA-256 of the whole message as it was sent, which names the
    reply subject. sender_name: the sender's destination in our configuration. own_destination: this node's destination
    if the pattern matches it, else empty.
    """

    sender: str
    destination: str
    verb: str
    uuid: bytes
    time_ns: int
    wants_reply: bool = False
    payload: bytes = b""
    digest: bytes = b""
    sender_name: str = ""
    own_destination: str = ""

    @property
    def id(self) -> str:
        """The uuid as `show_id` shows it: the text of `--id`, or `hex:` and the bytes."""
        return show_id(self.uuid)

    @property
    def log_fields(self) -> dict[str, str | None]:
        """What identifies the message in log lines: its verb, its sender, its id, and the first bytes of its digest.

        The id is None if it is unknown: a ledger of an older version had none.
        """
        verb, peer, shown, digest = self.log_values
        return {"verb": verb, "peer": peer, "id": shown, "digest": digest}

    @property
    def log_values(self) -> tuple[str, str, str | None, str]:
        """The values of `log_fields`, in their order: for what logs each message."""
        return self.verb, self.sender_name, show_id(self.uuid) if self.uuid else None, self.digest[:8].hex()


class MessageDraft:
    """A `Message` that is being made from what arrived, which it is from the end of `__init__` on.

    `Message.__init__` takes four times as long, since a frozen dataclass sets each field through `object.__setattr__`.
    The class of an object with the same slots can be changed instead: nothing has seen it before it is frozen.
    """

    __slots__ = Message.__slots__

    def __init__(  # noqa: PLR0917 - in the order of the fields, made for each message
        self,
        sender: str,
        destination: str,
        verb: str,
        uuid: bytes,
        time_ns: int,
        wants_reply: bool,  # noqa: FBT001
        payload: bytes,
        digest: bytes,
        sender_name: str,
        own_destination: str,
    ) -> None:
        self.sender = sender
        self.destination = destination
        self.verb = verb
        self.uuid = uuid
        self.time_ns = time_ns
        self.wants_reply = wants_reply
        self.payload = payload
        self.digest = digest
        self.sender_name = sender_name
        self.own_destination = own_destination
        self.__class__ = Message  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to a request: an exit code and the output.

    A plugin sets the exit code and the output only. exit_code: that of a process, -1 if it has none; None from a
    receiver that runs nothing (output `NO_DATA`), or in a payload of another form. output: any bytes.

    The requesting side adds the other fields, verified. peer: the responder's destination. sender: its public key in
    base58. time_ns: Unix nanoseconds of its clock. bound: whether the reply names its request.
    """

    exit_code: int | None
    output: bytes = b""
    peer: str = ""
    sender: str = ""
    time_ns: int = 0
    bound: bool = False

    @classmethod
    def parse(cls, payload: bytes, **provenance: object) -> Self:
        """Return the reply in the payload of a message: `exit-code,output`; any other payload is output only."""
        found = _REPLY.match(payload)
        if found is None:
            return cls(None, payload, **provenance)  # type: ignore[arg-type]
        return cls(int(found[1]), payload[found.end() :], **provenance)  # type: ignore[arg-type]

    @property
    def payload(self) -> bytes:
        """The payload of this reply's message."""
        return self.output if self.exit_code is None else b"%d,%b" % (self.exit_code, self.output)

    @property
    def text(self) -> bytes:
        """The payload as the Go implementation prints it: without white space at both ends."""
        return self.payload.decode(errors="surrogateescape").strip(_GO_SPACE).encode(errors="surrogateescape")

    @property
    def rejected(self) -> bool:
        """Whether the responder rejected the message: `exit-code,remaphore: refused: reason`."""
        return bool(self.exit_code) and self.output.startswith(REJECTED)


def uuid_from_text(text: str) -> bytes:
    """Return the uuid for the user's *text*: up to 12 bytes of UTF-8 as they are, else the first 12 of its SHA-256.

    An empty text gives 12 random bytes.
    """
    if not text:
        return os.urandom(UUID_BYTES)
    raw = text.encode(errors="surrogateescape")
    return raw if len(raw) <= UUID_BYTES else hashlib.sha256(raw).digest()[:UUID_BYTES]


def random_id() -> str:
    """Return a random id that people can read and type: UUID_BYTES characters, 60 bits."""
    return "".join(_ID_CHARACTERS[byte % len(_ID_CHARACTERS)] for byte in os.urandom(UUID_BYTES))


def show_id(uuid: bytes) -> str:
    """Return *uuid* as the text that `uuid_from_text` turns into it, if people can read that, else in hex.

    Hex is marked: `hex:` and its digits. So a text is shown in hex if it begins with that mark, if a terminal would
    not show all of it as it is, or if its first or last character is a blank. Examples: `release-42`, `a b`,
    `hex:00ff`, and `hex:6865783a61` for the text `hex:a`.
    """
    if len(uuid.translate(None, _NEVER_SHOWN)) != len(uuid):
        return HEX_MARK + uuid.hex()
    text = uuid.decode(errors="replace")  # raising takes as long as all the rest, for each random uuid in the log
    if "\ufffd" in text and text.encode() != uuid:
        text = ""
    plain = text and text == text.strip() and not text.startswith(HEX_MARK)
    if plain and not (text.isascii() and text.isprintable()):  # each line of the log shows an id
        from remaphore.text import escape

        plain = text == escape(text)
    return text if plain else HEX_MARK + uuid.hex()


def reply_uuid(digest: bytes) -> bytes:
    """Return the uuid that binds a reply to the request with this digest."""
    return digest[:UUID_BYTES]
