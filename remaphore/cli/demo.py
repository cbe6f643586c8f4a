"""`remaphore demo`: the main job, shown on this machine."""

from remaphore.cli.options.local import Demo
from remaphore.demo import show


def run(_options: Demo) -> int:
    """Show it; return 0."""
    show()
    return 0
