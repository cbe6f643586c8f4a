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
DEFAULT_PATHS = ("/etc/remaphore/remaphore.toml", "/etc/remaphore/remaphore.conf")

# Each peer costs a table entry, and up to 15 MB of replay window once it sends as much as it may: this is ten times the
# fleet of 10,000 nodes that is tested.
MAX_PEERS = 100_000

_MEND = "write an example with: remaphore -C > FILE"


def load(path: str | None, environ: Mapping[str, str], *, defaults: Sequence[str] = DEFAULT_PATHS) -> Config:
    """Read *path*, else the file that $REMAPHORE_CONFIG names, else the first of *defaults* that exists.

    Raises ConfigError if there is none, or if it cannot be used.
    """
    if path is not None:
        return _load_named(path, what="configuration")
    if environ.get(VARIABLE):
        return _load_named(environ[VARIABLE], what=f"configuration, named by ${VARIABLE}")
    for candidate in defaults:
        if _exists(candidate):
            return _load(candidate, what="configuration")
    places = ", ".join(("-c (not given)", f"${VARIABLE} (not set)", *defaults))
    raise ConfigError(f"no configuration found, looked at {places}; {_MEND}, and name it with -c FILE")


def _load_named(path: str, *, what: str) -> Config:
    if not _exists(path):
        raise ConfigError(f"{path}: {what}: no such file; check the name, or {_MEND}")
    return _load(path, what=what)


def _exists(path: str) -> bool:
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True  # it is there, or may be: reading it says what is wrong with it
    return True


def _load(path: str, *, what: str) -> Config:
    config = _parse(path, what=what)
    if len(config.peers) > MAX_PEERS:
        raise ConfigError(f"{path}: {len(config.peers)} peers, the most is {MAX_PEERS}; take out those that are gone")
    return config


def _parse(path: str, *, what: str) -> Config:
    raw, info = secrets.read_file(path, what=what)
    # Each reader is imported where it is used: a command pays at its start for the one format that it reads.
    if path.endswith(".toml"):
        from remaphore.config import toml

        return toml.parse(_utf8(raw, path), path, Path(path).absolute().parent)
    from remaphore.config import original

    # Bytes that are not UTF-8 are the reader's to judge: the original takes them in a comment.
    config = original.parse(raw.decode("utf-8-sig", errors="surrogateescape"), path)
    problem = secrets.mode_problem(info, path, user=os.geteuid())
    if problem is None:
        return config
    return replace(config, warnings=(*config.warnings, f"{path}: it holds private keys: {problem}"))


def _utf8(raw: bytes, path: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8; save the file as UTF-8") from None
