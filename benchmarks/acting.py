"""A plugin that acts on each message within the daemon's process, as cheaply as a plugin can."""

from __future__ import annotations

from pathlib import Path

from benchmarks.daemon import METRICS

_SOURCE = """from remaphore import Reply, hookimpl


class Plugin:
    @hookimpl
    def remaphore_message(self, message):
        return Reply(0)
"""
ENABLED = METRICS.replace('["metrics"]', '["metrics", "acting"]')


def install(folder: Path) -> None:
    """Install it in *folder*, for a daemon that has that in its PYTHONPATH and ENABLED in its configuration."""
    (folder / "remaphore_acting.py").write_text(_SOURCE)
    metadata = folder / "remaphore_acting-1.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: remaphore-acting\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[remaphore.plugins]\nacting = remaphore_acting:Plugin\n")
