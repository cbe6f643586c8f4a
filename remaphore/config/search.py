"""Finding the configuration, and choosing the format by its name: `*.toml` is TOML, any other name a legacy .conf."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from remaphore.config import secrets
from remaphore.config.settings import Config
from remaphore.errors import ConfigError

VARIABLE = "REMAPHORE_CONFIG"
DROP_INS = "peers.d"  # the directory next to the main file that other tools, such as Ansible, may fill
DEFAULT_PATHS = ("/etc/remaphore/remaphore.toml", "/etc/remaphore/remaphore.conf")

_ROOT = 0

# Each peer costs a table entry, and up to 15 MB of replay window once it sends as much as it may: this is ten times the
# tested fleet of 10,000 nodes.
MAX_PEERS = 100_000

_CREATE = "create one with: remaphore init (or in the legacy .conf format: remaphore -C > FILE)"


def default_paths(environ: Mapping[str, str], *, user: int) -> tuple[str, ...]:
    """Return where a configuration is searched if none is named: for unprivileged users, first in their own directory.

    user: our uid. Root has no directory of its own, so that no environment variable decides what root runs.
    """
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME", ""), ".config")  # noqa: PTH118 - start-up
    if user == _ROOT or not base.startswith("/"):  # a relative one is ignored (XDG Base Directory Specification)
        return DEFAULT_PATHS
    return (f"{base}/remaphore/remaphore.toml", *DEFAULT_PATHS)


def find(path: str | None, environ: Mapping[str, str], *, defaults: Sequence[str] | None = None) -> tuple[str, str]:
    """Return the file that `load` would read, and its name for messages. Raise ConfigError if there is none."""
    named = environ.get(VARIABLE) if path is None else path
    if path is not None or named:
        assert named is not None
        what = "configuration" if path is not None else f"configuration, named by ${VARIABLE}"
        if not _exists(named):
            check_current_directory((named,))
            raise ConfigError(f"{named}: {what}: no such file", hint=f"check the name, or {_CREATE}")
        return named, what
    if defaults is None:
        defaults = default_paths(environ, user=os.geteuid())
    for candidate in defaults:
        if _exists(candidate):
            return candidate, "configuration"
    places = ", ".join(("-c (not given)", f"${VARIABLE} (not set)", *defaults))
    raise ConfigError(f"no configuration found in: {places}", hint=f"{_CREATE}, or name one with -c FILE")


def load(path: str | None, environ: Mapping[str, str], *, defaults: Sequence[str] | None = None) -> Config:
    """Return the configuration in *path*, else in the file that $REMAPHORE_CONFIG names, else in the first default.

    With a file in TOML, `peers.d/*.toml` next to it is read too. Raise ConfigError if there is no file, or if it cannot
    be used.
    """
    place, what = find(path, environ, defaults=defaults)
    raw, info = secrets.read_file(place, what=what)
    # Each reader is imported where it is used: a command pays at its start for the one format that it reads.
    if place.endswith(".toml"):
        from remaphore.config import toml

        base = Path(place).absolute().parent
        config = toml.parse(utf8(raw, place), place, base, drop_ins=drop_ins(base))
    else:
        from remaphore.config import legacy

        # The reader decides about bytes that are not UTF-8: the Go implementation accepts them in a comment.
        config = legacy.parse(raw.decode("utf-8-sig", errors="surrogateescape"), place)
        problem = secrets.mode_problem(info, place, user=os.geteuid())
        if problem is not None:
            config = replace(config, warnings=(*config.warnings, problem.at(f"{place}: it contains private keys")))
    if len(config.peers) > MAX_PEERS:
        hint = "remove peers that no longer exist"
        raise ConfigError(f"{place}: {len(config.peers)} peers, the limit is {MAX_PEERS}", hint=hint)
    return config


def drop_ins(base: Path) -> tuple[tuple[str, str], ...]:
    """Return name and text of each `peers.d/*.toml` in *base*, sorted by name. Raise ConfigError."""
    found = []
    for path in drop_in_paths(base):
        # Opening a fifo would block until another process writes to it.
        if not os.path.isfile(path):  # noqa: PTH113 - there may be ten thousand
            raise ConfigError(f"{path}: peers: not a regular file", hint=f"move it out of {DROP_INS}")
        found.append((path, utf8(secrets.read_file(path, what="peers")[0], path)))
    return tuple(found)


def drop_in_paths(base: Path) -> list[str]:
    """Return the path of each `peers.d/*.toml` in *base*, sorted by name. Raise ConfigError."""
    folder = base / DROP_INS
    try:
        names = os.listdir(folder)  # noqa: PTH208 - one call, for every command that starts
    except FileNotFoundError:
        return []
    except OSError as error:
        why = error.strerror or type(error).__name__
        hint = "check that it is a directory, and that you can read it"
        raise ConfigError(f"{folder}: peers: cannot be read: {why}", hint=hint) from None
    # Names that begin with a dot are skipped: they are an editor's, or ours before they get their final name.
    return sorted(f"{folder}/{name}" for name in names if name.endswith(".toml") and name[0] != ".")


def _exists(path: str) -> bool:
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True  # it exists, or may exist: reading it will report the problem
    return True


def check_current_directory(paths: Iterable[str]) -> None:
    """Raise ConfigError if one of *paths* is relative and the current directory cannot be used: it has been deleted."""
    if all(path.startswith("/") for path in paths):
        return
    try:
        os.getcwd()  # noqa: PTH109 - one call, for every command that starts
    except OSError as error:
        why = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be used: {error.strerror}"
        hint = "change to a directory that exists, or name files by absolute paths"
        raise ConfigError(f"the current directory {why}", hint=hint) from None


def utf8(raw: bytes, path: str) -> str:
    """Return the text of the file *path*, without a byte order mark. Raise ConfigError."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8", hint="save the file as UTF-8") from None
