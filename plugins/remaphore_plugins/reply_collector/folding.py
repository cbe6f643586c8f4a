"""Names in short: `com.db.[1-3]`, as ClusterShell reads them, for those who have it (the extra `operator`)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib.util import find_spec

MISSING_EXTRA = "--fold needs ClusterShell to fold names"
MANY = 8  # names; fewer are read as fast one by one

# Other characters are operators and ranges for a NodeSet, and a destination may hold them: such a name stands alone.
_PLAIN = re.compile(r"[A-Za-z0-9._-]+")
_NUMBER = re.compile(r"([0-9]+)")
_LONG_NUMBER = re.compile(r"[0-9]{16}")  # a serial number, which no range makes shorter
_DIMENSIONS = 4  # numbers of a name that are folded, from its end

_Parts = tuple[str, ...]  # of a name: text, number, text, number ... text


def available() -> bool:
    """Tell whether ClusterShell is installed, without importing it."""
    return find_spec("ClusterShell") is not None


def fold(names: Sequence[str]) -> str:
    """Return *names* folded, with commas between what remains. Raises ImportError without ClusterShell.

    Of names with several numbers ClusterShell looks for the fewest ranges, which takes minutes for 2,000 of them. Here
    the last number is folded first, then the one before it among names that are equal otherwise, each in one pass:

        a1.b1 a1.b2 a2.b1 a2.b2 a3.b1  ->  a1.b[1-2] a2.b[1-2] a3.b1  ->  a[1-2].b[1-2],a3.b1
    """
    plain = {name for name in names if _PLAIN.fullmatch(name) and not _LONG_NUMBER.search(name)}
    rows: Iterable[_Parts] = [tuple(_NUMBER.split(name)) for name in sorted(plain)]
    for place in range(1, _DIMENSIONS + 1):
        rows = _fold_number(rows, -2 * place)
    return ",".join([*sorted("".join(row) for row in rows), *sorted(set(names) - plain)])


def _fold_number(rows: Iterable[_Parts], place: int) -> list[_Parts]:
    """Return *rows*, of which those that differ in the number at *place* alone are one, with ranges there."""
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


def listed(names: Sequence[str]) -> str:
    """Return all of *names*, folded if they are many and can be."""
    return fold(names) if len(names) > MANY and available() else ", ".join(names)
