"""What check, doctor and ping share: printing findings, and the exit code that they lead to."""

from __future__ import annotations

from collections import Counter

from remaphore.cli import output
from remaphore.cli.commands.request import EXIT_MISSING
from remaphore.diagnostics.findings import Code, Finding, Level, to_line
from remaphore.diagnostics.folding import fold


class FindingPrinter:
    """Prints findings to stdout as they arrive, and counts them. to_json: one JSON object per line."""

    def __init__(self, *, to_json: bool) -> None:
        self._to_json = to_json
        self._levels: Counter[Level] = Counter()
        self._silent = 0

    def show(self, *findings: Finding) -> None:
        """Print *findings*, equal ones as one line, on a terminal wrapped. What they quote is escaped."""
        for finding in findings:
            self._levels[finding.level] += 1
            self._silent += finding.code is Code.PEER_SILENT and finding.level is Level.WARNING
        if self._to_json:
            output.write_json(*map(to_row, findings))
            return
        for finding in fold(findings):
            output.write(output.wrap(output.printable(to_line(finding)), indent=9, label=finding.level))

    def conclude(self) -> int:
        """Print the number of findings of each level to stderr; return the exit code.

        It is 1 if there is an error, else 4 if a peer that should have replied did not.
        """
        counts = ", ".join(
            f"{number} {level}{'s' if number > 1 else ''}"
            for level in (Level.ERROR, Level.WARNING, Level.NOTE)
            if (number := self._levels[level])
        )
        output.notice(counts or "no problems found")
        if self._levels[Level.ERROR]:
            return 1
        return EXIT_MISSING if self._silent else 0


def to_row(finding: Finding) -> dict[str, object]:
    """Return *finding* as the object that --json prints."""
    return {
        "level": finding.level,
        "code": finding.code,
        "where": finding.where,
        "what": finding.what,
        "hint": finding.hint,
        "facts": dict(finding.facts),
    }
