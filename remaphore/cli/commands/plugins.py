"""`remaphore plugins`: list the installed plugins, the hooks of each, and why one cannot be loaded."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remaphore.cli import output
from remaphore.cli.commands import request
from remaphore.cli.commands import run as daemon

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from remaphore.cli.arguments import Parser
    from remaphore.config.settings import Config

BUNDLED = (*daemon.PLUGINS, *request.PLUGINS)

SUMMARY = "list the installed plugins and the hooks that they implement"
EXAMPLE = "remaphore plugins"
EXIT_CODES = {
    0: "every enabled plugin can be loaded, and every table [plugins.NAME] is right",
    1: "an enabled plugin cannot be loaded, or a table [plugins.NAME] is wrong",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugins:
    """Options of plugins."""

    config: str | None = None
    json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A plugin. distribution: name and version; error: why it cannot be used, else empty; hint: how to fix it."""

    name: str
    distribution: str
    enabled: bool
    hooks: list[str]
    error: str = ""
    hint: str = ""

    def describe(self) -> str:
        """Return the hooks without their prefix, or the error and its hint."""
        if self.error:
            from remaphore.errors import with_hint

            return with_hint(f"FAILED: {self.error}", self.hint)
        return ", ".join(hook.removeprefix("remaphore_") for hook in self.hooks)


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    from remaphore.cli.arguments import add_config, add_json

    parser.description = (
        "List the installed plugins, the hooks that each implements, and why a plugin cannot be loaded or its table"
        " [plugins.NAME] is wrong. Every plugin is imported."
    )
    add_config(parser)
    add_json(parser)
    parser.set_defaults(options=Plugins)


def run(options: Plugins) -> int:
    """List; return 0, or 1 if an enabled plugin cannot be loaded, or the table of any plugin is wrong."""
    import contextlib
    import sys
    from dataclasses import asdict

    from remaphore.hooks.manager import find_installed

    config = _config(options.config)
    tables = config.plugins if config else {}
    enabled = {*BUNDLED, *(config.enabled_plugins if config else ())}
    points, broken = find_installed()
    for line in broken:
        output.notice(f"warning: {line}")
    names = sorted({*enabled, *tables, *(point.name for point in points)})
    with contextlib.redirect_stdout(sys.stderr):  # plugins may print while they are imported
        rows = [_inspect(name, points, enabled, config) for name in names]
    if options.json:
        output.write_json(*map(asdict, rows))
    else:
        cells = ((row.name, row.distribution or "-", "yes" if row.enabled else "no", row.describe()) for row in rows)
        output.write_table(("NAME", "DISTRIBUTION", "ENABLED", "HOOKS"), cells)
    return 1 if any(row.error and (row.enabled or row.name in tables) for row in rows) else 0


def _config(path: str | None) -> Config | None:
    """Return the configuration, None if there is none."""
    import os

    from remaphore.cli.configuration import load_config
    from remaphore.config import search

    if path is None and not os.environ.get(search.VARIABLE) and search.find_default(os.environ)[0] is None:
        output.notice("no configuration found: only the bundled plugins are enabled; name one with -c FILE")
        return None
    return load_config(path)


def _inspect(name: str, points: list[EntryPoint], enabled: Collection[str], config: Config | None) -> Row:
    from dataclasses import replace

    from remaphore.errors import PluginError
    from remaphore.hooks.manager import empty, implemented, load, origin, read_settings

    # Each plugin is loaded on its own, so that an error affects one row only.
    hooks: list[str] = []
    error = hint = ""
    own = None
    if config and (name in enabled or name in config.plugins):
        own = replace(config, plugins={name: config.plugins[name]} if name in config.plugins else {})
    try:
        if own and name not in enabled:
            read_settings(empty(), own)  # raises if the plugin of this table is not installed
        plugin = load([name], points)
        hooks = implemented(plugin, name)
        if own:
            read_settings(plugin, own)
    except PluginError as problem:
        error = str(problem)
        hint = "" if problem.hint == PluginError.default_hint else problem.hint  # that one names this command
    origins = ", ".join(dict.fromkeys(origin(point) for point in points if point.name == name))
    return Row(name=name, distribution=origins, enabled=name in enabled, hooks=hooks, error=error, hint=hint)
