"""`remaphore -C`: an example configuration, with a key pair that is made on the spot."""

import sys

from remaphore.cli.options.local import Example
from remaphore.config.legacy import example


def run(_options: Example) -> int:
    """Print the example."""
    sys.stdout.write(example())
    return 0
