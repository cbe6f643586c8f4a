"""Text that others wrote, made safe for terminals and programs: escapes, width in columns, wrapping, strict JSON.

Also the order in which people expect names with numbers (`natural_key`).

On a terminal a reader must see all of a text, and where a line begins. So what a terminal interprets or does not show
is escaped (`escape`), and lines that are wider than the window are wrapped with an indent (`wrap`): at the edge a
terminal continues a line in its first column, where it looks like another line.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TextIO

__all__ = [
    "DEFAULT_COLUMNS",
    "CharacterTable",
    "closest",
    "columns_of",
    "cut",
    "describe_character",
    "encodable",
    "escape",
    "fitting",
    "is_visible",
    "natural_key",
    "quoted",
    "shorten",
    "show",
    "to_json",
    "width",
    "wrap",
]

DEFAULT_COLUMNS = 80
"""The columns of a terminal that does not report its width."""

# Printable for Python, but shown as nothing (Default_Ignorable_Code_Point of Unicode): grapheme joiner, Hangul fillers,
# Khmer inherent vowels, variation selectors. Or shown as a blank: the empty Braille pattern, a musical symbol.
_INVISIBLE = frozenset(
    map(
        chr,
        (
            *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, 0x1D159),
            *range(0x180B, 0x1810),
            *range(0xFE00, 0xFE10),
            *range(0xE0100, 0xE01F0),
        ),
    )
)
# Not printable for Python, but visible as a blank: the spaces of Unicode (category Zs).
_SPACES = frozenset("\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000")
_MAX_CACHED = 4096  # characters that a table remembers; the texts of a peer may contain all there are
_GAPS = re.compile(r"(\s+)")  # the spaces of Unicode too
_NUMBERS = re.compile(r"([0-9]+)")
_ZERO_WIDTH = ("Mn", "Me", "Cf")  # categories of Unicode: marks on the character before them, and formats
_SURROGATES = range(0xD800, 0xE000)
_MAX_QUOTED = 200  # characters of the text of a caller, peer or server in a line for people: a reply can have a million
_TYPED = 64  # characters of a word that are compared with what could be meant
_JAMO = range(0x1160, 0x1200)  # Hangul vowels and final consonants, drawn within the syllable before them

# Wide for newer versions of Unicode than Python's, or for some terminals: trigrams, monograms, hexagrams, counting
# rods, regional indicators.
_ALSO_WIDE = (
    *(range(0x2630, 0x2638), range(0x268A, 0x2690), range(0x4DC0, 0x4E00)),
    *(range(0x1D300, 0x1D357), range(0x1D360, 0x1D377), range(0x1F1E6, 0x1F200)),
)


def escape(text: str) -> str:
    r"""Return *text* as one line, with every character escaped that a terminal interprets or does not show.

    These are control and format characters (among them line ends, tabs, changes of direction and zero-width spaces),
    unassigned and private characters, and bytes of no encoding. The escapes are `\x1b`, `\u200b` or `\U000e0001`.
    """
    # Most text is plain, and this check is five times as fast.
    return text if text.isascii() and text.isprintable() else text.translate(_ESCAPES)


def is_visible(text: str) -> bool:
    """Return whether a terminal shows every character of *text*, as itself or as a blank, and does nothing else."""
    if text.isprintable():
        return _INVISIBLE.isdisjoint(text)
    return all((each.isprintable() and each not in _INVISIBLE) or each in _SPACES for each in text)


class CharacterTable(dict[int, str]):
    """A table for `str.translate`, which is fast for a mebibyte too, of what *make* returns for a code point.

    exceptions: what it does not return.
    """

    def __init__(self, make: Callable[[int], str], exceptions: Mapping[int, str] = MappingProxyType({})) -> None:
        super().__init__(exceptions)
        self._make = make

    def __missing__(self, code: int) -> str:
        made = self._make(code)
        if len(self) < _MAX_CACHED:
            self[code] = made
        return made


def show(code: int) -> str:
    """Return the character *code* if it is visible, else its escape."""
    character = chr(code)
    if is_visible(character):
        return character
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_ESCAPES = CharacterTable(show)


def describe_character(character: str) -> str:
    """Return code point and name, such as `U+200B zero width space`; of a byte that is not UTF-8, `byte A0`."""
    import unicodedata  # a shared library, which most text does not need

    if "\udc80" <= character <= "\udcff":  # as surrogateescape decodes such a byte
        return f"byte {ord(character) - 0xDC00:02X}"
    known = unicodedata.name(character, "control character" if unicodedata.category(character) == "Cc" else "")
    return f"U+{ord(character):04X} {known.lower()}".rstrip()


def width(text: str) -> int:
    """Return the columns that a terminal needs for *text*, which is escaped."""
    return len(text) if text.isascii() else sum(map(_width, text))


@lru_cache(_MAX_CACHED)
def _width(character: str) -> int:
    if character.isascii():
        return 1
    import unicodedata  # a shared library, which most text does not need

    if unicodedata.category(character) in _ZERO_WIDTH or ord(character) in _JAMO:
        return 0
    wide = unicodedata.east_asian_width(character) in "WF" or any(ord(character) in each for each in _ALSO_WIDE)
    return 2 if wide else 1


def fitting(text: str, columns: int, *, start: int = 0) -> int:
    """Return the end of what fits of *text*, from *start*, into *columns*. Looks at no more than that."""
    if text.isascii():
        return max(start, min(len(text), start + columns))
    used = 0
    for place in range(start, len(text)):
        used += _width(text[place])
        if used > columns:
            return place
    return len(text)


def cut(text: str, columns: int) -> list[str]:
    """Return *text* in pieces of at most *columns*, at least one; a character that is wider is a piece of its own."""
    pieces, start = [], 0
    while start < len(text):
        end = max(start + 1, fitting(text, columns, start=start))
        pieces.append(text[start:end])
        start = end
    return pieces or [""]


def wrap(line: str, columns: int, *, indent: int = 0, whole_words: bool = False) -> list[str]:
    """Return the escaped *line* wrapped between words to *columns*, the second piece and later ones behind *indent*.

    whole_words: do not break a word that is wider than a line, so that a path or a key can be copied. The terminal
    continues it in its first column; but it contains no blank there, and so cannot pass for a line that has blanks.
    """
    if width(line) <= columns:
        return [line]
    lines, used = [""], 0  # used: columns of the last line, 0 as long as it has no word
    parts = _GAPS.split(line)
    for gap, word in zip(["", *parts[1::2]], parts[::2], strict=True):
        for place, piece in enumerate([word] if whole_words else cut(word, columns - indent)):
            needed = width(gap) + width(piece)
            if piece and used and (place or used + needed > columns):
                lines.append(" " * indent + piece)
                used = indent + width(piece)
            elif piece:
                lines[-1] += gap + piece
                used += needed
    return lines


def encodable(text: str, encoding: str | None) -> str:
    """Return *text* with escapes for what *encoding* does not have: they count when it is measured."""
    encoding = encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def columns_of(stream: TextIO) -> int | None:
    """Return the columns of the terminal *stream*; None if it is none.

    $COLUMNS can only make it narrower: a terminal breaks lines at its own width, which is read each time, as windows
    are resized. If both are unknown or 0, there are 80.
    """
    if not stream.isatty():
        return None
    known = []
    with contextlib.suppress(OSError, ValueError):  # no descriptor, or a terminal that has no size
        known.append(os.get_terminal_size(stream.fileno()).columns)
    with contextlib.suppress(ValueError):
        known.append(int(os.environ.get("COLUMNS", "")))
    return min((columns for columns in known if columns > 0), default=DEFAULT_COLUMNS)


def to_json(value: object, *, default: Callable[[object], object] = str, indent: int | None = None) -> str:
    r"""Return *value* as JSON in printable ASCII, which every parser and every encoding of a stream accepts.

    A file name may have bytes of no encoding, which Python holds as lone surrogates. JSON can express these, but strict
    parsers reject them: they become the text `\udcff`.
    """
    import json

    text = json.dumps(value, default=default, indent=indent)
    if "\\ud" not in text:
        return text
    # A surrogate, or a pair of them for a character beyond U+FFFF. Which of both, json.dumps does not tell.
    return json.dumps(value, ensure_ascii=False, default=default, indent=indent).translate(_IN_JSON)


def _escape_json(code: int) -> str:
    if " " <= chr(code) <= "~":
        return chr(code)
    if code in _SURROGATES:
        return f"\\\\u{code:04x}"
    # Characters beyond U+FFFF are two surrogates (RFC 8259, section 7).
    units = chr(code).encode("utf-16-be").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))


_IN_JSON = CharacterTable(_escape_json, {ord("\n"): "\n"})  # only between items: within strings json escapes it


def closest(word: str, known: Iterable[str]) -> str:
    """Return the entry of *known* that *word* most likely means, in whatever case it is typed; an empty string if none.

    difflib is slow to import and quadratic in the length of the word: for errors, and the first characters, only.
    """
    from difflib import get_close_matches

    names = {name.casefold(): name for name in known}
    likely = get_close_matches(word[:_TYPED].casefold(), names, n=1)
    return names[likely[0]] if likely else ""


def quoted(text: str) -> str:
    """Return the repr of *text*, which a caller or a file chose; of a long one, its beginning and its length."""
    return repr(text) if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]!r}... ({len(text)} characters)"


def shorten(text: str) -> str:
    """Return *text*, cut to what a line for people has room for."""
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}... ({len(text)} characters)"


def natural_key(name: str) -> tuple[tuple[object, ...], str]:
    """Return the key that sorts names with numbers as people do: `web1`, `web2`, `web10`.

    A number of any length is compared without its leading zeros, first by its length and then by its digits:

        web10 -> ("web", (2, "10"), "")    web9 -> ("web", (1, "9"), "")
    """
    parts: list[object] = list(_NUMBERS.split(name))  # text, number, text ... number, text
    for place in range(1, len(parts), 2):
        digits = str(parts[place]).lstrip("0")
        parts[place] = (len(digits), digits)
    return tuple(parts), name
