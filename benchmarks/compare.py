"""Compare two results: `python -m benchmarks.compare BEFORE.json AFTER.json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import TARGETS

# Within it, two runs of the same code differ on the machines that this was made on.
SAME = 0.15


def main(before: str, after: str) -> None:
    """Print a line for each number that both files have."""
    documents = [json.loads(Path(name).read_text()) for name in (before, after)]
    print("\n".join(compare(*documents)))


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the lines: what differs in versions and machine, then the medians and how they changed."""
    lines = [
        f"{name}: {before[part].get(name)} -> {value}"
        for part in ("versions", "machine")
        for name, value in after[part].items()
        if before[part].get(name) != value
    ]
    lines.append(f"{'':24} {'before':>10} {'after':>10} {'change':>8}")
    for key, new in after["medians"].items():
        if key in before["medians"]:
            lines.append(_line(key, before["medians"][key], new))
    return lines


def _line(key: str, old: float, new: float) -> str:
    change = new / old - 1 if old else 0.0
    return f"{key:24} {old:10.4g} {new:10.4g} {change:+8.0%} {_verdict(key, change)}".rstrip()


def _verdict(key: str, change: float) -> str:
    target = next((target for target in TARGETS if target.key == key), None)
    if target is None or abs(change) <= SAME:
        return ""
    return "better" if (change > 0) == target.at_least else "WORSE"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m benchmarks.compare BEFORE.json AFTER.json")
    main(*sys.argv[1:])
