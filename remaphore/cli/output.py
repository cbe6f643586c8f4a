"""Output: results on stdout, notices on stderr. The only place that decides on width and colour.

Text is wrapped and coloured on a terminal only. In a pipe or a file one row is one line, for scripts to rely on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from remaphore.logs import Format

DEFAULT_WIDTH = 80
_SMALLEST_COLUMN = 24  # columns that a wrapped cell needs to be readable

_RED, _GREEN, _YELLOW = 31, 32, 33
_COLOURS = {
    "error": _RED,
    "critical": _RED,
    "unsafe": _RED,
    "warning": _YELLOW,
    "skip": _YELLOW,
    "ok": _GREEN,
    "run": _GREEN,
}


def notice(line: str) -> None:
    """Write one line to stderr. It may quote a server or a file, so control characters are escaped."""
    from remaphore.logs import escape

    sys.stderr.write(f"remaphore: {escape(line)}\n")
    sys.stderr.flush()


def printable(text: str) -> str:
    """Return *text* as one line that no terminal interprets, and that can be encoded: bytes of no encoding too."""
    from remaphore.logs import escape

    return escape(text).encode(errors="backslashreplace").decode()


def write(text: str) -> None:
    """Write *text* to stdout and flush it, so that an error of the stream is raised here."""
    sys.stdout.write(text)
    sys.stdout.flush()


def write_json(*rows: object) -> None:
    """Write each of *rows* to stdout as one line of JSON."""
    import json

    write("".join(json.dumps(row, default=str) + "\n" for row in rows))


def write_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write rows below *header* to stdout, in aligned columns.

    On a terminal that is too narrow, the last column is wrapped within itself; if it would have less than
    `_SMALLEST_COLUMN` columns, the row is wrapped as a whole.
    """
    table = [tuple(header), *(tuple(map(printable, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    last = sum(widths[:-1]) + 2 * (len(widths) - 1)
    terminal = _width(sys.stdout)
    indent = last if terminal and terminal - last >= _SMALLEST_COLUMN else 4
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table)
    write("".join(wrap(line, indent=indent) for line in lines))


def wrap(line: str, *, indent: int = 0, label: str = "") -> str:
    """Return the printable *line* for stdout, with its end.

    On a terminal it is wrapped at words, the second line and later ones are indented by *indent*, and the level
    *label*, with which it begins, has its colour.
    """
    width = _width(sys.stdout)
    if width is not None and len(line) > width:
        import textwrap

        line = textwrap.fill(
            line,
            max(width, indent + _SMALLEST_COLUMN),
            subsequent_indent=" " * indent,
            break_long_words=False,  # a path or a key stays in one piece, to be copied
            break_on_hyphens=False,
        )
    return (colorize(line, label, sys.stdout) if label else line) + "\n"


def colorize(line: str, label: str, stream: TextIO) -> str:
    """Return *line* with the first occurrence of the level *label* in its colour, if *stream* shows colours.

    See no-color.org for the variable NO_COLOR.
    """
    colour = _COLOURS.get(label)
    shows = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("NO_COLOR")
    return line.replace(label, f"\x1b[{colour}m{label}\x1b[0m", 1) if colour and shows else line


def configure_logs(log_format: Format = "console", *, level: str = "INFO") -> None:
    """Send log lines of *level* and above to stderr; on a terminal, their levels are coloured."""
    import logging

    from remaphore import logs

    stream = sys.stderr
    logs.configure(
        log_format, level=getattr(logging, level), colorize=lambda line, label: colorize(line, label, stream)
    )


def _width(stream: TextIO) -> int | None:
    """Return the columns of the terminal *stream*, 80 if they are unknown; None if it is not a terminal."""
    if not stream.isatty():
        return None
    import shutil

    return shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns
