"""Whether this machine's clock is kept right, as far as its kernel knows."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

from remaphore.diagnostics.findings import Code, Finding, Level

_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_TIMEX_BYTES = 1024  # more than struct timex has anywhere; all zero, it changes nothing

MEND = "timedatectl set-ntp true"


def is_synchronised() -> bool | None:
    """Tell whether a time service keeps the clock, as the kernel was told by it; None if that cannot be known."""
    try:
        state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def check_clock(synchronised: bool | None) -> Iterator[Finding]:  # noqa: FBT001 - the one thing that it judges
    """Say whether the clock is kept right."""
    if synchronised:
        yield Finding(Level.OK, Code.CLOCK_OK, "clock", "a time service keeps it")
    elif synchronised is not None:
        what = "no time service keeps it, as far as the kernel knows; beyond allow_skew nothing is taken"
        yield Finding(Level.NOTE, Code.CLOCK_UNKEPT, "clock", what, MEND)
