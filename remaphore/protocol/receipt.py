"""Receipts: the signed confirmation of a responder that it has started a request.

A receipt has an empty destination, the verb `receipt`, the flag of a reply, the uuid of the reply, and no payload. It
travels on a subject of its own. So it is neither a message nor a reply, for any implementation, and it is bound to one
request: nothing in it is text that a person or a program reads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from remaphore.errors import DecodeError
from remaphore.protocol import wire
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.gate import skew_error
from remaphore.protocol.message import Message, reply_uuid
from remaphore.protocol.peers import Peer

RECEIPT_VERB = "receipt"
# A receipt has at most 188 bytes: two base58 texts of up to 44 and 88 characters, and fields of a fixed length.
MAX_RECEIPT_BYTES = 256
# Invalid signatures on the subject of the receipts of one request, each 50 to 100 microseconds of work. After so many,
# later receipts are not checked: a flood can hide receipts, which replies do not depend on.
MAX_INVALID_SIGNATURES = 100


class Receipt(NamedTuple):
    """The confirmation that a responder has started a request.

    peer: the responder's destination. sender: its public key. time_ns: Unix nanoseconds of its clock.
    """

    peer: str
    sender: str
    time_ns: int


def compose(digest: bytes, *, sender: str, time_ns: int) -> Message:
    """Return the receipt, not yet signed, for the request with this *digest*."""
    return Message(sender=sender, destination="", verb=RECEIPT_VERB, uuid=reply_uuid(digest), time_ns=time_ns)


class Receipts:
    """Collects the receipts for one request: the first of each destination that has not replied."""

    def __init__(
        self,
        digest: bytes,
        responders: Mapping[str, Peer],
        *,
        replied: Collection[str],
        allow_skew_ns: int,
        subject: str = "",
    ) -> None:
        """*digest*: of the request. *responders*: by key. *replied*: the destinations that replied, as it grows."""
        self.confirmed: set[str] = set()
        self._responders = responders
        self._replied = replied
        self._uuid = reply_uuid(digest)
        self._allow_skew_ns = allow_skew_ns
        self._subject = subject
        self._invalid = 0

    def admit(self, raw: bytes, now: int) -> Receipt | Drop | None:
        """Return the receipt in *raw*, which arrived at *now* (Unix nanoseconds), or why it is dropped.

        Return None for one that changes nothing: its destination has already confirmed or replied.
        """
        if len(raw) > MAX_RECEIPT_BYTES:
            return self._drop(DropReason.MALFORMED, f"larger than {MAX_RECEIPT_BYTES} bytes", raw)
        try:
            frame = wire.decode(raw)
        except DecodeError as error:
            return self._drop(DropReason.MALFORMED, str(error), raw)
        failure = self._precheck(frame, now)
        if failure is not None:
            return self._drop(*failure, raw)
        destination = self._responders[frame.sender].destination
        if destination in self.confirmed or destination in self._replied:
            return None
        if not wire.verify(frame):
            self._invalid += 1
            return self._drop(DropReason.BAD_SIGNATURE, "", raw)
        self.confirmed.add(destination)
        return Receipt(destination, frame.sender, frame.time_ns)

    def _precheck(self, frame: wire.Frame, now: int) -> tuple[DropReason, str] | None:
        if frame.destination or frame.verb != RECEIPT_VERB or frame.wants_reply or frame.payload:
            return DropReason.NOT_A_REPLY, "not a receipt, by its destination, verb, flag or payload"
        if frame.sender not in self._responders:
            return DropReason.NOT_ASKED, "no peer that the request addressed has this key"
        late = skew_error(frame.time_ns, now, self._allow_skew_ns)
        if late is not None:
            return DropReason.OUTSIDE_WINDOW, late
        if frame.uuid != self._uuid:
            return DropReason.NOT_BOUND, "its uuid does not name this request"
        if self._invalid >= MAX_INVALID_SIGNATURES:
            return DropReason.BAD_SIGNATURE, "not checked, after too many with an invalid signature"
        return None

    def _drop(self, reason: DropReason, detail: str, raw: bytes) -> Drop:
        return Drop(reason, detail, len(raw), self._subject)
