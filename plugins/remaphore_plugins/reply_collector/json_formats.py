"""The formats for programs: JSON lines as events happen, or one JSON document at the end.

docs/requests.schema.json describes both. All is ASCII: other characters are escaped, so that no text of a peer reaches
a terminal unescaped. An output that is not UTF-8 is included twice: as text with replacements, and in base64.
"""

from __future__ import annotations

import base64
from typing import Any

from remaphore import Message, Receipt, Reply, Summary
from remaphore.text import to_json
from remaphore_plugins.reply_collector.formats import Format
from remaphore_plugins.reply_collector.request_stats import LABELS, RequestStats, parse_rejection

Record = dict[str, Any]


class JsonLines(Format):
    """One object a line; its `kind` is request, receipt, reply, rejection, missing or summary."""

    def requested(self, request: Message, expected: tuple[str, ...]) -> bytes:
        """Return the line of a request."""
        return _line(_request(request, expected))

    def reply(self, request: Message, reply: Reply) -> bytes:
        """Return the line of a reply or a rejection."""
        return _line(_reply(request, reply))

    def receipt(self, request: Message, receipt: Receipt) -> bytes:
        """Return the line of a receipt."""
        return _line(_receipt(request, receipt))

    def finished(self, request: Message, summary: Summary) -> bytes:
        """Return a line for each destination that did not reply."""
        return b"".join(_line(record) for record in _missing(request, summary))

    def end(self, stats: RequestStats) -> bytes:
        """Return the line of the summary."""
        return _line(_summary(stats))


class Json(Format):
    """One document at the end, made of the same objects."""

    def __init__(self) -> None:
        self._records: list[Record] = []

    def requested(self, request: Message, expected: tuple[str, ...]) -> bytes:
        """Keep a request for the end."""
        self._records.append(_request(request, expected))
        return b""

    def reply(self, request: Message, reply: Reply) -> bytes:
        """Keep a reply or a rejection for the end."""
        self._records.append(_reply(request, reply))
        return b""

    def receipt(self, request: Message, receipt: Receipt) -> bytes:
        """Keep a receipt for the end."""
        self._records.append(_receipt(request, receipt))
        return b""

    def finished(self, request: Message, summary: Summary) -> bytes:
        """Keep the destinations that did not reply for the end."""
        self._records.extend(_missing(request, summary))
        return b""

    def end(self, stats: RequestStats) -> bytes:
        """Return the document."""
        kinds = {
            "requests": "request",
            "receipts": "receipt",
            "replies": "reply",
            "rejections": "rejection",
            "missing": "missing",
        }
        lists = {name: [each for each in self._records if each["kind"] == kind] for name, kind in kinds.items()}
        return _encode({**lists, "summary": _summary(stats)}, indent=2)


def _request(request: Message, expected: tuple[str, ...]) -> Record:
    return {
        "kind": "request",
        "hash": request.digest.hex(),
        "id": request.id,
        "id_hex": request.uuid.hex(),
        "verb": request.verb,
        "to": request.destination,
        "from": request.sender,
        "time_ns": request.time_ns,
        "expected": list(expected),
    }


def _reply(request: Message, reply: Reply) -> Record:
    try:
        output = {"output": reply.output.decode()}
    except UnicodeDecodeError:
        exact = base64.b64encode(reply.output).decode()
        output = {"output": reply.output.decode(errors="replace"), "output_base64": exact}
    record = {
        "kind": "rejection" if reply.rejected else "reply",
        "peer": reply.peer,
        "exit_code": reply.exit_code,
        **output,
        "bound": reply.bound,
        "time_ns": reply.time_ns,
        "request": request.digest.hex(),
    }
    return record | (parse_rejection(reply)._asdict() if reply.rejected else {})


def _receipt(request: Message, receipt: Receipt) -> Record:
    return {
        "kind": "receipt",
        "peer": receipt.peer,
        "time_ns": receipt.time_ns,
        "request": request.digest.hex(),
    }


def _missing(request: Message, summary: Summary) -> list[Record]:
    running = frozenset(summary.running)
    return [
        {"kind": "missing", "peer": name, "running": name in running, "request": request.digest.hex()}
        for name in summary.missing
    ]


def _summary(stats: RequestStats) -> Record:
    required = len(stats.expected) if stats.required is None else stats.required
    return {
        "kind": "summary",
        "expected": list(stats.expected),
        **{kind: list(stats.names(kind)) for kind in LABELS},
        "dropped": stats.dropped,
        "interrupted": stats.interrupted,
        "required": required,
        "met": stats.count("ok") >= required,
    }


def _line(record: Record) -> bytes:
    return _encode(record, indent=None)


def _encode(value: Record, *, indent: int | None) -> bytes:
    return to_json(value, indent=indent).encode() + b"\n"
