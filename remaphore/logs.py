"""Logging: structlog to stderr, for people or as JSON lines, with the records of the standard library's loggers.

Event names are `noun_verb` with key-value pairs. Keys and payloads are never logged. What a terminal interprets or does
not show is escaped: text of a peer or a script must not control a terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import sys
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any, Literal, TextIO

from remaphore.text import escape, to_json

Format = Literal["console", "json"]

# Characters of one value in a log line: four times the longest verb, so that a long value of a peer or a plugin cannot
# fill a disk. Of a traceback the end is kept, where the error is.
MAX_VALUE = 1024
MAX_TRACEBACK = 16 * 1024

_FIELD = re.compile(r"\s\w+=")


def configure(log_format: Format, *, level: int = logging.INFO, fit: Callable[[str, str], str] | None = None) -> None:
    """Send all logs of *level* and above to stderr in *log_format*.

    fit: returns a line for people as its terminal shows it; its second argument is the level of the line.
    """
    import structlog

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _shorten,
            structlog.processors.JSONRenderer(to_json) if log_format == "json" else partial(_for_people, fit=fit),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(_Stream(sys.stderr)),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Forward()]
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel(max(level, logging.INFO))  # on debug it logs its own startup


def _shorten(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str) and len(value) > MAX_VALUE and key != "exception":
            event[key] = f"{value[:MAX_VALUE]}... ({len(value)} characters)"
    if "exception" in event:
        event["exception"] = event["exception"][-MAX_TRACEBACK:]
    return event


def _for_people(
    _logger: Any, _method: str, event: MutableMapping[str, Any], *, fit: Callable[[str, str], str] | None = None
) -> str:
    time, level, what = event.pop("timestamp"), event.pop("level"), event.pop("event")
    trace = event.pop("exception", "")
    details = "".join(f" {key}={_quoted(value)}" for key, value in event.items() if value is not None)
    line = escape(f"{time[:19]}Z {level:<7} {what}{details}")
    # A traceback quotes messages of errors, which may have lines of their own: indented, none of them is an event.
    lines = [(line, level), *((f"  {escape(each)}", "") for each in trace.split("\n") if each)]
    return "\n".join(fit(each, label) if fit else each for each, label in lines)


def _quoted(value: object) -> object:
    """Return *value*, in quotes if a part of it looks like a field of its own, as the id `1 peer=com.example.a`."""
    if not isinstance(value, str) or "=" not in value or not _FIELD.search(value):
        return value
    inner = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{inner}"'


class _Stream:
    """Writes the lines of one iteration of the event loop at once, to a stream that may be closed.

    A write for each line would cost as much as verifying a signature. Lines that cannot be written are lost, and
    no error is raised.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._texts: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # the loop that will call _write

    def write(self, text: str) -> None:
        self._texts.append(text)

    def flush(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._write()
            return
        if self._loop is not loop:
            self._loop = loop
            loop.call_soon(self._write)

    def _write(self) -> None:
        self._loop = None
        texts, self._texts = self._texts, []
        with contextlib.suppress(OSError, ValueError):
            self._stream.write("".join(texts))
            self._stream.flush()


class _Forward(logging.Handler):
    """Forwards the records of other libraries, and of plugins that use the standard library, to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        import structlog

        log = structlog.get_logger()
        log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)
