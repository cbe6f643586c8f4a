"""The grammar of Go's package `flag`, which argparse cannot express.

A flag has one or two dashes and its value after a space or `=`: -t 5s, -t=5s, --t 5s. A boolean flag has a value only
after `=`. A value may begin with a dash. Flags end at the first argument that is not one, at a single `-`, or after
`--`. A flag that is given twice has its last value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

from remaphore.errors import DurationError, UsageError
from remaphore.protocol import duration

# What Go's strconv.ParseBool accepts.
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


class Kind(Enum):
    """The type of a flag's value: bool, str, or a duration in nanoseconds (int)."""

    BOOL = "bool"
    TEXT = "text"
    DURATION = "duration"


Value = bool | str | int


def parse(arguments: Sequence[str], flags: Mapping[str, Kind]) -> tuple[dict[str, Value], list[str]]:
    """Return the values of the flags that *arguments* begin with, and the arguments after them. Raise UsageError."""
    values: dict[str, Value] = {}
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        argument = rest.pop(0)
        if argument == "--":
            break
        name, equals, text = (argument[2:] if argument.startswith("--") else argument[1:]).partition("=")
        if not name or name.startswith("-"):
            raise UsageError(f"bad flag syntax: {argument}")
        if name not in flags:
            raise UsageError(f"flag provided but not defined: -{name}", hint=_hint(name))
        if not equals and flags[name] is Kind.BOOL:
            values[name] = True
            continue
        if not equals:
            if not rest:
                raise UsageError(f"flag needs an argument: -{name}")
            text = rest.pop(0)
        values[name] = _value(name, text, flags[name])
    return values, rest


def _hint(name: str) -> str:
    """Return the hint for the unknown flag *name*; empty if there is no better one than that of every UsageError."""
    from remaphore.text import closest

    meant = closest(name, ("help", "version")) if len(name) > 1 else ""
    return f"did you mean --{meant}?" if meant else ""


def _value(name: str, text: str, kind: Kind) -> Value:
    if kind is Kind.TEXT:
        return text
    try:
        return _BOOLEANS[text] if kind is Kind.BOOL else duration.parse(text)
    except KeyError:
        raise UsageError(f"invalid boolean value {text!r} for -{name}", hint="write true or false") from None
    except DurationError as error:
        raise UsageError(f"invalid value {text!r} for flag -{name}: {error}", hint=error.hint) from None
