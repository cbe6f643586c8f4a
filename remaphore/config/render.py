"""Settings as TOML text, written without a library, so that no command has to load one to create a file."""

from __future__ import annotations

import json
from collections.abc import Iterable

from remaphore.config.settings import AgentRule
from remaphore.protocol import duration
from remaphore.protocol.peers import Peer


def string(text: str) -> str:
    """Return *text* as a basic string."""
    # JSON has the same syntax, except for DEL, which TOML requires to be escaped, and for characters beyond 16 bits,
    # which JSON escapes as a surrogate pair: ensure_ascii=False writes them as they are.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def array(texts: Iterable[str]) -> str:
    """Return *texts* as an array of strings on one line."""
    return f"[{', '.join(map(string, texts))}]"


def time(nanoseconds: int) -> str:
    """Return a duration in Go's notation: whole seconds such as `5s`, and others such as `1500000000ns`."""
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
    """Return the keys of a peer's table whose values are strings, with these values."""
    strings = {"destination": known.destination, "key": known.key}
    return strings | ({"compatibility": "legacy"} if known.legacy else {})


def agent_rule(rule: AgentRule) -> dict[str, object]:
    """Return the keys of a rule's table that are set, with their values."""
    who = {"user": rule.user} if rule.user else {"group": rule.group}
    table: dict[str, object] = {**who, "do": sorted(rule.do), "verbs": sorted(rule.verbs)}
    table |= {"to": list(rule.to)} if rule.to else {}
    table |= rule.payload.settings() if rule.payload is not None else {}
    return table | ({"identity": rule.identity} if rule.identity else {})
