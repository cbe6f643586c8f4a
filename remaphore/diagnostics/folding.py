"""Equal findings about several peers as one, for people: `com.example.web.[1-12] (12): no reply within 5 s`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from remaphore import nodeset
from remaphore.diagnostics.findings import Finding


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
        where=f"{nodeset.fold(finding.where for finding in group)} ({len(group)})",
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
