"""Reading the configuration for a command. Warnings about it are notices on stderr."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from remaphore.cli import output

if TYPE_CHECKING:
    from remaphore.config.settings import Config, Problem


def load_config(path: str | None) -> Config:
    """Load the configuration *path*, else the one that the environment names, else the system's. Raises ConfigError."""
    from remaphore.config.search import load

    config = load(path, os.environ)
    report(config.warnings)
    return config


def report(warnings: Iterable[Problem]) -> None:
    """Write *warnings* about a configuration, and their hints, to stderr."""
    for warning in warnings:
        output.notice(f"warning: {warning.what}")
        if warning.hint:
            output.notice(f"hint: {warning.hint}")


def load_daemon_config(path: str | None, hooks: Sequence[str]) -> Config:
    """Load the configuration with the handler directories of the daemon.

    Those are *hooks* of the command line, else those of the file, else the default ones. Raises ConfigError.
    """
    from dataclasses import replace
    from pathlib import Path

    from remaphore.config.settings import DEFAULT_HOOKS

    config = load_config(path)
    return replace(config, hooks=tuple(map(Path, hooks)) or config.hooks or DEFAULT_HOOKS)
