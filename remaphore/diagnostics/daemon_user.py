"""The user as which the daemon of this machine runs, for root, who examines what that daemon would run."""

from __future__ import annotations

import grp
import itertools
import os
import pwd
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from remaphore.config.search import DEFAULT_PATHS
from remaphore.config.settings import Config
from remaphore.diagnostics.systemd_units import find_units, read_unit
from remaphore.errors import StateError
from remaphore.receiving.ledger import state

_ROOT = 0


class DaemonUser(NamedTuple):
    """A user that is not root. groups: all of its group ids; source: what states that the daemon runs as this user."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    source: str

    @property
    def options(self) -> dict[str, Mapping[str, object]]:
        """What plugins get for it when they are configured, by their names."""
        account = self._asdict()
        del account["source"]
        return {"hooks-d": {"account": account}}


def find_daemon_user(config: Config, environ: Mapping[str, str], root: Path = Path("/")) -> DaemonUser | None:
    """Return the user as which the daemon with *config* runs; None if we are not root, or if it is root or unknown.

    That is the user of the systemd unit that runs it with this configuration; without one, the owner of its state
    directory, which no other user's daemon could use.
    """
    if os.geteuid() != _ROOT:
        return None
    for path in find_units(root).values():
        with suppress(OSError, ValueError, KeyError):
            settings = read_unit(path, root)
            if _runs(settings.get("ExecStart", []), config, root):
                return _user_of(settings, str(path))
    with suppress(OSError, KeyError, StateError):
        directory = state.directory(config, state.DEFAULT_INSTANCE, environ)
        existing = directory if directory.exists() else directory.parent
        return _make_user(pwd.getpwuid(existing.stat().st_uid), f"the owner of {existing}")
    return None


def _runs(commands: list[str], config: Config, root: Path) -> bool:
    """Return whether one of the ExecStart *commands* is `remaphore run` with the file of *config*."""
    for command in commands:
        words = shlex.split(command)
        if "run" not in words[1:]:
            continue
        given = [value for option, value in itertools.pairwise(words) if option in ("-c", "--config")]
        given += [word.partition("=")[2] for word in words if word.startswith("--config=")]
        paths = (root / each.lstrip("/") for each in given or DEFAULT_PATHS)
        if any(path.exists() and path.samefile(config.source) for path in paths):
            return True
    return False


def _user_of(settings: Mapping[str, list[str]], source: str) -> DaemonUser | None:
    """Return the user of a unit with *settings*. Raise KeyError if there is no such user or group."""
    name = "".join(settings.get("User", [])[-1:])
    if not name:
        return None
    entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    words = [word for value in settings.get("SupplementaryGroups", []) for word in value.split()]
    more = [int(word) if word.isdigit() else grp.getgrnam(word).gr_gid for word in (*settings.get("Group", []), *words)]
    return _make_user(entry, f"User= in {source}", *more)


def _make_user(entry: pwd.struct_passwd, source: str, *groups: int) -> DaemonUser | None:
    if entry.pw_uid == _ROOT:
        return None
    all_groups = {*os.getgrouplist(entry.pw_name, entry.pw_gid), *groups}
    return DaemonUser(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(all_groups), entry.pw_dir or "/", source)
