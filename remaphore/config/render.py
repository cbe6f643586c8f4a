"""Settings as TOML text. Small enough to be written by hand, so that no command needs a library to make a file."""

from __future__ import annotations

import json
from collections.abc import Iterable

from remaphore.protocol import duration
from remaphore.protocol.peers import Peer


def string(text: str) -> str:
    """Return *text* as a basic string."""
    # JSON writes it alike but for DEL, which TOML wants to be escaped, and the pairs that escapes beyond 16 bits need.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def array(texts: Iterable[str]) -> str:
    """Return *texts* as an array of strings on one line."""
    return f"[{', '.join(map(string, texts))}]"


def time(nanoseconds: int) -> str:
    """Return a duration in Go's notation, in whole seconds if it has no others."""
    seconds, rest = divmod(nanoseconds, duration.SECOND)
    return f"{nanoseconds}ns" if rest else f"{seconds}s"


def identity(*, key: str, private_key_file: str, verbs: Iterable[str]) -> str:
    """Return the table of an identity."""
    return (
        f"[[identities]]\nkey = {string(key)}\nprivate_key_file = {string(private_key_file)}\n"
        f"verbs = {array(sorted(verbs))}\n"
    )


def peer(known: Peer) -> str:
    """Return the table of a peer."""
    lines = (f"{key} = {string(value)}\n" for key, value in peer_strings(known).items())
    return f"[[peers]]\n{''.join(lines)}verbs = {array(sorted(known.verbs))}\n"


def peer_strings(known: Peer) -> dict[str, str]:
    """Return the keys of a peer's table that hold a string, with their values."""
    strings = {"destination": known.destination, "key": known.key}
    return strings | ({"compatibility": "legacy"} if known.legacy else {})
