"""Plugins for the tests: managers with objects registered, and distributions as pip leaves them in site-packages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pluggy
import pytest

from remaphore.hooks.manager import GROUP, empty, register

Install = Callable[..., None]


def plugin_manager(**plugins: object) -> pluggy.PluginManager:
    """Return a manager with *plugins*, objects or classes, by name; it calls the last one first."""
    manager = empty()
    for name, plugin in plugins.items():
        register(manager, plugin, name=name)
    return manager


def installer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that installs a plugin below *folder*, for the length of a test."""
    monkeypatch.syspath_prepend(folder)

    def install(name: str, source: str, *, distribution: str = "", attribute: str = ":Plugin") -> None:
        """Install *source* as the plugin *name* of *distribution* (version 1.5; default: remaphore-NAME)."""
        distribution = distribution or f"remaphore-{name}"
        module = distribution.replace("-", "_")
        monkeypatch.delitem(sys.modules, module, raising=False)
        (folder / f"{module}.py").write_text(source)
        metadata = folder / f"{module}-1.5.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
        (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {module}{attribute}\n")

    return install
