"""The table `[agent]`: what the agent does for local users. Only the agent looks up the names of users."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from remaphore.config import checks, payload_rules
from remaphore.config.settings import AgentRule, AgentSettings
from remaphore.config.tables import Table
from remaphore.text import closest

OPERATIONS = ("send", "request", "receive")
_AGENT = ("socket", "metrics", "allow")
_RULE = ("user", "group", "do", "verbs", "to", "identity", *payload_rules.KEYS)
_LISTEN = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<v4>[0-9.]+)):(?P<port>[0-9]{1,5})")
_MAX_ID = 2**32 - 2  # the largest uid and gid; the next number means "unchanged" in chown(2)


def read_agent(root: Table, base: Path, *, identities: Collection[str]) -> AgentSettings:
    """Return the settings in `[agent]` of *root*. identities: the public keys of this node. Raise ConfigError."""
    table = root.table("agent", _AGENT)
    path = table.text("socket")
    metrics = table.text("metrics") or ""
    if metrics and not is_listen_address(metrics):
        hint = "write an address such as 127.0.0.1:9618 or [::1]:9618; port 0 selects any free port"
        raise table.error("metrics", "not an IP address and a port", hint)
    rules = tuple(_rule(each, identities) for each in table.tables("allow", _RULE))
    return AgentSettings(socket=None if path is None else base / path, metrics=metrics, allow=rules)


def is_listen_address(text: str) -> bool:
    """Return whether *text* is an IP address, in brackets if it is of IPv6, and a port. It is never a name."""
    found = _LISTEN.fullmatch(text)
    if found is None or int(found["port"]) > 65535:
        return False
    import socket

    try:
        socket.inet_pton(socket.AF_INET6 if found["v6"] else socket.AF_INET, found["v6"] or found["v4"])
    except OSError:
        return False
    return True


def _rule(table: Table, identities: Collection[str]) -> AgentRule:
    if ("user" in table) == ("group" in table):
        raise table.error("", "needs exactly one of user and group", 'write user = "NAME", or group = "NAME"')
    for key, example in (("do", 'do = ["send", "request"]'), ("verbs", 'verbs = ["..."]')):
        table.require(key, example)
    do = table.texts("do")
    for number, operation in enumerate(do):
        if operation not in OPERATIONS:
            likely = closest(operation, OPERATIONS)
            hint = f"did you mean {likely}?" if likely else f"write some of {', '.join(OPERATIONS)}"
            raise table.error(f"do[{number}]", "unknown operation", hint)
    verbs = table.texts("verbs")
    for number, verb in enumerate(verbs):
        table.checked(f"verbs[{number}]", verb, checks.verb_problem)
    if set(do) - {"receive"}:
        table.require("to", 'to = ["com.example.web.*"], the destinations that it may address')
    to = table.texts("to")
    for number, pattern in enumerate(to):
        table.checked(f"to[{number}]", pattern, checks.pattern_problem)
    identity = table.text("identity") or ""
    if identity and identity not in identities:
        raise table.error("identity", "no identity has this key", "use the key of one of [[identities]]")
    return AgentRule(
        user=_owner(table, "user"),
        group=_owner(table, "group"),
        do=frozenset(do),
        verbs=frozenset(verb.lower() for verb in verbs),
        to=to,
        identity=identity,
        payload=payload_rules.read(table),
        path=table.path(""),
    )


def _owner(table: Table, key: str) -> str:
    """Return the name or number of the user or group at *key*, as text; empty if there is none."""
    if key not in table:
        return ""
    if table.is_text(key):
        name = table.required_text(key)
        if name == "*":
            raise table.error(key, "every user at once cannot be named", "name the users, or a group that they are in")
        return name
    number = table.integer(key)
    if not 0 <= number <= _MAX_ID:
        raise table.error(key, "not the number of a user or group", f"use a number from 0 to {_MAX_ID}, or a name")
    return str(number)
