"""Output: results on stdout, notices on stderr. The only place that decides on width and colour.

Text is wrapped and coloured on a terminal only. In a pipe or a file one row is one line, for scripts to rely on. What
the encoding of a stream does not have is escaped, see `command` in `remaphore.cli.main`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from remaphore.logs import Format

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


def notice(line: str, *, whole: bool = False) -> None:
    """Write one line to stderr. It may quote a server or a file, so it is escaped, and on a terminal wrapped.

    whole: it is a command to copy, and is never wrapped.
    """
    shown = printable(f"remaphore: {line}")
    sys.stderr.write((shown if whole else _fit(shown, sys.stderr, indent=4)) + "\n")
    sys.stderr.flush()


def announce_stdin(what: str) -> None:
    """If stdin is a terminal, write that *what* is read from it, and how to end that."""
    if sys.stdin is not None and sys.stdin.isatty():
        notice(f"reading {what} from the terminal; end it with Ctrl-D at the start of a line")


def at_terminal() -> bool:
    """Return whether a person is at stdin and stderr, who can be told what a command waits for."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def printable(text: str) -> str:
    """Return *text* as one line that no terminal interprets."""
    from remaphore.text import escape

    return escape(text)


def write(text: str) -> None:
    """Write *text* to stdout and flush it, so that an error of the stream is raised here."""
    sys.stdout.write(text)
    sys.stdout.flush()


def write_exact(text: str) -> None:
    """Write *text* that is read by programs, such as a peer line: to files and pipes in UTF-8, whatever the locale."""
    if sys.stdout.isatty():
        write(text)
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode(errors="surrogateescape"))
        sys.stdout.buffer.flush()


def write_json(*rows: object) -> None:
    """Write each of *rows* to stdout as one line of JSON in ASCII."""
    from remaphore.text import to_json

    write("".join(to_json(row) + "\n" for row in rows))


def write_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write rows below *header* to stdout, in aligned columns.

    On a terminal that is too narrow, the last column is wrapped within itself; if it would have less than
    `_SMALLEST_COLUMN` columns, the row is wrapped as a whole.
    """
    from remaphore.text import columns_of, width

    table = [tuple(header), *(tuple(map(printable, row)) for row in rows)]
    widths = [max(map(width, column)) for column in zip(*table, strict=True)]
    last = sum(widths[:-1]) + 2 * (len(widths) - 1)
    terminal = columns_of(sys.stdout)
    indent = last if terminal and terminal - last >= _SMALLEST_COLUMN else 4
    for row in table:
        cells = (cell + " " * (room - width(cell)) for cell, room in zip(row, widths, strict=True))
        sys.stdout.write(wrap("  ".join(cells).rstrip(), indent=indent))
    sys.stdout.flush()


def wrap(line: str, *, indent: int = 0, label: str = "") -> str:
    """Return the printable *line* for stdout, with its end.

    On a terminal it is wrapped between words, which stay whole; the second line and later ones are indented by
    *indent*, and the level *label*, with which it begins, has its colour.
    """
    return _fit(line, sys.stdout, indent=indent, label=label, whole_words=True) + "\n"


def _fit(line: str, stream: TextIO, *, indent: int, label: str = "", whole_words: bool = False) -> str:
    """Return the escaped *line* as *stream* shows it: on a terminal wrapped, and the level *label* coloured."""
    from remaphore.text import columns_of, encodable, wrap

    columns = columns_of(stream)
    if columns is None:
        return line
    line = encodable(line, stream.encoding)
    lines = wrap(line, columns, indent=min(indent, max(1, columns - _SMALLEST_COLUMN)), whole_words=whole_words)
    return colorize("\n".join(lines), label, stream)


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
        log_format,
        level=getattr(logging, level),
        fit=(lambda line, label: _fit(line, stream, indent=4, label=label)) if stream.isatty() else None,
    )
