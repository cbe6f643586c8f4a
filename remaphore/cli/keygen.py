"""`remaphore keygen`: a key pair."""

from __future__ import annotations

import sys
from pathlib import Path

from remaphore.cli.options.nodes import Keygen
from remaphore.config.creation import create_key


def run(options: Keygen) -> int:
    """Write the private key; print the public one; return 0."""
    public = create_key(Path(options.file))
    sys.stdout.write(f"{public}\n")
    sys.stdout.flush()
    return 0
