"""Lists of names in short: `com.db.[1-3]`, in ClusterShell's syntax, if it is installed (the extra `operator`)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib.util import find_spec

from remaphore.text import natural_key

MANY = 8  # names; up to here a plain list is as easy to read

# A destination may contain other characters, which are operators and ranges for a NodeSet: such a name is not folded.
_PLAIN = re.compile(r"[A-Za-z0-9._-]+")
_NUMBER = re.compile(r"([0-9]+)")
_LONG_NUMBER = re.compile(r"[0-9]{16}")  # a serial number; no range would be shorter
_DIMENSIONS = 4  # numbers of a name that are folded, counted from its end

_Parts = tuple[str, ...]  # of a name: text, number, text, number ... text


def can_fold() -> bool:
    """Return whether ClusterShell is installed, without importing it."""
    return find_spec("ClusterShell") is not None


def fold(names: Sequence[str]) -> str:
    """Return *names* folded, with commas between what remains. Raise ImportError without ClusterShell.

    For names with several numbers ClusterShell itself searches for the fewest ranges, which takes minutes for 2,000 of
    them. Here the last number is folded first, then the one before it among names that are otherwise equal, each in one
    pass:

        a1.b1 a1.b2 a2.b1 a2.b2 a3.b1  ->  a1.b[1-2] a2.b[1-2] a3.b1  ->  a[1-2].b[1-2],a3.b1
    """
    plain = {name for name in names if _PLAIN.fullmatch(name) and not _LONG_NUMBER.search(name)}
    others = set(names) - plain
    rows: Iterable[_Parts] = [tuple(_NUMBER.split(name)) for name in sorted(plain, key=natural_key)]
    if not any("[" in name or "]" in name for name in others):  # else `--to` could not tell them from ranges
        for place in range(1, _DIMENSIONS + 1):
            rows = _fold_number(rows, -2 * place)
    folded = sorted(("".join(row) for row in rows), key=natural_key)
    return ",".join([*folded, *sorted(others, key=natural_key)])


def _fold_number(rows: Iterable[_Parts], place: int) -> list[_Parts]:
    """Return *rows*, with one row in place of all that differ only in the number at *place*, and ranges there.

    For place -2, the last number: ("com.a", "1", ""), ("com.a", "2", "") -> ("com.a", "[1-2]", "").
    """
    from ClusterShell.RangeSet import RangeSet

    folded: list[_Parts] = []
    numbers: defaultdict[tuple[_Parts, _Parts], list[str]] = defaultdict(list)
    for row in rows:
        if len(row) < -place:
            folded.append(row)
        else:
            numbers[row[:place], row[place + 1 :]].append(row[place])
    for (head, tail), found in numbers.items():
        folded.append((*head, found[0] if len(found) == 1 else f"[{RangeSet.fromlist(found)}]", *tail))
    return folded


def format_names(names: Sequence[str]) -> str:
    """Return all of *names*, folded if there are many and ClusterShell is installed."""
    return fold(names) if len(names) > MANY and can_fold() else ", ".join(names)
