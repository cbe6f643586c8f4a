"""The system clock: whether the kernel considers it synchronized."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

from remaphore.diagnostics.findings import Code, Finding, Level

_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronized
_TIMEX_BYTES = 1024  # larger than struct timex on any platform; all zero, it changes nothing

SYNCHRONIZE = "timedatectl set-ntp true"


def is_synchronized() -> bool | None:
    """Return whether the kernel considers the clock synchronized, by NTP or the like; None if that is unknown."""
    try:
        state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def check_clock(synchronized: bool | None) -> Iterator[Finding]:  # noqa: FBT001 - its only argument
    """Yield whether the clock is synchronized; nothing if that is unknown."""
    if synchronized:
        yield Finding(Level.OK, Code.CLOCK_OK, "clock", "system clock is synchronized")
    elif synchronized is not None:
        what = "system clock is not synchronized; messages outside allow_skew are dropped"
        yield Finding(Level.NOTE, Code.CLOCK_UNSYNCHRONIZED, "clock", what, SYNCHRONIZE)
