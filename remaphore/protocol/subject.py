"""The NATS subjects that messages and replies travel on."""

from __future__ import annotations

from remaphore.errors import UsageError
from remaphore.text import quoted

ALL = "all"
# Below the root, for coordination: records, the line of waiters, kept messages, what was stored, responses. A message
# there could be taken for one of these, or be stored.
RESERVED = ("coord", "queue", "kept", "happened", "inbox")


def for_messages(root: str, name: str = "") -> str:
    """Return the subject of messages: `<root>.all`, or `<root>.<name>`."""
    return f"{root}.{name or ALL}"


def for_replies(root: str, digest: bytes) -> str:
    """Return the subject of the replies to the request with this digest (SHA-256 of the whole message)."""
    return f"{root}.{digest.hex()}"


def for_receipts(replies: str) -> str:
    """Return the subject of the receipts for the request whose replies have the subject *replies*."""
    return f"{replies}.receipt"


def for_inboxes(root: str) -> str:
    """Return the subject below which each connection receives the responses to its requests to the broker."""
    return f"{root}.inbox"


def checked_name(name: str) -> str:
    """Return *name*, the part of the subject of messages below the root; empty for the usual one. Raise UsageError."""
    first = name.partition(".")[0]
    found = f"{first} is reserved for coordination" if first in RESERVED else problem(name)
    if name and found:
        hint = "use words joined by dots, such as team"
        raise UsageError(f"{quoted(name)} cannot be part of a subject: {found}", hint=hint)
    return name


def problem(text: str) -> str | None:
    """Return why *text* cannot be a subject, or a part of one, to publish on, or None."""
    if any(character in text for character in "*>"):
        return "it contains a wildcard (* or >)"
    if any(not character.isprintable() or character.isspace() for character in text):
        return "it contains white space or a control character"
    if "" in text.split("."):
        return "it has an empty part (a dot at an end, or two in a row)"
    return None
