"""The status of a daemon: what runs, what waits, and how the last messages ended. It has no payload and no output.

It is the built-in reply to the verb `remaphore-status` and the content of the status file: one JSON object in ASCII,
docs/status.schema.json describes it. `parse` trusts nothing: a peer may reply anything.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NoReturn, TypeVar

from remaphore.errors import DecodeError
from remaphore.protocol.message import EXIT_CODE_LIMIT, show_id
from remaphore.protocol.ping import Invocation
from remaphore.text import to_json

VERB = "remaphore-status"
SCHEMA = 1  # incremented when a key changes its meaning; keys may be added at any time

# Bytes of a status, of which each of its three lists gets a third: a peer that may send any verb can make rows long and
# many, and they must not displace those of the others. It is less than brokers accept and the ledger records.
MAX_BYTES = 48 * 1024
# Of a status that is read: characters of one text, and rows of one list.
MAX_TEXT = 1024
MAX_ROWS = 10_000

_MAX_NUMBER = 2**63  # of nanoseconds and of messages
_MAX_SECONDS = 1e12
_HEX = re.compile(r"([0-9a-f]{2}){0,32}")
_LISTS = ("running", "waiting", "ended")

T = TypeVar("T")
Row = TypeVar("Row", "Running", "Waiting", "Ended")


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A message that is being handled. peer: the destination of its sender; digest: the first 8 bytes, as in the log.

    state: `starting` until its start is recorded, `running` while plugins act on it, `replying` until its reply is
    sent. since_ns: Unix nanoseconds at which it left its queue; seconds: how long ago that is.
    """

    verb: str
    uuid: bytes
    peer: str
    digest: bytes
    state: str
    since_ns: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The messages that wait in the queue of one verb, and the age of the oldest of them."""

    verb: str
    messages: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a message ended. result: `handled`, `rejected` (for *reason*) or `interrupted` by the daemon's end.

    exit_code: of the reply, also of a built-in one; None without a reply. reply_sent: None if none was requested.
    seconds: since it left its queue, None if it never did.
    """

    verb: str
    uuid: bytes
    peer: str
    digest: bytes
    result: str
    reason: str
    exit_code: int | None
    reply_sent: bool | None
    seconds: float | None
    ended_ns: int
    ago_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What a daemon does. state: `starting`, `receiving` or `stopping`; problem: why nothing can run, empty if it can.

    running, waiting: the longest first; ended: the latest first. omitted: how many of each are not listed.
    """

    destination: str
    version: str
    invocation: Invocation
    state: str
    problem: str
    time_ns: int
    uptime_seconds: float
    running: tuple[Running, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    ended: tuple[Ended, ...] = ()
    omitted: tuple[int, int, int] = (0, 0, 0)


def cut(status: Status, *, limit: int = MAX_BYTES) -> Status:
    """Return *status* with no more rows than fit into *limit* bytes, and the others counted as omitted."""
    room = (limit - len(to_json(to_document(replace(status, running=(), waiting=(), ended=()))))) // len(_LISTS)
    running, waiting, ended = (
        _fitting(status.running, room),
        _fitting(status.waiting, room),
        _fitting(status.ended, room),
    )
    left_out = (
        status.omitted[0] + len(status.running) - len(running),
        status.omitted[1] + len(status.waiting) - len(waiting),
        status.omitted[2] + len(status.ended) - len(ended),
    )
    return replace(status, running=running, waiting=waiting, ended=ended, omitted=left_out)


def _fitting(rows: tuple[Row, ...], room: int) -> tuple[Row, ...]:
    for number, row in enumerate(rows):
        room -= len(to_json(_to_row(row))) + len(", ")
        if room < 0:
            return rows[:number]
    return rows


def to_document(status: Status) -> dict[str, object]:
    """Return *status* as the JSON object that is sent, written and printed."""
    document: dict[str, object] = {
        "schema": SCHEMA,
        "destination": status.destination,
        "version": status.version,
        "invocation": status.invocation.number,
        "instance": status.invocation.instance,
        "state": status.state,
        "problem": status.problem[:MAX_TEXT],
        "time_ns": status.time_ns,
        "uptime_seconds": round(status.uptime_seconds, 3),
    }
    lists: tuple[Sequence[Running | Waiting | Ended], ...] = (status.running, status.waiting, status.ended)
    for name, rows, omitted in zip(_LISTS, lists, status.omitted, strict=True):
        document[name] = list(map(_to_row, rows))
        document[f"{name}_omitted"] = omitted
    return document


def _to_row(row: Running | Waiting | Ended) -> dict[str, object]:
    # Not `asdict`, which copies each value: a daemon in a flood writes its rows each second.
    values = {each.name: getattr(row, each.name) for each in fields(row)}
    shown = {name: round(value, 3) if isinstance(value, float) else value for name, value in values.items()}
    if isinstance(row, Waiting):
        return shown
    del shown["uuid"]
    ids = {"id": show_id(row.uuid) if row.uuid else "", "id_hex": row.uuid.hex(), "digest": row.digest.hex()}
    return {
        "verb": row.verb,
        **ids,
        **{name: value for name, value in shown.items() if name not in ("verb", "digest")},
    }


def parse(raw: bytes | str) -> Status:
    """Return the status in *raw*, whatever sent it. Raise DecodeError: not JSON, a later schema, or a wrong value."""
    return read(load_json(raw))


def load_json(raw: bytes | str) -> object:
    """Return the JSON value *raw*. Raise DecodeError, also for what RFC 8259 leaves undefined: NaN, a key twice."""
    try:
        return json.loads(raw, object_pairs_hook=_without_duplicates, parse_constant=_no_number)
    except RecursionError:
        raise DecodeError("nested too deeply") from None
    except UnicodeDecodeError:
        raise DecodeError("not text") from None
    except ValueError as error:
        raise DecodeError(f"not JSON: {error}") from None


def read(document: object) -> Status:
    """Return the status in *document*, which is parsed JSON. Raise DecodeError."""
    fields = Fields(document, "status")
    schema = fields.number("schema")
    if schema != SCHEMA:
        raise DecodeError(f"status has schema {schema}, ours is {SCHEMA}")
    invocation = Invocation.of(fields.text("invocation"), fields.text("instance"))
    if invocation is None:
        raise DecodeError("status: invocation or instance is malformed")
    omitted = [fields.number(f"{name}_omitted") for name in _LISTS]
    return Status(
        destination=fields.text("destination"),
        version=fields.text("version"),
        invocation=invocation,
        state=fields.text("state"),
        problem=fields.text("problem"),
        time_ns=fields.number("time_ns"),
        uptime_seconds=fields.seconds("uptime_seconds"),
        running=fields.rows("running", _read_running),
        waiting=fields.rows("waiting", _read_waiting),
        ended=fields.rows("ended", _read_ended),
        omitted=(omitted[0], omitted[1], omitted[2]),
    )


def _read_running(row: Fields) -> Running:
    return Running(
        verb=row.text("verb"),
        uuid=row.raw("id_hex"),
        peer=row.text("peer"),
        digest=row.raw("digest"),
        state=row.text("state"),
        since_ns=row.number("since_ns"),
        seconds=row.seconds("seconds"),
    )


def _read_waiting(row: Fields) -> Waiting:
    return Waiting(verb=row.text("verb"), messages=row.number("messages"), oldest_seconds=row.seconds("oldest_seconds"))


def _read_ended(row: Fields) -> Ended:
    return Ended(
        verb=row.text("verb"),
        uuid=row.raw("id_hex"),
        peer=row.text("peer"),
        digest=row.raw("digest"),
        result=row.text("result"),
        reason=row.text("reason"),
        exit_code=None if row.is_null("exit_code") else row.exit_code("exit_code"),
        reply_sent=None if row.is_null("reply_sent") else row.flag("reply_sent"),
        seconds=None if row.is_null("seconds") else row.seconds("seconds"),
        ended_ns=row.number("ended_ns"),
        ago_seconds=row.seconds("ago_seconds"),
    )


class Fields:
    """The keys of a JSON object, each read as one type. Each method raises DecodeError for anything else."""

    def __init__(self, document: object, where: str) -> None:
        if not isinstance(document, dict):
            raise DecodeError(f"{where} is not an object")
        self._document: Mapping[str, object] = document
        self._where = where

    def value(self, key: str) -> object:
        """Return the value, None if there is none."""
        return self._document.get(key)

    def is_null(self, key: str) -> bool:
        """Return whether it is there and null."""
        return key in self._document and self._document[key] is None

    def text(self, key: str) -> str:
        """Return a text of at most MAX_TEXT characters."""
        value = self._document.get(key)
        return value if isinstance(value, str) and len(value) <= MAX_TEXT else self._fail(key)

    def raw(self, key: str) -> bytes:
        """Return bytes in hex."""
        value = self.text(key)
        return bytes.fromhex(value) if _HEX.fullmatch(value) else self._fail(key)

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self._document.get(key)
        return value if isinstance(value, bool) else self._fail(key)

    def number(self, key: str) -> int:
        """Return an integer from 0 on."""
        value = self._integer(key)
        return value if 0 <= value < _MAX_NUMBER else self._fail(key)

    def exit_code(self, key: str) -> int:
        """Return an integer that a reply can have as its exit code."""
        value = self._integer(key)
        return value if abs(value) < EXIT_CODE_LIMIT else self._fail(key)

    def seconds(self, key: str) -> float:
        """Return a number from 0 on."""
        value = self._document.get(key)
        # An integer first by its size: the largest ones cannot become a float.
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MAX_SECONDS:
            self._fail(key)
        return float(value) if math.isfinite(value) else self._fail(key)

    def rows(self, key: str, make: Callable[[Fields], T]) -> tuple[T, ...]:
        """Return a list of objects, of which *make* reads each."""
        rows = self._document.get(key)
        if not isinstance(rows, list) or len(rows) > MAX_ROWS:
            self._fail(key)
        return tuple(make(Fields(row, f"{key} of the status")) for row in rows)

    def _integer(self, key: str) -> int:
        value = self._document.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else self._fail(key)

    def _fail(self, key: str) -> NoReturn:
        what = "missing" if key not in self._document else "of a wrong type or out of range"
        raise DecodeError(f"{self._where}: {key} is {what}")


def _without_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")
