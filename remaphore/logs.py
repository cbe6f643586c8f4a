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
import time
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, Literal, TextIO

from remaphore.text import escape, to_json

Format = Literal["console", "json"]

# Characters of one value in a log line: four times the longest verb, so that a long value of a peer or a plugin cannot
# fill a disk. Of a traceback the end is kept, where the error is.
MAX_VALUE = 1024
MAX_TRACEBACK = 16 * 1024

_PRINTABLE = bytes(range(32, 127))  # of ASCII
_FIELD = re.compile(r"\s\w+=")
# What structlog imports where it is installed, for tracebacks and colours that `configure` replaces: 4 MiB and 40 ms.
_UNUSED = ("rich", "colorama")


def configure(log_format: Format, *, level: int = logging.INFO, fit: Callable[[str, str], str] | None = None) -> None:
    """Send all logs of *level* and above to stderr in *log_format*.

    fit: returns a line for people as its terminal shows it; its second argument is the level of the line.
    """
    unused = [name for name in _UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(unused))  # type: ignore[arg-type] # None: importing it is an ImportError
    try:
        import structlog
    finally:
        for name in unused:
            del sys.modules[name]

    structlog.configure(
        processors=[_Renderer(log_format, fit, level)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Stream(sys.stderr),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Forward()]
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel(max(level, logging.INFO))  # on debug it logs its own startup


class LibraryLogger:
    """The logger of code that also runs in other programs, through `Node`.

    Without a configuration, structlog would print to stdout, also what is for debugging. There, and unless the program
    configures structlog itself, the records are those of the standard library's logger `remaphore`.
    """

    def debug(self, event: str, **values: object) -> None:
        """Log *event*, which helps to find an error."""
        self._log("debug", event, values)

    def info(self, event: str, **values: object) -> None:
        """Log *event*, which is normal operation."""
        self._log("info", event, values)

    def warning(self, event: str, **values: object) -> None:
        """Log *event*, which an administrator should know."""
        self._log("warning", event, values)

    def _log(self, level: str, event: str, values: Mapping[str, object]) -> None:
        structlog = sys.modules.get("structlog")  # what is not imported is not configured; the import takes 40 ms
        if structlog is not None and structlog.is_configured():
            getattr(structlog.get_logger(), level)(event, **values)
        elif logging.getLogger("remaphore").isEnabledFor(logging.getLevelName(level.upper())):
            fields = "".join(
                [f" {key}={_quoted(_shortened(value))}" for key, value in values.items() if value is not None]
            )
            getattr(logging.getLogger("remaphore"), level)("%s", escape(event + fields))


class EventLogger:
    """Logs one event whose fields are known, at level info: for the lines that each message has.

    The line is the one that structlog's logger makes of the same event, in a quarter of the time: a template of it is
    filled in. The logger makes it where this log is not set up, as in a test that captures the log, and where a value
    has to be quoted, cut, left out, or is neither text nor an integer.

    Example: the template of `EventLogger(log, "message_received", "verb", "size")` for people is
    `%sZ info    message_received verb=%s size=%s`.
    """

    def __init__(self, log: Any, event: str, *keys: str, **fixed: str | None) -> None:
        """*log*: structlog's logger. *keys*: of the fields that differ. *fixed*: fields that follow them."""
        import structlog

        config = structlog.get_config()
        self._log = log
        self._event = event
        self._keys = keys
        self._fixed = fixed
        self._processors = config["processors"]  # the list that the logger uses, and a test replaces the entries of
        self._expected = list(self._processors)
        self._fill: Callable[[tuple[str | float | None, ...]], str | None] | None = None
        stream = config["logger_factory"]
        if isinstance(stream, _Stream) and len(self._expected) == 1 and isinstance(self._expected[0], _Renderer):
            self._fill = self._expected[0].prepare(event, keys, fixed)
            self._write = stream.msg

    def __call__(self, *values: str | float | None) -> None:
        """Log the event with *values*, one for each key."""
        if self._fill is not None and self._processors == self._expected and (line := self._fill(values)) is not None:
            self._write(line)
        else:
            self._log.info(self._event, **dict(zip(self._keys, values, strict=True)), **self._fixed)


class _Renderer:
    """The only processor: makes the line of an event in one step. structlog's own five take three times as long."""

    def __init__(self, log_format: Format, fit: Callable[[str, str], str] | None, level: int = logging.NOTSET) -> None:
        from structlog import processors

        self._add_traceback = processors.format_exc_info
        self._to_json = processors.JSONRenderer(to_json) if log_format == "json" else None
        self._fit = fit
        self._level = level
        self._second = -1  # Unix time of the stamp
        self._stamp = ""

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> str | bytes:
        level = _LEVELS.get(method, method)
        stamp, microsecond = self._now()
        if self._to_json is None:
            if "exc_info" in event:
                event = self._add_traceback(logger, method, event)
            event.pop("level", None)
            event.pop("timestamp", None)
            return self._for_people(f"{stamp}Z {level:<7} ", level, event)
        event["level"] = level
        event["timestamp"] = f"{stamp}.{microsecond:06}Z" if microsecond else f"{stamp}Z"
        if "exc_info" in event:
            event = self._add_traceback(logger, method, event)
        for key, value in event.items():
            event[key] = value[-MAX_TRACEBACK:] if key == "exception" else _shortened(value)
        return self._to_json(logger, method, event)

    def _now(self) -> tuple[str, int]:
        """Return the time: up to the second, and the microseconds."""
        now = time.time_ns() // 1000
        second = now // 1_000_000
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return self._stamp, now - second * 1_000_000

    def prepare(
        self, event: str, keys: Sequence[str], fixed: Mapping[str, str | None]
    ) -> Callable[[tuple[str | float | None, ...]], str | None] | None:
        """Return a function that makes the line of *event* at level info, or None of values that need more care.

        None if there is no such function. *keys*: of its values. *fixed*: the fields that follow.
        """
        if self._level > logging.INFO or self._fit is not None:
            return None
        if self._to_json is not None:
            return self._prepare_json(event, keys, fixed)
        known = [_literal(f" {key}={value}") for key, value in fixed.items() if value is not None]
        fields = [*(f" {_literal(key)}=%s" for key in keys), *known]
        template, equals = f"%sZ info    {_literal(event)}{''.join(fields)}", len(fields)

        def fill(values: tuple[str | float | None, ...]) -> str | None:
            if time.time_ns() // 1_000_000_000 != self._second:
                self._now()
            line = template % (self._stamp, *values)
            # As in `_for_people`, but for the whole line.
            if None in values or len(line) > MAX_VALUE or line.count("=") != equals:
                return None
            # `isprintable` looks up each character, and takes twice as long.
            return line if line.isascii() and not line.encode().translate(None, _PRINTABLE) else escape(line)

        return fill

    def _prepare_json(
        self, event: str, keys: Sequence[str], fixed: Mapping[str, str | None]
    ) -> Callable[[tuple[str | float | None, ...]], str | None]:
        from json.encoder import encode_basestring_ascii as encode

        known = {**fixed, "event": event, "level": "info"}
        fields = [
            *(f"{_literal(to_json(key))}: %s" for key in keys),
            *(f"{_literal(to_json(key))}: {_literal(to_json(value))}" for key, value in known.items()),
        ]
        template = f'{{{", ".join(fields)}, "timestamp": "%s.%06dZ"}}'

        def fill(values: tuple[str | float | None, ...]) -> str | None:
            now = self._now()
            shown = [encode(value) if value.__class__ is str else value for value in values]
            line = template % (*shown, *now)
            # A full second has no fraction, surrogates may be none of JSON, and another type may not be shown as text.
            usual = now[1] and len(line) <= MAX_VALUE and "\\ud" not in line
            return line if usual and _TEXT_OR_INTEGER.issuperset(map(type, values)) else None

        return fill

    def _for_people(self, start: str, level: str, event: MutableMapping[str, Any]) -> str:
        what, trace = _shortened(event.pop("event")), event.pop("exception", "")
        fields = [f" {key}={value}" for key, value in event.items() if value is not None]
        details = "".join(fields)
        # In nearly every line all values are short, and none has an equals sign of its own.
        if len(details) > MAX_VALUE or details.count("=") != len(fields):
            shown = {key: _quoted(_shortened(value)) for key, value in event.items() if value is not None}
            details = "".join([f" {key}={value}" for key, value in shown.items()])
        line = escape(f"{start}{what}{details}")
        if not trace:
            return self._fit(line, level) if self._fit else line
        # A traceback quotes messages of errors, which may have lines of their own: indented, none of them is an event.
        indented = [f"  {escape(each)}" for each in trace[-MAX_TRACEBACK:].split("\n") if each]
        if not self._fit:
            return "\n".join([line, *indented])
        return "\n".join([self._fit(line, level), *(self._fit(each, "") for each in indented)])


_TEXT_OR_INTEGER = frozenset((str, int))
_LEVELS = {"exception": "error", "warn": "warning"}  # of methods that are not called like their level


def _literal(text: str) -> str:
    """Return *text* as it has to be in a template, so that the operator `%` leaves it as it is."""
    return text.replace("%", "%%")


def _shortened(value: object) -> object:
    if isinstance(value, str) and len(value) > MAX_VALUE:
        return f"{value[:MAX_VALUE]}... ({len(value)} characters)"
    return value


def _quoted(value: object) -> object:
    """Return *value*, in quotes if a part of it looks like a field of its own, as the id `1 peer=com.example.a`."""
    if not isinstance(value, str) or "=" not in value or not _FIELD.search(value):
        return value
    inner = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{inner}"'


class _Stream:
    """The logger that structlog wraps, and its factory: writes the lines of one iteration of the event loop at once.

    A write for each line would cost as much as verifying a signature. The stream may be closed: lines that cannot be
    written are lost, and no error is raised. Lines of other threads are written at once.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: deque[str] = deque()  # any thread may add and remove
        self._loop: asyncio.AbstractEventLoop | None = None  # the loop that will call _write

    def __call__(self, *_args: object) -> _Stream:
        return self

    def msg(self, line: str) -> None:
        self._lines.append(line)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._write()
            return
        if self._loop is not loop:
            self._loop = loop
            loop.call_soon(self._write)

    # structlog calls the method of the event's level.
    log = debug = info = warn = warning = err = error = exception = critical = fatal = failure = msg

    def _write(self) -> None:
        self._loop = None
        lines = []
        with contextlib.suppress(IndexError):
            while True:
                lines.append(self._lines.popleft())
        lines.append("")
        with contextlib.suppress(OSError, ValueError, MemoryError):
            self._stream.write("\n".join(lines))
            self._stream.flush()


class _Forward(logging.Handler):
    """Forwards the records of other libraries, and of plugins that use the standard library, to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        import structlog

        log = structlog.get_logger()
        # asyncio logs its errors here, while it handles them: one more would end its loop.
        with contextlib.suppress(MemoryError):
            log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)
