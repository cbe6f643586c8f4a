"""What check and doctor share: printing findings, and the exit code that they lead to."""

from __future__ import annotations

from collections import Counter

from remaphore.cli import output
from remaphore.diagnostics.findings import Finding, Level, to_line


class FindingPrinter:
    """Prints findings to stdout as they arrive, and counts them. to_json: one JSON object per line."""

    def __init__(self, *, to_json: bool) -> None:
        self._to_json = to_json
        self._levels: Counter[Level] = Counter()

    def show(self, finding: Finding) -> None:
        """Print *finding* as one line, on a terminal wrapped. What it quotes is escaped."""
        self._levels[finding.level] += 1
        if self._to_json:
            row = {
                "level": finding.level,
                "code": finding.code,
                "where": finding.where,
                "what": finding.what,
                "hint": finding.hint,
                "facts": dict(finding.facts),
            }
            output.write_json(row)
        else:
            output.write(output.wrap(output.printable(to_line(finding)), indent=9, label=finding.level))

    def conclude(self) -> int:
        """Print the number of findings of each level to stderr; return the exit code, 1 if there is an error."""
        counts = ", ".join(
            f"{number} {level}{'s' if number > 1 else ''}"
            for level in (Level.ERROR, Level.WARNING, Level.NOTE)
            if (number := self._levels[level])
        )
        output.notice(counts or "no problems found")
        return 1 if self._levels[Level.ERROR] else 0
