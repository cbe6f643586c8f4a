"""The nodes of a measurement: keys, configurations on disk, and signed messages."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from remaphore.protocol import subject, wire
from remaphore.protocol.keys import PrivateKey
from remaphore.protocol.message import UUID_BYTES, Message

ROOT = "remaphore"
SUBJECT = f"{ROOT}.all"
TARGET = "com.bench.target"
VERBS = ("note", "true", "clock", "sentinel", "reply")


@dataclass(frozen=True, slots=True)
class Node:
    """A name and its key."""

    destination: str
    key: PrivateKey


def nodes(number: int, *, prefix: str = "com.bench.n") -> list[Node]:
    """Return *number* new nodes."""
    return [Node(f"{prefix}{index}", PrivateKey.generate()) for index in range(number)]


def write_config(
    folder: Path,
    own: Node,
    peers: Iterable[Node],
    *,
    url: str,
    name: str = "node",
    verbs: Sequence[str] = VERBS,
    credentials: Path | None = None,
    skew: str = "10m",
    extra: str = "",
) -> Path:
    """Write `<name>.toml` and its key file into *folder*; every one of *peers* may send *verbs*. Return the path."""
    secret = folder / f"{name}.key"
    secret.touch(mode=0o600)
    secret.write_text(own.key.reveal() + "\n")
    permitted = "[" + ", ".join(f'"{verb}"' for verb in verbs) + "]"
    login = f'credentials = "{credentials}"' if credentials else 'auth = "none"'
    head = (
        f'destination = "{own.destination}"\nservers = ["{url}"]\n{login}\nsubject = "{ROOT}"\nallow_skew = "{skew}"\n'
        f'state_dir = "{folder / "state"}"\n[[identities]]\nkey = "{own.key.public}"\n'
        f'private_key_file = "{secret}"\nverbs = ["*"]\n'
    )
    tables = (
        f'[[peers]]\ndestination = "{peer.destination}"\nkey = "{peer.key.public}"\nverbs = {permitted}\n'
        for peer in peers
    )
    path = folder / f"{name}.toml"
    path.touch(mode=0o600)
    path.write_text(head + "".join(tables) + extra)
    return path


def sign(
    sender: Node, verb: str, *, to: str = TARGET, payload: bytes = b"", wants_reply: bool = False, time_ns: int = 0
) -> bytes:
    """Return a message signed now, or at *time_ns*, with a random id."""
    message = Message(
        sender=sender.key.public,
        destination=to,
        verb=verb,
        uuid=os.urandom(UUID_BYTES),
        time_ns=time_ns or time.time_ns(),
        wants_reply=wants_reply,
        payload=payload,
    )
    return wire.encode(message, sender.key)


def reply_subject(raw: bytes) -> str:
    """Return where the replies to the message *raw* are sent."""
    return subject.for_replies(ROOT, wire.digest(raw))
