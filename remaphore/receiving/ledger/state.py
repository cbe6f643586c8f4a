"""The state directory of an instance: where it is, and the lock that lets one daemon use it."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from remaphore.config import files
from remaphore.config.settings import Config
from remaphore.errors import StateError, UsageError
from remaphore.receiving.ledger import locks
from remaphore.trust import UnsafeError

DEFAULT_INSTANCE = "main"
SYSTEM_DIR = Path("/var/lib/remaphore")

PLUGINS = "plugins"  # the directory, in that of an instance, with those of its plugins
UNKNOWN_PID = "unknown"  # of a daemon that could not write it, as on a full disk

LOCK = "lock"
COORDINATION = "_coordination"  # no instance has such a name

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}")


def directory(config: Config, instance: str, environ: Mapping[str, str]) -> Path:
    """Return the directory of *instance*.

    It is below `state_dir`, else `$STATE_DIRECTORY` (systemd sets it), else /var/lib/remaphore for root and
    `$XDG_STATE_HOME/remaphore` for others. Raise StateError if there is none of these, UsageError for an invalid name.
    """
    if not NAME.fullmatch(instance):
        raise UsageError(f"invalid instance name: {instance!r}", hint="use at most 64 letters, digits, _, . and -")
    return (config.state_dir or default_root(environ)) / instance


def default_root(environ: Mapping[str, str]) -> Path:
    """Return the parent of all instances' directories if the configuration has no `state_dir`. Raise StateError."""
    if environ.get("STATE_DIRECTORY"):
        return Path(environ["STATE_DIRECTORY"].split(":")[0])  # systemd.exec(5): several are separated by colons
    if os.geteuid() == 0:
        return SYSTEM_DIR
    base = Path(environ.get("XDG_STATE_HOME", ""))
    if base.is_absolute():  # a relative one is ignored (XDG Base Directory Specification)
        return base / "remaphore"
    with suppress(RuntimeError):  # neither $HOME nor an entry in the user database
        if (home := Path.home()).is_absolute():
            return home / ".local" / "state" / "remaphore"
    raise StateError("no state directory: this user has no home", hint="set state_dir in the configuration, or HOME")


def coordination_directory(config: Config, environ: Mapping[str, str]) -> Path | None:
    """Return the directory for what all programs of our user remember of streams; None if this user has no home."""
    with suppress(StateError):
        return (config.state_dir or default_root(environ)) / COORDINATION
    return None


def check(folder: Path) -> None:
    """Raise StateError if a daemon of our user cannot use *folder*, or must not. Nothing is created."""
    with _reporting(folder):
        files.check_private(folder)


def plugin_directory(folder: Path, plugin: str) -> Path:
    """Return the directory of *plugin* in *folder*, that of an instance; create it with mode 0700.

    Raise StateError if that is not possible, or if a link, or another user, could lead to another directory.
    """
    if not NAME.fullmatch(plugin):
        what = f"no state directory for the plugin {plugin!r}: its name cannot be that of a directory"
        raise StateError(what, hint="rename its entry point: at most 64 letters, digits, _, . and -")
    path = folder.absolute() / PLUGINS / plugin
    for each in (path.parent, path):
        with _reporting(each):
            os.close(files.open_private(each))
    return path


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Create *folder* with mode 0700 and hold its lock. Raise StateError, also if another process holds the lock."""
    with _reporting(folder):
        opened = files.open_private(folder)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(LOCK, flags, 0o600, dir_fd=opened)
        finally:
            os.close(opened)
    try:
        if not locks.acquire(descriptor, folder):
            hint = "stop it, or start this one with --instance NAME"
            raise StateError(f"another daemon (pid {_read_pid(descriptor)}) uses {folder}", hint=hint)
        locks.probe(folder)
        with suppress(OSError):  # the pid is for people only: a full disk must not keep the daemon from replying
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        yield folder
    finally:
        os.close(descriptor)


@contextmanager
def _reporting(folder: Path) -> Iterator[None]:
    try:
        yield
    except UnsafeError as error:
        raise StateError(f"state directory {folder}: {error}", hint=error.hint) from None
    except OSError as error:
        raise StateError(f"state directory {folder}: {error.strerror}", hint=locks.hint(error)) from error


def holder(folder: Path) -> str:
    """Return the pid that the daemon holding the lock of *folder* wrote into it; empty if none holds it."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_pid(descriptor)
    except OSError:
        return ""  # no locks: that does not mean that a daemon runs
    finally:
        os.close(descriptor)
    return ""


def _read_pid(descriptor: int) -> str:
    return os.read(descriptor, 32).decode(errors="replace").strip() or UNKNOWN_PID
