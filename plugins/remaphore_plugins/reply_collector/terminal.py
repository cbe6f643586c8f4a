"""What may be written to a terminal: text without control sequences, color if supported, and a status line."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from typing import Any, TextIO

from remaphore.text import DEFAULT_COLUMNS, CharacterTable, columns_of, encodable, fitting, show

# ECMA-48: CSI sequences; OSC, DCS, SOS, PM and APC strings up to BEL or ST; every other escape of two characters.
_CSI, _STRING, _OTHER = r"\x1b\[[0-?]*[ -/]*[@-~]", r"\x1b[\]PX^_].*?(?:\x07|\x1b\\)", r"\x1b.?"
_SEQUENCES = re.compile(f"{_CSI}|{_STRING}|{_OTHER}", re.DOTALL)
_TERMINATORS = ("\x07", "\x1b\\")  # BEL and ST
_WITHOUT_STRINGS = re.compile(f"{_CSI}|{_OTHER}", re.DOTALL)
# Control characters are removed, except those that end a line somewhere. Variation selectors too: they choose the style
# of an emoji, which is still there without them.
_LINE_ENDS = (0x0B, 0x0C, 0x1C, 0x1D, 0x1E, 0x85)
_REMOVED = {*range(0x20), *range(0x7F, 0xA0), 0xFE0E, 0xFE0F} - {*_LINE_ENDS}
_SHOWN = CharacterTable(show, {**dict.fromkeys(_REMOVED, ""), 0x09: "\t", 0x0A: "\n"})
_COLORS = {"ok": "32", "failed": "31", "rejected": "31"}
_OTHER_COLOR = "33"  # of destinations without a reply or an exit code
_ERASE = "\r\x1b[K"  # to the first column, and nothing to the right of it
_ELLIPSIS = "\u2026"


def for_terminal(output: bytes, stream: TextIO | None = None) -> bytes:
    """Return *output* as a terminal may show it: every line whole, and nothing that is interpreted or not visible.

    Control sequences and control characters are removed, but for new lines and tabs. Other characters that end a line
    or that are not visible are escaped, as are those that the encoding of *stream* (default: UTF-8) does not have.
    """
    text = _without_sequences(output.decode(errors="replace")).translate(_SHOWN)
    return text.encode(stream.encoding if stream else "utf-8", "backslashreplace")


def _without_sequences(text: str) -> str:
    """Return *text* without escape sequences, in time that is linear in its length.

    Strings such as `ESC ] title BEL` are searched up to the last terminator only. After it every further `ESC ]` would
    make the expression scan to the end of the text without a match: 240 KB of them took an hour. In `ESC ]a BEL ESC ]b`
    the first is a string and is removed; the second has no terminator, so only `ESC ]` is removed and `b` stays.
    """
    end = max((text.rfind(last) + len(last) for last in _TERMINATORS if last in text), default=0)
    return _SEQUENCES.sub("", text[:end]) + _WITHOUT_STRINGS.sub("", text[end:])


def to_one_line(text: bytes) -> str:
    """Return a peer's *text* as one line without control sequences."""
    return " ".join(for_terminal(text).decode().split())


def supports_ansi(stream: TextIO) -> bool:
    """Return whether *stream* is a terminal that interprets escape sequences."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def feeds_program(stdout: TextIO) -> bool:
    """Return whether the reader of *stdout* is a program, as in `| less`, which may write to the same terminal."""
    try:
        mode = os.fstat(stdout.fileno()).st_mode
    except (OSError, ValueError):  # closed, or not a file of the system
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def in_foreground(stream: TextIO) -> bool:
    """Return whether this process may draw on the terminal *stream*: a job in the background would draw over others.

    A terminal that does not control this process has no foreground for it, and may be drawn on.
    """
    try:
        return os.tcgetpgrp(stream.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return True


def supports_color(stream: TextIO) -> bool:
    """Return whether to write colors to *stream*; https://no-color.org defines the variable."""
    return supports_ansi(stream) and not os.environ.get("NO_COLOR")


def colorize(text: str, kind: str) -> str:
    """Return *text* in the color for destinations of this *kind*."""
    return f"\x1b[{_COLORS.get(kind, _OTHER_COLOR)}m{text}\x1b[0m"


def clip(text: str, columns: int) -> str:
    """Return as much of *text* as fits into *columns*, with an ellipsis if that is not all."""
    if fitting(text, columns) == len(text):
        return text
    return text[: fitting(text, columns - 1)] + _ELLIPSIS if columns > 0 else ""


class StatusLine:
    """One line at the bottom of a terminal, erased before anything else is written there."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._text = ""
        self._held = ""  # shown again once a line of others is complete

    @property
    def columns(self) -> int:
        """The columns to use: one less, as after its last column a terminal may already be on the next line."""
        return (columns_of(self._stream) or DEFAULT_COLUMNS) - 1

    def show(self, text: str) -> None:
        """Show *text*, or what fits of it: the width is read each time, as windows are resized.

        Show nothing in the background, which is read each time too: Ctrl-Z and `bg` change it.
        """
        if not in_foreground(self._stream):
            return
        self._text = text
        encoding = self._stream.encoding
        shown = clip(encodable(text, encoding), self.columns)
        if encodable(_ELLIPSIS, encoding) != _ELLIPSIS:  # its escape has more than one column
            shown = shown.replace(_ELLIPSIS, "~")
        self._write(_ERASE + shown)

    def erase(self) -> None:
        """Erase the line."""
        if self._text:
            self._text = ""
            self._write(_ERASE)

    def write_above(self, text: str) -> int:
        """Write *text* in place of the line, which is shown again below it once *text* ends its line."""
        self._held = self._text or self._held
        self.erase()
        self._write(text)
        if self._held and text.endswith("\n"):
            self.show(self._held)
            self._held = ""
        return len(text)

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a closed terminal needs no progress
            self._stream.write(text)
            self._stream.flush()


class StatusLineStream:
    """Replaces stderr while there is a status line: notices and warnings are written above that."""

    def __init__(self, stream: TextIO, progress: StatusLine) -> None:
        self._stream = stream
        self._progress = progress

    def write(self, text: str) -> int:
        """Write *text* above the status line."""
        return self._progress.write_above(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
