"""Finding the configuration, and the format by its name: `*.toml` is TOML, anything else the original's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from remaphore.config import secrets
from remaphore.config.settings import Config
from remaphore.errors import ConfigError

VARIABLE = "REMAPHORE_CONFIG"
DROP_INS = "peers.d"  # the folder beside our own file that others, such as Ansible, may fill
DEFAULT_PATHS = ("/etc/remaphore/remaphore.toml", "/etc/remaphore/remaphore.conf")

_ROOT = 0

# Each peer costs a table entry, and up to 15 MB of replay window once it sends as much as it may: this is ten times the
# fleet of 10,000 nodes that is tested.
MAX_PEERS = 100_000

_MEND = "make one with: remaphore init (or in the original's format: remaphore -C > FILE)"


def default_paths(environ: Mapping[str, str], *, user: int) -> tuple[str, ...]:
    """Return where a configuration is looked for that nobody names: for anybody but root, first in the user's folder.

    *user* is our uid. Root has none of its own, so that no environment decides what root runs.
    """
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME", ""), ".config")  # noqa: PTH118 - start-up
    if user == _ROOT or not base.startswith("/"):  # a relative one is ignored (XDG Base Directory Specification)
        return DEFAULT_PATHS
    return (f"{base}/remaphore/remaphore.toml", *DEFAULT_PATHS)


def find(path: str | None, environ: Mapping[str, str], *, defaults: Sequence[str] | None = None) -> tuple[str, str]:
    """Return the file that `load` would read, and what it is for messages. Raises ConfigError if there is none."""
    if path is not None:
        return _named(path, what="configuration")
    if environ.get(VARIABLE):
        return _named(environ[VARIABLE], what=f"configuration, named by ${VARIABLE}")
    if defaults is None:
        defaults = default_paths(environ, user=os.geteuid())
    for candidate in defaults:
        if _exists(candidate):
            return candidate, "configuration"
    places = ", ".join(("-c (not given)", f"${VARIABLE} (not set)", *defaults))
    raise ConfigError(f"no configuration found, looked at {places}; {_MEND}, and name it with -c FILE")


def load(path: str | None, environ: Mapping[str, str], *, defaults: Sequence[str] | None = None) -> Config:
    """Read *path*, else the file that $REMAPHORE_CONFIG names, else the first of *defaults* that exists.

    Beside a file in TOML, `peers.d/*.toml` is read too. Raises ConfigError if there is none, or if it cannot be used.
    """
    place, what = find(path, environ, defaults=defaults)
    config = _parse(place, what=what)
    if len(config.peers) > MAX_PEERS:
        raise ConfigError(f"{place}: {len(config.peers)} peers, the most is {MAX_PEERS}; take out those that are gone")
    return config


def drop_ins(base: Path) -> tuple[tuple[str, str], ...]:
    """Return name and text of each `peers.d/*.toml` in *base*, in the order of their names. Raises ConfigError."""
    return tuple(map(_drop_in, drop_in_paths(base)))


def drop_in_paths(base: Path) -> list[str]:
    """Return the path of each `peers.d/*.toml` in *base*, in the order of their names. Raises ConfigError."""
    folder = base / DROP_INS
    try:
        names = os.listdir(folder)  # noqa: PTH208 - one call, for every command that starts
    except FileNotFoundError:
        return []
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigError(
            f"{folder}: peers: cannot be read ({why}); check that it is a directory, and its mode"
        ) from None
    # Not those that begin with a dot: they are an editor's, or ours before they get their name.
    return sorted(f"{folder}/{name}" for name in names if name.endswith(".toml") and name[0] != ".")


def _drop_in(path: str) -> tuple[str, str]:
    # Opening a fifo would wait for somebody who writes.
    if not os.path.isfile(path):  # noqa: PTH113 - there may be ten thousand
        raise ConfigError(f"{path}: peers: no regular file; take it out of {DROP_INS}")
    return path, utf8(secrets.read_file(path, what="peers")[0], path)


def _named(path: str, *, what: str) -> tuple[str, str]:
    if not _exists(path):
        raise ConfigError(f"{path}: {what}: no such file; check the name, or {_MEND}")
    return path, what


def _exists(path: str) -> bool:
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True  # it is there, or may be: reading it says what is wrong with it
    return True


def _parse(path: str, *, what: str) -> Config:
    raw, info = secrets.read_file(path, what=what)
    # Each reader is imported where it is used: a command pays at its start for the one format that it reads.
    if path.endswith(".toml"):
        from remaphore.config import toml

        base = Path(path).absolute().parent
        return toml.parse(utf8(raw, path), path, base, drop_ins=drop_ins(base))
    from remaphore.config import legacy

    # Bytes that are not UTF-8 are the reader's to judge: the original takes them in a comment.
    config = legacy.parse(raw.decode("utf-8-sig", errors="surrogateescape"), path)
    problem = secrets.mode_problem(info, path, user=os.geteuid())
    if problem is None:
        return config
    return replace(config, warnings=(*config.warnings, f"{path}: it holds private keys: {problem}"))


def utf8(raw: bytes, path: str) -> str:
    """Return the text of the file *path*, without a byte order mark. Raises ConfigError."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8; save the file as UTF-8") from None
