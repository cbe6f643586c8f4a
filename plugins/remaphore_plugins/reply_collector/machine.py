"""The formats for machines: JSON lines as things happen, or one JSON document at the end.

docs/requests.schema.json describes both. All is ASCII: other characters are escaped, so that nothing that a peer wrote
reaches a terminal raw. An output that is no UTF-8 is there twice: as text with replacements, and in base64.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from remaphore import Message, Reply, Summary
from remaphore_plugins.reply_collector.formats import Format
from remaphore_plugins.reply_collector.tally import WORDS, Tally, rejection

Record = dict[str, Any]


class JsonLines(Format):
    """One object a line, with its `kind`: request, reply, rejection, missing, summary."""

    def requested(self, request: Message, expected: tuple[str, ...]) -> bytes:
        """Return the line of a request."""
        return _line(_request(request, expected))

    def reply(self, request: Message, reply: Reply) -> bytes:
        """Return the line of a reply or a rejection."""
        return _line(_reply(request, reply))

    def finished(self, request: Message, summary: Summary) -> bytes:
        """Return a line for each destination that did not answer."""
        return b"".join(_line(record) for record in _missing(request, summary))

    def end(self, tally: Tally) -> bytes:
        """Return the line of the summary."""
        return _line(_summary(tally))


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

    def finished(self, request: Message, summary: Summary) -> bytes:
        """Keep who did not answer for the end."""
        self._records.extend(_missing(request, summary))
        return b""

    def end(self, tally: Tally) -> bytes:
        """Return the document."""
        kinds = {"requests": "request", "replies": "reply", "rejections": "rejection", "missing": "missing"}
        lists = {name: [each for each in self._records if each["kind"] == kind] for name, kind in kinds.items()}
        return _encode({**lists, "summary": _summary(tally)}, indent=2)


def _request(request: Message, expected: tuple[str, ...]) -> Record:
    return {
        "kind": "request",
        "hash": request.digest.hex(),
        "id": request.uuid.hex(),
        "verb": request.verb,
        "to": request.destination,
        "from": request.sender,
        "time_ns": request.time_ns,
        "expected": list(expected),
    }


def _reply(request: Message, reply: Reply) -> Record:
    record = {
        "kind": "rejection" if reply.rejected else "reply",
        "peer": reply.peer,
        "exit_code": reply.exit_code,
        **_output(reply.output),
        "bound": reply.bound,
        "time_ns": reply.time_ns,
        "request": request.digest.hex(),
    }
    return record | (rejection(reply)._asdict() if reply.rejected else {})


def _output(output: bytes) -> Record:
    try:
        return {"output": output.decode()}
    except UnicodeDecodeError:
        exactly = base64.b64encode(output).decode()
        return {"output": output.decode(errors="replace"), "output_base64": exactly}


def _missing(request: Message, summary: Summary) -> list[Record]:
    return [{"kind": "missing", "peer": name, "request": request.digest.hex()} for name in summary.missing]


def _summary(tally: Tally) -> Record:
    return {
        "kind": "summary",
        "expected": list(tally.expected),
        **{kind: list(tally.names(kind)) for kind in WORDS},
        "dropped": tally.dropped,
        "interrupted": tally.interrupted,
    }


def _line(record: Record) -> bytes:
    return _encode(record, indent=None)


def _encode(value: Record, *, indent: int | None) -> bytes:
    return json.dumps(value, indent=indent).encode() + b"\n"
