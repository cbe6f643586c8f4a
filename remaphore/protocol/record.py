"""Records: the signed messages of which the state of a lock consists. Pure.

A record has the form of a message (see `wire`), with other meanings of three fields:

    base58(key),base58(signature),<empty>,<follows>,<binds>,lock:deploy,_,{"do":"hold","n":7,"session":"1f..."}

follows: in the place of the time, the sequence number of the last message that the signer saw on the subject; 0 for
none. binds: in the place of the uuid, the first bytes of the SHA-256 of that message. The destination is empty.

So a record is valid at one place alone. Example: 1001 is a hold, 1002 the free that follows it, 1003 a hold of another
node. A copy of 1002, stored as 1004, follows 1001 and not 1003: it does not *stand*, and frees nothing.

No gate accepts a record as a message. Its destination is empty, and its time, a number of microseconds since 1970 that
is read as nanoseconds, is in January 1970.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from remaphore.errors import DecodeError, EncodeError
from remaphore.protocol import wire
from remaphore.protocol.keys import PrivateKey
from remaphore.protocol.message import Message
from remaphore.protocol.status import load_json

# The longest has 620 bytes. The stream takes 1 KiB, with the headers: with more, junk would fill it sooner.
MAX_RECORD_BYTES = 900
BINDING_BYTES = 12  # of SHA-256; a collision would have to be found among messages that fit in one place
MAX_NAME = 64  # characters
COMMANDS = ("list", "show", "release")  # of `remaphore lock`: a lock with such a name could not be taken there
_NAME = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{MAX_NAME - 1}}}")


def name_problem(name: str) -> str | None:
    """Return why *name* cannot be the name of a lock, or None."""
    if name in COMMANDS:
        return f"{name} is an action of the command"
    if not _NAME.fullmatch(name):
        return f"it needs 1 to {MAX_NAME} of a-z, 0-9, - and _, with a letter or digit first"
    return None


class Entry(NamedTuple):
    """A message as it is stored: its sequence number, its subject, and its bytes, which are not verified."""

    sequence: int
    subject: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """A record whose signature is valid. Whether its signer may write it, and whether it stands, is not known yet.

    follows, binds: see the module. fields: what it says; the types of their values are not checked.
    """

    entry: Entry
    sender: str
    verb: str
    follows: int
    binds: bytes
    fields: Mapping[str, Any]

    def stands(self, before: Entry | None) -> bool:
        """Return whether it is stored where it was signed to be: right after *before*, None for the first place."""
        return self.follows == (before.sequence if before else 0) and self.binds == binding(before)

    def text(self, name: str) -> str:
        """Return the field *name*, empty if it is not a text."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else ""

    def number(self, name: str) -> int:
        """Return the field *name*, -1 if it is not a number from 0 to 2**53."""
        value = self.fields.get(name)
        return value if type(value) is int and 0 <= value <= 2**53 else -1


def binding(before: Entry | None) -> bytes:
    """Return what binds a record to *before*, the message that it follows."""
    return hashlib.sha256(before.raw if before else b"").digest()[:BINDING_BYTES]


def make(key: PrivateKey, verb: str, fields: Mapping[str, object], *, count: int, follows: Entry | None) -> bytes:
    """Return a record, signed with *key*. Raise EncodeError if it is too long for the stream.

    count: a number that the signer gives to no other record of the same lock. Signatures are deterministic: without
    it, a record that is sent twice would have the same bytes, and which of both was stored, and when, were not known.
    """
    message = Message(
        sender=key.public,
        destination="",
        verb=verb,
        uuid=binding(follows),
        time_ns=follows.sequence if follows else 0,
        payload=json.dumps({**fields, "n": count}, separators=(",", ":")).encode(),
    )
    raw = wire.encode(message, key)
    if len(raw) > MAX_RECORD_BYTES:
        hint = "use a shorter name or note"
        raise EncodeError(f"the record has {len(raw)} bytes, the limit is {MAX_RECORD_BYTES}", hint=hint)
    return raw


def read(entry: Entry, verb: str) -> Record | None:
    """Return the record in *entry* if it is one with this *verb* and a valid signature, else None."""
    if len(entry.raw) > MAX_RECORD_BYTES:
        return None
    try:
        frame = wire.decode(entry.raw)
        fields = load_json(frame.payload)
    except DecodeError:
        return None
    if frame.destination or frame.verb != verb or frame.wants_reply or not isinstance(fields, dict):
        return None
    if frame.time_ns < 0 or len(frame.uuid) != BINDING_BYTES or not wire.verify(frame):
        return None
    return Record(entry, frame.sender, frame.verb, frame.time_ns, frame.uuid, MappingProxyType(fields))
