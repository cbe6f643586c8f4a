"""`remaphore --version`."""

import sys
from importlib.metadata import version


def run() -> int:
    """Print name and version."""
    sys.stdout.write(f"remaphore {version('remaphore')}\n")
    return 0
