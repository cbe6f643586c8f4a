"""Go's flag syntax, which no Python parser reads: the grammar of Go's package `flag`.

One or two dashes; `-t 5s` or `-t=5s`; a boolean flag takes a value only after `=`; a value may begin with a dash;
options end at the first word that is none, or after `--`; a single `-` is such a word; the last of two counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

from remaphore.errors import DurationError, UsageError
from remaphore.protocol import duration

# What Go's strconv.ParseBool takes.
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


class Kind(Enum):
    """What a flag's value is: a bool, a str, or a duration in nanoseconds (int)."""

    BOOL = "bool"
    TEXT = "text"
    DURATION = "duration"


Value = bool | str | int


def parse(words: Sequence[str], flags: Mapping[str, Kind]) -> tuple[dict[str, Value], list[str]]:
    """Return the values of the flags that *words* begin with, and the words after them. Raises UsageError."""
    values: dict[str, Value] = {}
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        name, equals, text = _name(word).partition("=")
        if name not in flags:
            raise UsageError(f"flag provided but not defined: -{name} (see remaphore --help)")
        if not equals and flags[name] is Kind.BOOL:
            values[name] = True
            continue
        if not equals:
            if not rest:
                raise UsageError(f"flag needs an argument: -{name}")
            text = rest.pop(0)
        values[name] = _value(name, text, flags[name])
    return values, rest


def _name(word: str) -> str:
    name = word[2:] if word.startswith("--") else word[1:]
    if not name or name[0] in "-=":
        raise UsageError(f"bad flag syntax: {word}")
    return name


def _value(name: str, text: str, kind: Kind) -> Value:
    if kind is Kind.TEXT:
        return text
    try:
        return _BOOLEANS[text] if kind is Kind.BOOL else duration.parse(text)
    except KeyError:
        raise UsageError(f"invalid boolean value {text!r} for -{name}: write true or false") from None
    except DurationError as error:
        raise UsageError(f"invalid value {text!r} for flag -{name}: {error}", hint=error.hint) from None
