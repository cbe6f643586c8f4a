"""`remaphore plugins`: what is installed, what each implements, and why one cannot be loaded."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Collection
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from remaphore import logs
from remaphore.cli import console, request
from remaphore.cli import run as daemon
from remaphore.cli.options.daemon import Plugins
from remaphore.config.search import VARIABLE, default_paths
from remaphore.errors import PluginError
from remaphore.hooks.manager import GROUP, implemented, load, origin

BUNDLED = (*daemon.PLUGINS, *request.PLUGINS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A plugin as it is listed. distribution: with its version; error: why it cannot be loaded, empty if it can."""

    name: str
    distribution: str
    enabled: bool
    hooks: list[str]
    error: str = ""


def run(options: Plugins) -> int:
    """List; return 0, or 1 if one that is enabled cannot be loaded."""
    enabled = {*BUNDLED, *_configured(options.config)}
    points = list(entry_points(group=GROUP))
    names = sorted({*enabled, *(point.name for point in points)})
    # What a plugin prints while it is imported is no part of the list.
    with contextlib.redirect_stdout(sys.stderr):
        rows = [_row(name, points, enabled) for name in names]
    sys.stdout.write("".join(json.dumps(asdict(row)) + "\n" for row in rows) if options.json else _to_text(rows))
    return 1 if any(row.enabled and row.error for row in rows) else 0


def _configured(path: str | None) -> tuple[str, ...]:
    places = default_paths(os.environ, user=os.geteuid())
    if path is None and not os.environ.get(VARIABLE) and not any(Path(place).exists() for place in places):
        console.say("no configuration found, so none but the bundled plugins are enabled; name one with -c FILE")
        return ()
    return console.load_config(path).enabled_plugins


def _row(name: str, points: list[EntryPoint], enabled: Collection[str]) -> Row:
    # Each in a manager of its own: what is wrong with one is told in its row, and only there.
    hooks: list[str] = []
    error = ""
    try:
        hooks = implemented(load([name], points), name)
    except PluginError as problem:
        error = str(problem)
    origins = ", ".join(dict.fromkeys(origin(point) for point in points if point.name == name))
    return Row(name=name, distribution=origins, enabled=name in enabled, hooks=hooks, error=error)


def _to_text(rows: list[Row]) -> str:
    shown = [("NAME", "DISTRIBUTION", "ENABLED", "HOOKS"), *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    what = f"FAILED: {row.error}" if row.error else ", ".join(hook.removeprefix("remaphore_") for hook in row.hooks)
    cells = (row.name, row.distribution or "-", "yes" if row.enabled else "no", what)
    return tuple(map(logs.escape, cells))
