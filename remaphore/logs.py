"""Logging: structlog to stderr, for people or as JSON lines; the standard library's loggers end there too.

Event names are `noun_verb` with key-value pairs. Keys and payloads are not logged. Control characters are escaped:
what a peer or a script wrote must not reach a terminal raw.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog

Format = Literal["console", "json"]

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}


def configure(log_format: Format, *, level: int = logging.INFO) -> None:
    """Send all logs of *level* and above to stderr in *log_format*."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer() if log_format == "json" else _for_people,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(_Lossy(sys.stderr)),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Forward()]
    root.setLevel(level)


def escape(text: str) -> str:
    """Return *text* with control characters written out, newlines and tabs too: one event is one line."""
    return text.translate(_ESCAPES)


def _for_people(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    time, level, what = event.pop("timestamp"), event.pop("level"), event.pop("event")
    trace = event.pop("exception", "")
    details = "".join(f" {key}={value}" for key, value in event.items() if value is not None)
    return "\n".join([escape(f"{time[:19]}Z {level:<7} {what}{details}"), *map(escape, trace.splitlines())])


class _Lossy:
    """A stream that may go away: what cannot be logged is lost, and nothing else is."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class _Forward(logging.Handler):
    """Hands the records of other libraries, and of plugins that use the standard library, to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)
