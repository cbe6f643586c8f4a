"""`remaphore check`: whether this machine is set up to work, without a network."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from remaphore import logs
from remaphore.cli import console
from remaphore.cli.options.health import Check
from remaphore.cli.run import PLUGINS
from remaphore.config.search import load
from remaphore.config.settings import DEFAULT_HOOKS
from remaphore.diagnostics.checkup import check
from remaphore.diagnostics.findings import Code, Finding, Level, from_error, to_line
from remaphore.errors import ConfigError


def run(options: Check) -> int:
    """Check; return 0, or 1 if there is an error among the findings."""
    logs.configure("console", level=logging.CRITICAL)  # what a plugin would log is told as a finding
    levels: Counter[Level] = Counter()
    findings = _findings(options)
    while (finding := _next(findings)) is not None:
        show(finding, to_json=options.json)
        levels[finding.level] += 1
    return conclude(levels)


def show(finding: Finding, *, to_json: bool) -> None:
    """Write *finding* to stdout, as one line. Nothing that a file, a server or a peer says reaches a terminal raw."""
    line = json.dumps(to_row(finding)) if to_json else logs.escape(to_line(finding))
    sys.stdout.write(line.encode(errors="backslashreplace").decode() + "\n")
    sys.stdout.flush()


def to_row(finding: Finding) -> Mapping[str, object]:
    """Return *finding* as the object that --json prints."""
    return {
        "level": finding.level,
        "code": finding.code,
        "where": finding.where,
        "what": finding.what,
        "hint": finding.hint,
        "facts": dict(finding.facts),
    }


def conclude(levels: Mapping[Level, int]) -> int:
    """Say how many findings there are of each level that matters; return the exit code."""
    bad = ((levels.get(level, 0), level) for level in (Level.ERROR, Level.WARNING, Level.NOTE))
    counts = ", ".join(f"{number} {level}{'s' if number > 1 else ''}" for number, level in bad if number)
    console.say(counts or "all is well")
    return 1 if levels.get(Level.ERROR) else 0


def _findings(options: Check) -> Iterator[Finding]:
    try:
        config = load(options.config, os.environ)
    except ConfigError as error:
        yield from_error(Code.CONFIGURATION_UNUSABLE, options.config or "configuration", error)
        return
    usual = tuple(folder for folder in DEFAULT_HOOKS if folder.is_dir())
    config = replace(config, hooks=tuple(map(Path, options.hooks)) or config.hooks or usual)
    plugins = (*PLUGINS, *config.enabled_plugins)
    yield from check(config, plugins=plugins, environ=os.environ, now=time.time_ns())


def _next(findings: Iterator[Finding]) -> Finding | None:
    # What a plugin prints while it is imported is no finding.
    with contextlib.redirect_stdout(sys.stderr):
        return next(findings, None)
