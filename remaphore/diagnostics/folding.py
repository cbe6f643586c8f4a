"""Equal findings about several peers as one, for people: `com.example.web.[1-12] (12): no reply within 5 s`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from remaphore.diagnostics.findings import Finding

_NUMBER = re.compile(r"([0-9]+)")
_LONG_NUMBER = re.compile(r"[0-9]{16}")  # a serial number; no range would be shorter
_PLAIN = re.compile(r"[A-Za-z0-9._-]+")  # other characters are operators where such a list is read, as by --to
_DIMENSIONS = 4  # numbers of a name that are folded, counted from its end

_Parts = tuple[str, ...]  # of a name: text, number, text, number ... text


def fold(findings: Iterable[Finding]) -> list[Finding]:
    """Return *findings*, with one in place of all that are equal, in the order of the first of them.

    Equal are those that differ only in their place, and in what was measured: its smallest and largest value are shown.
    """
    groups: defaultdict[tuple[str, ...], list[Finding]] = defaultdict(list)
    for finding in findings:
        key = (finding.level, finding.code, finding.common or finding.what, finding.hint)
        groups[tuple(_without_place(text, finding.where) for text in key)].append(finding)
    return [group[0] if len(group) == 1 else _merge(group) for group in groups.values()]


def _without_place(text: str, where: str) -> str:
    """Return *text* with DESTINATION in place of the name *where*, but not of a part of a longer name."""
    return re.sub(rf"(?<![\w.-]){re.escape(where)}(?![\w.-])", "DESTINATION", text)


def _merge(group: Sequence[Finding]) -> Finding:
    first = group[0]
    what = _without_place(first.common or first.what, first.where)
    ranges = [_range(name, [finding.facts[name] for finding in group]) for name in first.facts if first.common]
    measured = ", ".join(filter(None, ranges))
    return replace(
        first,
        where=f"{fold_names([finding.where for finding in group])} ({len(group)})",
        what=f"{what}; {measured}" if measured else what,
        hint=_without_place(first.hint, first.where),
    )


def _range(name: str, values: Sequence[object]) -> str:
    """Return the range of a fact that was measured, `round trip 0.4 to 2.1 ms`; empty for one that was not."""
    numbers = [value for value in values if isinstance(value, float)]
    text, _, unit = name.rpartition("_")
    if not numbers:
        return ""
    return f"{text.replace('_', ' ')} {min(numbers):.1f} to {max(numbers):.1f} {unit}"


def fold_names(names: Iterable[str]) -> str:
    """Return *names* as `--fold` of a request writes them, `com.db.[1-3,7],com.web`, without ClusterShell.

    The last number is folded first, then the one before it among names that are otherwise equal:

        a1.b1 a1.b2 a2.b1 a2.b2 a3.b1  ->  a1.b[1-2] a2.b[1-2] a3.b1  ->  a[1-2].b[1-2],a3.b1
    """
    rows: list[_Parts] = []
    for name in sorted(set(names)):
        plain = _PLAIN.fullmatch(name) and not _LONG_NUMBER.search(name)
        rows.append(tuple(_NUMBER.split(name)) if plain else (name,))
    for place in range(-2, -2 * _DIMENSIONS - 1, -2):
        groups: dict[tuple[_Parts, _Parts], list[str]] = {}
        for row in rows:
            # A row without a number at this place stands for itself.
            key = (row[:place], row[place + 1 :]) if len(row) > -place else (row, ())
            groups.setdefault(key, []).extend([row[place]] if len(row) > -place else [])
        rows = [(*head, _fold_numbers(numbers), *tail) if numbers else head for (head, tail), numbers in groups.items()]
    return ",".join(map("".join, rows))


def _fold_numbers(numbers: Sequence[str]) -> str:
    """Return *numbers* as ranges: `1 2 3 7` is `[1-3,7]`, `08 09 10` is `[08-10]`, and one number is itself."""
    ranges: list[list[str]] = []
    for number in sorted(numbers, key=lambda text: (int(text), len(text))):
        last = ranges[-1][-1] if ranges else ""
        if last and number == str(int(last) + 1).zfill(len(last)):
            ranges[-1].append(number)
        else:
            ranges.append([number])
    if len(numbers) == 1:
        return numbers[0]
    return "[" + ",".join(each[0] if len(each) == 1 else f"{each[0]}-{each[-1]}" for each in ranges) + "]"
