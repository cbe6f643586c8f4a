"""The environment variables that describe a message to a program. The names are those of the Go implementation."""

from __future__ import annotations

from remaphore import Message

_NS_PER_SECOND = 1_000_000_000


def describe_message(message: Message) -> dict[str, bytes]:
    """Return the variables for *message*. Verb and payload are chosen by a peer and may contain anything but NUL."""
    environment = {
        "REMAPHORE_SENDER": to_wire(message.sender),
        "REMAPHORE_VERB": to_wire(message.verb),
        "REMAPHORE_TIME": b"%d" % (message.time_ns // _NS_PER_SECOND),
        "REMAPHORE_UUID": message.uuid.hex().encode(),
        "REMAPHORE_MSG": message.payload,
    }
    if message.own_destination:
        # The second name is a typing error in an older text of the Go program, and scripts rely on it.
        names = ("REMAPHORE_DESTMATCH", "REMOPHORE_DESTMATCH")
        environment |= dict.fromkeys(names, to_wire(message.own_destination))
    return environment


def to_wire(text: str) -> bytes:
    """Return *text* as the bytes in the message.

    Not os.fsencode: that depends on the locale, and on the wire it is UTF-8 whatever the locale.
    """
    return text.encode(errors="surrogateescape")
