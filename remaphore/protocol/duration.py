"""Durations in Go's notation, as the original's `-t` and `allow_skew` take them: `1h2m3s4ms`, `1.5h`, `-5s`, `0`.

The grammar is that of Go's `time.ParseDuration`, which no Python library reads alike (see the `durations` in
tests/vectors/original.json).
"""

from __future__ import annotations

import re

NANOSECOND = 1
MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

# Both signs for micro are in Go's table: U+00B5 (micro sign) and U+03BC (Greek mu).
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
    """Return the nanoseconds that *text* means.

    Raises ValueError, with the reason, for what Go rejects: no unit, an unknown unit, an empty text, more than 64 bit.
    """
    negative = text.startswith("-")
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(f"invalid duration {text!r}")
    total = position = 0
    while position < len(rest):
        term = _TERM.match(rest, position)
        assert term is not None  # every part of the expression may be empty
        total += _nanoseconds(text, *term.groups())
        position = term.end()
    if total > _INT64_MAX + negative:
        raise ValueError(f"duration {text!r} is too long")
    return -total if negative else total


def _nanoseconds(text: str, whole: str, fraction: str | None, unit: str) -> int:
    if not whole and not fraction:
        raise ValueError(f"invalid duration {text!r}")
    if not unit:
        raise ValueError(f"missing unit in duration {text!r} (write for example {text}s)")
    if unit not in _UNITS:
        raise ValueError(f"unknown unit {unit!r} in duration {text!r} (known: ns, us, ms, s, m, h)")
    digits = fraction or ""
    nanoseconds: int = int(whole or 0) * _UNITS[unit] + int(digits or 0) * _UNITS[unit] // 10 ** len(digits)
    return nanoseconds
