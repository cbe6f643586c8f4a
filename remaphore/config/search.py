"""Finding the configuration, and choosing the format by its name: `*.toml` is TOML, any other name a legacy .conf."""

from __future__ import annotations

import codecs
import errno
import functools
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from remaphore import trust
from remaphore.config import safety, secrets
from remaphore.config.settings import AGENT_SOCKET, Config, Problem
from remaphore.errors import ConfigError

VARIABLE = "REMAPHORE_CONFIG"
DROP_INS = "peers.d"  # the directory next to the main file that other tools, such as Ansible, may fill
DEFAULT_PATHS = ("/etc/remaphore/remaphore.toml", "/etc/remaphore/remaphore.conf")

_ROOT = 0
_NO_PLACE = (errno.ELOOP, errno.ENAMETOOLONG)  # of a HOME that nothing can be in

# Each peer costs a table entry, and up to 15 MB of replay window once it sends as much as it may: this is ten times the
# tested fleet of 10,000 nodes.
MAX_PEERS = 100_000

_CREATE = "create one with: remaphore init (or in the legacy .conf format: remaphore -C > FILE)"


def default_paths(environ: Mapping[str, str], *, user: int) -> tuple[str, ...]:
    """Return where a configuration is searched if none is named: for unprivileged users, first in their own directory.

    user: our uid. Root has no directory of its own, so that no environment variable decides what root runs.
    """
    base = None if user == _ROOT else _own_directory(environ)
    return DEFAULT_PATHS if base is None else (f"{base}/remaphore/remaphore.toml", *DEFAULT_PATHS)


def _own_directory(environ: Mapping[str, str]) -> str | None:
    # A variable that is empty or relative is ignored (XDG Base Directory Specification).
    home = environ.get("HOME", "")
    places = environ.get("XDG_CONFIG_HOME", ""), f"{home}/.config" if home else ""
    return next((place for place in places if place.startswith("/")), None)


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
    found, tried = find_default(environ, defaults=defaults)
    if found is not None:
        return found, "configuration"
    places = f"-c (not given), ${VARIABLE} (not set), {', '.join(tried)}"
    hint = f"{_CREATE}, or name one with -c FILE"
    if AGENT_SOCKET.exists():  # only commands that cannot use it, or were told not to, get here
        hint += "; the local agent does send, request and receive only"
    raise ConfigError(f"no configuration found in: {places}", hint=hint)


def find_default(
    environ: Mapping[str, str], *, defaults: Sequence[str] | None = None
) -> tuple[str | None, Sequence[str]]:
    """Return the first of *defaults* that exists, None if there is none, and what was tried, with why it was skipped.

    defaults: None for those of `default_paths`.
    """
    user = os.geteuid()
    tried = []
    if defaults is None:
        defaults = default_paths(environ, user=user)
        if user != _ROOT and _own_directory(environ) is None:
            tried.append("your own directory (skipped: neither XDG_CONFIG_HOME nor HOME is an absolute path)")
    for candidate in defaults:
        exists = _exists(candidate)
        why = _foreign(candidate, user=user) if exists else ""
        if exists and not why:
            return candidate, tried
        tried.append(f"{candidate} (skipped: {why})" if why else candidate)
    return None, tried


def _foreign(candidate: str, *, user: int) -> str:
    """Return why the default *candidate* is not meant for us, empty if it is, or can be read.

    `sudo -u` and the like may leave HOME as it was. A file in our own directory is never skipped, nor is one in /etc.
    """
    if candidate in DEFAULT_PATHS:
        return ""
    try:
        os.close(os.open(candidate, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK))
    except PermissionError as error:
        seen = []  # from the file up, what can be examined: the first of these denies the access
        for place in (candidate, *map(str, Path(candidate).parents)):
            try:
                seen.append((place, os.stat(place).st_uid))  # noqa: PTH116
            except OSError:
                continue
        place, owner = seen[0]
        if any(uid == user for _, uid in seen):
            return ""
        return f"{error.strerror}; {place} belongs to uid {owner}, we are uid {user}"
    except OSError as error:
        if error.errno in _NO_PLACE and not os.path.lexists(candidate):
            return str(error.strerror)
    return ""


def load(path: str | None, environ: Mapping[str, str], *, defaults: Sequence[str] | None = None) -> Config:
    """Return the configuration in *path*, else in the file that $REMAPHORE_CONFIG names, else in the first default.

    With a file in TOML, `peers.d/*.toml` next to it is read too. Raise ConfigError if there is no file, or if it cannot
    be used. Who else could have changed its files is in the field `unsafe` of the result.
    """
    place, what = find(path, environ, defaults=defaults)
    raw, info = secrets.read_file(place, what=what)
    unsafe = [*safety.file_problems(place, info)]
    # Each reader is imported where it is used: a command pays at its start for the one format that it reads.
    if place.endswith(".toml"):
        from remaphore.config import toml

        base = Path(place).absolute().parent
        config = toml.parse(utf8(raw, place), place, base, drop_ins=drop_ins(base, warn=unsafe.append))
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
    if config.tls.ca_file is not None:  # it decides which server is the broker
        unsafe += [
            problem.at(where) for where, problem in safety.unsafe_places(str(config.tls.ca_file), safety.check_file)
        ]
    return replace(config, unsafe=tuple(dict.fromkeys(unsafe))) if unsafe else config


def drop_ins(base: Path, *, warn: Callable[[Problem], object]) -> tuple[tuple[str, str], ...]:
    """Return name and text of each `peers.d/*.toml` in *base*, sorted by name. Raise ConfigError.

    warn: called for each file that another user could have changed, and for `peers.d` itself.
    """
    paths = drop_in_paths(base)
    folder = f"{base}/{DROP_INS}"
    if os.path.lexists(folder):  # an empty one as well: what another user adds to it would count from the next reload
        for problem in safety.folder_problems(folder):
            warn(problem)
    found = []
    look = functools.cache(trust.lstat)  # all of the paths begin with the same directories
    for path in paths:
        try:
            linked = stat.S_ISLNK(os.lstat(path).st_mode)
            # Opening a fifo would block until another process writes to it.
            regular = stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - there may be ten thousand
        except OSError:
            regular = False
        if not regular:
            raise ConfigError(f"{path}: peers: not a regular file", hint=f"move it out of {DROP_INS}")
        raw, info = secrets.read_file(path, what="peers")
        for problem in safety.file_problems(path, info, look=look if linked else None):
            warn(problem)
        found.append((path, utf8(raw, path)))
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
        coding = " (it begins like UTF-16)" if raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else ""
        raise ConfigError(f"{path}:{line}: not UTF-8{coding}", hint="save the file as UTF-8") from None
