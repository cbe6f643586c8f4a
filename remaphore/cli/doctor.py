"""`remaphore doctor`: what the broker and the peers say, when they are asked."""

from __future__ import annotations

import logging
from collections import Counter

from remaphore import logs, tasks
from remaphore.cli import console
from remaphore.cli.check import conclude, show
from remaphore.cli.options.health import Doctor
from remaphore.diagnostics.doctor import examine
from remaphore.diagnostics.findings import Finding, Level


def run(options: Doctor) -> int:
    """Ask; return 0, or 1 if there is an error among the findings."""
    config = console.load_config(options.config)
    config.identity().load()
    logs.configure("console", level=logging.WARNING)
    levels: Counter[Level] = Counter()

    def report(finding: Finding) -> None:
        show(finding, to_json=options.json)
        levels[finding.level] += 1

    tasks.run(examine(config, to=options.to, timeout=options.timeout, report=report))
    return conclude(levels)
