"""Why something that arrived was not taken: a closed list, and nothing of what was in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DropReason(StrEnum):
    """Why a message or a reply was not taken. The values are stable: logs and metrics carry them."""

    MALFORMED = "malformed"
    NOT_A_REQUEST = "not-a-request"
    UNKNOWN_SENDER = "unknown-sender"
    VERB_NOT_PERMITTED = "verb-not-permitted"
    OUTSIDE_WINDOW = "outside-window"
    NOT_ADDRESSED = "not-addressed"
    FILTERED = "filtered"
    DUPLICATE = "duplicate"
    BAD_SIGNATURE = "bad-signature"
    REPLAYED = "replayed"
    BUSY = "busy"
    NOT_A_REPLY = "not-a-reply"
    NOT_ASKED = "not-asked"
    ANSWERED_ALREADY = "answered-already"
    NOT_BOUND = "not-bound"


@dataclass(frozen=True, slots=True)
class Drop:
    """Something that was not taken: one thing, or *count* of one kind when they come often.

    detail is made of our own words and numbers only; size is in bytes; subject is where it arrived. What it claimed,
    and from whom, is not here: nothing of it is verified.
    """

    reason: DropReason
    detail: str = ""
    size: int = 0
    subject: str = ""
    count: int = 1

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else str(self.reason)
