"""Durations in Go's notation, as `-t` and `allow_skew` of the Go implementation have them: `1h2m3s4ms`, `1.5h`, `0`.

The grammar is that of Go's `time.ParseDuration`, which no Python library reads alike (see the `durations` in
tests/vectors/original.json).
"""

from __future__ import annotations

import re

from remaphore.errors import DurationError

NANOSECOND = 1
MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

# Go accepts both signs for micro: U+00B5 (micro sign) and U+03BC (Greek mu).
_UNITS = {
    "ns": NANOSECOND,
    "us": MICROSECOND,
    "\u00b5s": MICROSECOND,
    "\u03bcs": MICROSECOND,
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
}
_TERM = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)")
_INT64_MAX = 2**63 - 1


def parse(text: str) -> int:
    """Return the nanoseconds of *text*.

    Raise DurationError for what Go rejects: no unit, an unknown unit, an empty text, more than 64 bits.
    """
    negative = text.startswith("-")
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    if not rest:
        raise DurationError(f"invalid duration {text!r}")
    total = position = 0
    while position < len(rest):
        term = _TERM.match(rest, position)
        assert term is not None  # every part of the expression may be empty
        whole, fraction, unit = term.groups()
        if not whole and not fraction:
            raise DurationError(f"invalid duration {text!r}")
        if not unit:
            raise DurationError(f"missing unit in duration {text!r}", hint=f"add a unit, for example {text}s")
        if unit not in _UNITS:
            raise DurationError(f"unknown unit {unit!r} in duration {text!r}")
        # In integers, as Go does it: 1.5h is 1 * HOUR + 5 * HOUR // 10.
        digits = fraction or ""
        total += int(whole or 0) * _UNITS[unit] + int(digits or 0) * _UNITS[unit] // 10 ** len(digits)
        position = term.end()
    if total > _INT64_MAX + negative:
        raise DurationError(
            f"duration {text!r} is too long", hint="use at most 64 bits of nanoseconds, about 292 years"
        )
    return -total if negative else total
