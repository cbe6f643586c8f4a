"""The head of a connection: what a client asks for, as JSON. What is not understood is refused, and never ignored."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from remaphore.agent.frames import RECEIVE, REQUEST, SEND, VERSION, WHOAMI
from remaphore.agent.refusal import RefusedError
from remaphore.node import CONNECT_SECONDS, REQUEST_SECONDS
from remaphore.protocol.match import ALL
from remaphore.text import closest

# A send may wait this many seconds for the broker, whatever the client says.
MAX_SEND_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a client asks for.

    operation: one of HEADS. verb, to, id, key, subject: of a message, see `Node.send`; of receive, id, sender, pattern
    and verbs (None: every verb) are filters. timeout: seconds, None for no limit. receipts: of a request, whether the
    client wants to know which responders have started it. any_destination: of receive, messages to other destinations
    as well. count: of receive, the number of messages after which it ends; 0: never.
    """

    operation: str
    verb: str = ""
    to: str = ALL
    id: str = ""
    key: str = ""
    subject: str = ""
    timeout: float | None = None
    receipts: bool = False
    verbs: tuple[str, ...] | None = None
    sender: str = ""
    pattern: str = ""
    any_destination: bool = False
    count: int = 0


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a string")
    value.encode(errors="surrogateescape")  # UnicodeEncodeError, a ValueError, for half of a surrogate pair
    return value


def _content(value: object) -> str:
    if not _text(value):
        raise TypeError("a string that is not empty")
    return _text(value)


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("true or false")
    return value


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise TypeError("a number of seconds, or null for no limit")
    return float(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError("an integer of 0 or more")
    return value


def _texts(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not value:
        raise TypeError("an array of strings that is not empty, or null for all")
    return tuple(map(_content, value))


_Reader = Callable[[object], Any]
_MESSAGE: Mapping[str, _Reader] = {
    "verb": _content,
    "to": _content,
    "id": _text,
    "key": _text,
    "subject": _text,
    "timeout": _seconds,
}
# The keys of each operation, besides `v` and `op`, and their readers.
HEADS: Mapping[str, Mapping[str, _Reader]] = {
    SEND: _MESSAGE,
    REQUEST: {**_MESSAGE, "receipts": _boolean},
    RECEIVE: {
        "verbs": _texts,
        "id": _text,
        "sender": _text,
        "pattern": _text,
        "any_destination": _boolean,
        "subject": _text,
        "count": _count,
        "timeout": _seconds,
    },
    WHOAMI: {},
}
_DEFAULT_SECONDS = {SEND: CONNECT_SECONDS, REQUEST: REQUEST_SECONDS}
_RESTART = "install the same remaphore for both, and restart the agent"


def parse_head(raw: bytes) -> Head:
    """Return what the JSON object *raw* asks for. Raise RefusedError."""
    try:
        table = json.loads(raw)
    except (ValueError, RecursionError):
        raise RefusedError("protocol", "the head is not JSON", hint=_RESTART) from None
    if not isinstance(table, dict):
        raise RefusedError("protocol", "the head is not a JSON object", hint=_RESTART)
    version = table.pop("v", None)
    if type(version) is not int or version != VERSION:
        shown = version if type(version) is int else "none"
        what = f"this agent has version {VERSION} of the protocol, the client has {shown}"
        raise RefusedError("version", what, hint=_RESTART)
    operation = table.pop("op", None)
    if not isinstance(operation, str) or operation not in HEADS:
        raise RefusedError("usage", f"unknown operation; the agent knows {', '.join(HEADS)}", hint=_RESTART)
    readers = HEADS[operation]
    for key in table:
        if key not in readers:
            likely = closest(key[:64], readers)
            hint = f"did you mean {likely}? Otherwise {_RESTART}" if likely else _RESTART
            raise RefusedError("usage", f"{operation}: unknown key {key[:64]!r}", hint=hint)
    if "verb" in readers and "verb" not in table:
        raise RefusedError("usage", f"{operation}: the key 'verb' is missing", hint="name the verb of the message")
    return Head(operation=operation, **read_values(operation, table, readers))


def read_values(operation: str, table: Mapping[str, object], readers: Mapping[str, _Reader]) -> dict[str, Any]:
    """Return what *readers* make of the values in *table*, with the default timeout. Raise RefusedError."""
    values: dict[str, Any] = {"timeout": _DEFAULT_SECONDS[operation]} if operation in _DEFAULT_SECONDS else {}
    for key, value in table.items():
        try:
            values[key] = readers[key](value)
        except (TypeError, ValueError, OverflowError) as error:
            what = str(error) if isinstance(error, TypeError) else "a string that UTF-8 can encode"
            raise RefusedError("usage", f"{operation}: {key} must be {what}", hint=_RESTART) from None
    if operation == SEND:
        limit = values["timeout"]
        values["timeout"] = MAX_SEND_SECONDS if limit is None else min(limit, MAX_SEND_SECONDS)
    return values
