"""What a terminal may be given: text without control sequences, colour if it is wanted, a line that comes and goes."""

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
# The control characters, and those of Unicode that end a line or turn the direction of what follows.
_CONTROLS = {
    code: None
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
    if chr(code) not in "\n\t"
}
_COLOURS = {"ok": "32", "failed": "31", "rejected": "31", "without_code": "33", "missing": "33", "not_asked": "33"}
_ERASE = "\r\x1b[K"  # to the first column, and nothing to the right of it
_USUAL_COLUMNS = 80  # of a terminal that does not say
_ELLIPSIS = "\u2026"


def for_terminal(output: bytes) -> bytes:
    """Return *output* without control sequences and control characters, but for new lines and tabs."""
    return _without_sequences(output.decode(errors="replace")).translate(_CONTROLS).encode()


def _without_sequences(text: str) -> str:
    """Return *text* without escape sequences, in time that is linear in its length.

    A string such as `ESC ] title BEL` is looked for up to the last terminator only. Behind it each further `ESC ]`
    would make the expression search to the end of the text, in vain: 240 KB of them took an hour. In
    `ESC ]a BEL ESC ]b` the first is a string, which goes, and the second is not: `b` stays.
    """
    end = max((text.rfind(last) + len(last) for last in _TERMINATORS if last in text), default=0)
    return _SEQUENCES.sub("", text[:end]) + _WITHOUT_STRINGS.sub("", text[end:])


def one_line(text: bytes) -> str:
    """Return *text*, which a peer wrote, as one line that does nothing to a terminal."""
    return " ".join(for_terminal(text).decode().split())


def obeys(stream: TextIO) -> bool:
    """Tell whether *stream* is a terminal that knows escape sequences."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def takes_colour(stream: TextIO) -> bool:
    """Tell whether to write colours to *stream*: see no-color.org for the variable."""
    return obeys(stream) and not os.environ.get("NO_COLOR")


def paint(text: str, kind: str) -> str:
    """Return *text* in the colour of what became of a destination."""
    return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m"


def clip(text: str, columns: int) -> str:
    """Return as much of *text* as *columns* show, with an ellipsis if that is not all."""
    used = kept = 0  # columns of what was looked at; characters that leave room for the ellipsis
    for number, character in enumerate(text, start=1):
        used += _width(character)
        if used > columns:  # the rest, which may be a peer's megabyte, is not looked at
            return text[:kept] + _ELLIPSIS if columns > 0 else ""
        if used < columns:
            kept = number
    return text


def _width(character: str) -> int:
    if character.isascii():
        return 1
    import unicodedata  # a library to load, and most names do not need it

    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


class Progress:
    """One line at the bottom of a terminal, which is taken away before anything else is written there."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._text = ""
        self._held = ""  # what comes back once a line that others write is whole

    def show(self, text: str) -> None:
        """Let the line be *text*, or what of it fits: the width is asked each time, since windows change theirs."""
        self._text = text
        # One column less: a terminal that has written its last column may already be in the next line.
        self._write(_ERASE + clip(text, self._columns() - 1))

    def erase(self) -> None:
        """Take the line away."""
        if self._text:
            self._text = ""
            self._write(_ERASE)

    def above(self, text: str) -> int:
        """Write *text* where the line stands; it comes back beneath the end of that line."""
        self._held = self._text or self._held
        self.erase()
        self._write(text)
        if self._held and text.endswith("\n"):
            self.show(self._held)
            self._held = ""
        return len(text)

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or _USUAL_COLUMNS
        except OSError:
            return _USUAL_COLUMNS

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a terminal that was closed need not be told how far we are
            self._stream.write(text)
            self._stream.flush()


class Above:
    """Stands in for stderr while there is a progress line: notices and warnings are written above it."""

    def __init__(self, stream: TextIO, progress: Progress) -> None:
        self._stream = stream
        self._progress = progress

    def write(self, text: str) -> int:
        """Write *text* above the progress line."""
        return self._progress.above(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
