"""The directory of a broker: its owner's alone, and nothing in it is reached through a link."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from remaphore.config import files
from remaphore.errors import ConfigError, TransportError
from remaphore.trust import UnsafeError

MARK = "login.json"  # a directory with this file is a broker's
_FILE_MODE = 0o600


def prepare(folder: Path) -> None:
    """Create *folder* unless it exists, and make it private. Raise ConfigError for one that is not a broker's."""
    with reporting(folder):
        _check_empty(folder)
        os.close(files.open_private(folder))


@contextlib.contextmanager
def reporting(folder: Path) -> Iterator[None]:
    """Raise ConfigError, which names *folder*, in place of an error of its files."""
    try:
        yield
    except UnsafeError as error:
        raise ConfigError(f"{folder}: not a safe place for the broker: {error}", hint=error.hint) from None
    except OSError as error:
        text = f"{folder}: the broker's files cannot be written ({error.strerror})"
        raise ConfigError(text, hint="use a folder that you can write to") from None


def lock(folder: Path) -> int:
    """Return a descriptor that keeps other brokers from running in *folder*, until it is closed.

    A second one would take the log from the first, which then could not be reloaded. Raise TransportError if one runs.
    """
    descriptor = os.open(folder / "lock", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        hint = "stop it, or name another directory with --data"
        raise TransportError(f"{folder}: a broker is running in this directory", hint=hint) from None
    except OSError:  # a file system without locks
        pass
    return descriptor


def write(path: Path, text: str) -> None:
    """Write *text* to *path*, a file that its owner alone may read, as `files.write` does. Raise ConfigError.

    A login that was lost in a crash would lock out every node.
    """
    files.write(path, text, mode=_FILE_MODE)


def create(path: Path) -> int:
    """Return a descriptor of the new file *path*. One that exists is deleted, so that no link is followed."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)


def _check_empty(folder: Path) -> None:
    """Raise ConfigError for a directory with other contents: /etc with mode 0700 would stop the whole system."""
    entries = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    private = not entries or not folder.stat().st_mode & 0o077
    if not private and MARK not in entries:
        hint = "name a directory that does not exist, or is empty"
        raise ConfigError(f"{folder}: not empty, and not the directory of a broker", hint=hint)
