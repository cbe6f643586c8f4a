"""Reading the configuration for a command. Warnings about it are notices on stderr."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from remaphore.cli import output

if TYPE_CHECKING:
    from remaphore.config.settings import Config, Problem


def load_config(path: str | None, *, trusted: bool = False) -> Config:
    """Load the configuration *path*, else the one that the environment names, else the system's. Raise ConfigError.

    trusted: raise it as well if another user could have changed the configuration, which is a warning otherwise.
    """
    from remaphore.config.search import load
    from remaphore.errors import ConfigError

    config = load(path, os.environ)
    if trusted and config.unsafe:
        raise ConfigError(f"unsafe configuration: {config.unsafe[0].what}", hint=config.unsafe[0].hint)
    report((*config.warnings, *config.unsafe))
    return config


def report(warnings: Iterable[Problem]) -> None:
    """Write *warnings* about a configuration, and their hints, to stderr."""
    for warning in warnings:
        output.notice(f"warning: {warning.what}")
        if warning.hint:
            output.notice(f"hint: {warning.hint}", whole=True)


def find_editable(path: str | None) -> str:
    """Return the file that `load_config` would load, for a command that edits it. Raise ConfigError for a legacy one.

    So a mistake is reported before the user pastes a line.
    """
    from remaphore.config import revision, search

    found, _ = search.find(path, os.environ)
    revision.check_format(found)
    return found


def report_change(files: Sequence[str]) -> None:
    """Report which *files* a command has changed, and how a daemon applies it."""
    reload = "to apply it to a running daemon: systemctl reload remaphore"
    output.notice(f"changed: {', '.join(files)}; {reload}" if files else "nothing changed")


def load_daemon_config(path: str | None, hooks: Sequence[str], *, trusted: bool = False) -> Config:
    """Load the configuration with the handler directories of the daemon.

    Those are *hooks* of the command line, else those of the file, else the default ones. trusted: as in `load_config`.
    Raise ConfigError.
    """
    from dataclasses import replace
    from pathlib import Path

    from remaphore.config.settings import DEFAULT_HOOKS

    config = load_config(path, trusted=trusted)
    return replace(config, hooks=tuple(map(Path, hooks)) or config.hooks or DEFAULT_HOOKS)
