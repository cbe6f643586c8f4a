"""What may be written to a terminal: text without control sequences, color if supported, and a status line."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any, TextIO

# ECMA-48: CSI sequences; OSC, DCS, SOS, PM and APC strings up to BEL or ST; every other escape of two characters.
_CSI, _STRING, _OTHER = r"\x1b\[[0-?]*[ -/]*[@-~]", r"\x1b[\]PX^_].*?(?:\x07|\x1b\\)", r"\x1b.?"
_SEQUENCES = re.compile(f"{_CSI}|{_STRING}|{_OTHER}", re.DOTALL)
_TERMINATORS = ("\x07", "\x1b\\")  # BEL and ST
_WITHOUT_STRINGS = re.compile(f"{_CSI}|{_OTHER}", re.DOTALL)
# The control characters, and those of Unicode that end a line or change the direction of the text after them.
_CONTROLS = {
    code: None
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
    if chr(code) not in "\n\t"
}
_COLORS = {"ok": "32", "failed": "31", "rejected": "31", "without_code": "33", "missing": "33", "not_asked": "33"}
_ERASE = "\r\x1b[K"  # to the first column, and nothing to the right of it
_USUAL_COLUMNS = 80  # of a terminal that does not report its width
_ELLIPSIS = "\u2026"


def for_terminal(output: bytes) -> bytes:
    """Return *output* without control sequences and control characters, but for new lines and tabs."""
    return _without_sequences(output.decode(errors="replace")).translate(_CONTROLS).encode()


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


def supports_color(stream: TextIO) -> bool:
    """Return whether to write colors to *stream*; https://no-color.org defines the variable."""
    return supports_ansi(stream) and not os.environ.get("NO_COLOR")


def columns_of(stream: TextIO) -> int:
    """Return the width of the terminal *stream*, or the usual 80 if it does not report one."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or _USUAL_COLUMNS
    except OSError:
        return _USUAL_COLUMNS


def colorize(text: str, kind: str) -> str:
    """Return *text* in the color for destinations of this *kind*."""
    return f"\x1b[{_COLORS[kind]}m{text}\x1b[0m"


def clip(text: str, columns: int) -> str:
    """Return as much of *text* as fits into *columns*, with an ellipsis if that is not all."""
    used = kept = 0  # columns of the characters so far; characters that leave room for the ellipsis
    for number, character in enumerate(text, start=1):
        used += _width(character)
        if used > columns:  # stop here: the rest may be a megabyte from a peer
            return text[:kept] + _ELLIPSIS if columns > 0 else ""
        if used < columns:
            kept = number
    return text


def _width(character: str) -> int:
    if character.isascii():
        return 1
    import unicodedata  # a shared library, which most names do not need

    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


class StatusLine:
    """One line at the bottom of a terminal, erased before anything else is written there."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._text = ""
        self._held = ""  # shown again once a line of others is complete

    def show(self, text: str) -> None:
        """Show *text*, or what fits of it: the width is read each time, as windows are resized."""
        self._text = text
        # One column less: after its last column a terminal may already be on the next line.
        self._write(_ERASE + clip(text, columns_of(self._stream) - 1))

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
