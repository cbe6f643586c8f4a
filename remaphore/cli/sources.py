"""What a command reads from: a file that its command line names, or stdin for `-`."""

from __future__ import annotations

from remaphore.cli import output

STDIN = "-"


def title(source: str) -> str:
    """Return the name of *source*, for people."""
    return "stdin" if source == STDIN else source


def read(source: str, *, what: str, limit: int | None = None) -> bytes:
    """Return the bytes of *source*, at most *limit* (default: as many as a file may have). Raise ConfigError.

    That *what* is read from a terminal is announced there.
    """
    from remaphore.config import secrets

    limit = limit or secrets.MAX_FILE_BYTES
    if source != STDIN:
        return secrets.read_file(source, what=what, limit=limit)[0]
    output.announce_stdin(f"the {what}")
    return secrets.read_stdin(what=what, limit=limit)
