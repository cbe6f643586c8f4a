"""Characters that cannot be seen, or look like others: what editors, wikis and chat programs put into a text.

An error about a text names the first of them by its code point, name and place, as no person can find it by looking.
Nothing else of the text is quoted, as it may be a secret.
"""

from __future__ import annotations

from remaphore.text import describe_character, is_visible

# Categories of Unicode: quotes and dashes of typography.
_TYPOGRAPHIC = ("Pi", "Pf", "Pd")
_LOOK_ALIKES = "\u201a\u201e\u2032\u2033\u00b4\u02b9\u02ba\u2044\u2215\u2212\u3002"
_USUAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def find(text: str) -> int | None:
    """Return the index of the first character of *text* that is invisible or resembles another, None if there is none.

    A space is only such a character at the ends of *text*; letters of any alphabet are none.
    """
    if text.isascii() and text.isprintable() and text == text.strip(" "):
        return None
    inner = len(text.rstrip(" "))
    for index, character in enumerate(text):
        if character == " " and not 0 < index < inner:
            return index if text.strip(" ") else 0
        if _is_deceptive(character):
            return index
    return None


def find_unusual(destination: str) -> str:
    """Return the name of the first character of *destination* that a shell or a person could misread; else empty."""
    return next((describe_character(character) for character in destination if character not in _USUAL), "")


def locate(text: str, index: int, *, line: int = 1) -> str:
    """Return what is at *index* of *text*, and where: `U+00A0 no-break space at line 3, column 8`.

    line: the number of the first line of *text*. Lines and columns begin with 1; a column is one character.
    """
    line += text.count("\n", 0, index)
    return f"{describe_character(text[index])} at line {line}, column {index - text.rfind(chr(10), 0, index)}"


def describe(text: str, *, line: int = 1) -> str:
    """Return the first deceptive character in *text*, and its place, as `locate` does; empty if there is none.

    line: the number of the first line of *text* in its file.
    """
    if text.isascii() and text.replace("\n", "").isprintable():
        return ""
    for index, character in enumerate(text):
        # A lone surrogate stands for a byte that is not UTF-8, which is reported as such.
        if character not in "\r\n\t" and not "\ud800" <= character <= "\udfff" and _is_deceptive(character):
            return locate(text, index, line=line)
    return ""


def _is_deceptive(character: str) -> bool:
    if character.isascii():
        return not character.isprintable()
    import unicodedata  # only for an odd character: every command imports this module when it starts

    if not character.isprintable() or not is_visible(character):  # not printable: also the spaces, which are visible
        return True
    full_width = unicodedata.normalize("NFKC", character).isascii()
    return unicodedata.category(character) in _TYPOGRAPHIC or character in _LOOK_ALIKES or full_width
