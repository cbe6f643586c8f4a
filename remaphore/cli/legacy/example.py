"""`remaphore -C`: print an example configuration in the legacy format, with a new key pair."""

from __future__ import annotations

from dataclasses import dataclass

from remaphore.cli import output


@dataclass(frozen=True, slots=True)
class Example:
    """No options."""


def run(_options: Example) -> int:
    """Print the example; return 0."""
    from remaphore.config.legacy import example

    output.write(example())
    return 0
