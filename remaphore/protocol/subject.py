"""The NATS subjects that messages and replies travel on."""

from __future__ import annotations

ALL = "all"


def for_messages(root: str, name: str = "") -> str:
    """Return the subject of messages: `<root>.all`, or `<root>.<name>`."""
    return f"{root}.{name or ALL}"


def for_replies(root: str, digest: bytes) -> str:
    """Return the subject of the replies to the request with this digest (SHA-256 of the whole message)."""
    return f"{root}.{digest.hex()}"


def for_receipts(replies: str) -> str:
    """Return the subject of the receipts for the request whose replies have the subject *replies*."""
    return f"{replies}.receipt"


def problem(text: str) -> str | None:
    """Return why *text* cannot be a subject, or a part of one, to publish on, or None."""
    if any(character in text for character in "*>"):
        return "it contains a wildcard (* or >)"
    if any(not character.isprintable() or character.isspace() for character in text):
        return "it contains white space or a control character"
    if "" in text.split("."):
        return "it has an empty part (a dot at an end, or two in a row)"
    return None
