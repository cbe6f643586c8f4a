"""The values that travel: a message, a reply, and the uuid that tells messages apart."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import Self

UUID_BYTES = 12  # the wire's most; longer texts are hashed down to it

REPLY_VERB = "reply"
REJECTED = b"remaphore: refused: "  # how the output of a rejection begins
NO_DATA = b"NO_DATA"  # the payload of a reply from a receiver that runs nothing

# What Go's strings.TrimFunc(unicode.IsSpace) takes off; Python's str.strip would also take U+001C to U+001F.
_GO_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
# An exit code is what a process can have, or -1; anything longer is text that only looks like one.
_REPLY = re.compile(rb"(-?[0-9]{1,10}),")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message: what a sender signs, and what a plugin gets once it was verified.

    sender: base58 public key of who signs. destination: the pattern that says whom it is for. time_ns: Unix
    nanoseconds of the sender's clock. uuid: 1 to 12 bytes. wants_reply: the sender waits for replies. payload: any
    bytes; text is UTF-8.

    The gate fills in what only a receiver knows: digest, the SHA-256 of the whole message as it was sent, which names
    the reply subject; sender_name, the sender's destination in our configuration; own_destination, this node's
    destination if the pattern reaches it, else empty.
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


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request: an exit code and what was written.

    A plugin returns one with these two alone. exit_code is None where there is none: a receiver that runs nothing
    (output `NO_DATA`), or a payload of another shape. The requesting side adds, verified: peer, the responder's
    destination; sender, its key; time_ns; bound, whether the reply names the request it belongs to.
    """

    exit_code: int | None
    output: bytes = b""
    peer: str = ""
    sender: str = ""
    time_ns: int = 0
    bound: bool = False

    @classmethod
    def parse(cls, payload: bytes, **provenance: object) -> Self:
        """Read the payload of a reply message: `exit-code,output`, or whatever else it is as output alone."""
        found = _REPLY.match(payload)
        if found is None:
            return cls(None, payload, **provenance)  # type: ignore[arg-type]
        return cls(int(found[1]), payload[found.end() :], **provenance)  # type: ignore[arg-type]

    @property
    def payload(self) -> bytes:
        """The payload that carries this reply."""
        return self.output if self.exit_code is None else b"%d,%b" % (self.exit_code, self.output)

    @property
    def text(self) -> bytes:
        """The payload as the original prints it: without white space at its two ends."""
        return self.payload.decode(errors="surrogateescape").strip(_GO_SPACE).encode(errors="surrogateescape")

    @property
    def rejected(self) -> bool:
        """Whether the responder says that it would not act: `exit-code,remaphore: refused: reason`."""
        return bool(self.exit_code) and self.output.startswith(REJECTED)


def uuid_from_text(text: str) -> bytes:
    """Return the uuid that the user's *text* stands for: up to 12 bytes of UTF-8 as they are, else 12 of its SHA-256.

    An empty text means 12 random bytes.
    """
    if not text:
        return os.urandom(UUID_BYTES)
    raw = text.encode(errors="surrogateescape")
    return raw if len(raw) <= UUID_BYTES else hashlib.sha256(raw).digest()[:UUID_BYTES]


def reply_uuid(digest: bytes) -> bytes:
    """Return the uuid that binds a reply to the request with this digest."""
    return digest[:UUID_BYTES]
