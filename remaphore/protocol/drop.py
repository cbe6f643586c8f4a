"""Why a message or reply was dropped: a closed list of reasons, and nothing of its contents."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class DropReason(StrEnum):
    """Why a message or a reply was dropped. The values are stable: logs and metrics contain them.

    The last four are reasons of replies only.

    malformed: it is not a message of this protocol. not-a-request: it is a reply on the subject of messages.
    not-addressed: its pattern does not match this node. own-message: this node signed it. unknown-sender: no peer has
    this key. verb-not-permitted: the peer may not send this verb. outside-window: its time differs by more than
    `allow_skew` from ours. filtered: a filter of this receiver excludes it. duplicate: it is the same message as an
    earlier one. bad-signature: the signature is not that of the key. payload-not-permitted: the peer may send this
    verb, but not with this payload. replayed: its time and signer were accepted
    before. busy: too many messages wait, here or for their signatures to be checked.

    not-a-reply: it is a message of another kind. not-asked: its signer is none of the
    destinations that were asked. answered-already: this destination has replied. not-bound: it does not name its
    request, which only a peer with `compatibility = "legacy"` may omit.
    """

    MALFORMED = "malformed"
    NOT_A_REQUEST = "not-a-request"
    NOT_ADDRESSED = "not-addressed"
    OWN_MESSAGE = "own-message"
    UNKNOWN_SENDER = "unknown-sender"
    VERB_NOT_PERMITTED = "verb-not-permitted"
    OUTSIDE_WINDOW = "outside-window"
    FILTERED = "filtered"
    DUPLICATE = "duplicate"
    BAD_SIGNATURE = "bad-signature"
    PAYLOAD_NOT_PERMITTED = "payload-not-permitted"
    REPLAYED = "replayed"
    BUSY = "busy"
    NOT_A_REPLY = "not-a-reply"
    NOT_ASKED = "not-asked"
    ANSWERED_ALREADY = "answered-already"
    NOT_BOUND = "not-bound"

    # That of `Enum` is a function in Python; a flood counts each drop by its reason, in several places.
    __hash__ = str.__hash__


class Drop(NamedTuple):
    """A dropped message or reply, or *count* of one kind if they arrive often.

    Its claims and its claimed sender are not here: nothing of it is verified. reason: why. detail: our own words and
    numbers only. size: in bytes. subject: the NATS subject that it arrived on. count: how many it stands for. exact:
    whether the pattern of the message is exactly our destination, so that it was sent to this node alone; False for
    replies and for bytes without a readable pattern.

    A tuple, since a flood makes one for each of its messages: a frozen dataclass takes three times as long to make.
    """

    reason: DropReason
    detail: str = ""
    size: int = 0
    subject: str = ""
    count: int = 1  # type: ignore[assignment]  # a tuple has a method of this name, which has no use here
    exact: bool = False

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else str(self.reason)


class DropKind:
    """What drops have in common that differ in nothing but their size: one object for each, compared by identity."""

    __slots__ = ("detail", "exact", "reason", "subject")

    def __init__(self, reason: DropReason, detail: str, subject: str, *, exact: bool) -> None:
        self.reason = reason
        self.detail = detail
        self.subject = subject
        self.exact = exact

    def drop(self, size: int, count: int = 1) -> Drop:
        """Return the drop of a message of *size* bytes, or of *count* messages of which it is the last."""
        return Drop(self.reason, self.detail, size, self.subject, count, self.exact)
