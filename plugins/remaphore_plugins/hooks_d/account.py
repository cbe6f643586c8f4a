"""The user that a verb's handlers run as: its ids, its groups, its home directory."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from remaphore import PluginError
from remaphore_plugins.processes.account import Account, has_capability

_CAP_KILL, _CAP_SETUID = 5, 7  # capabilities(7)


def look_up(name: str, *, setting: str, daemon: int) -> Account:
    """Return the user *name*, which *setting* names. Raise PluginError if it does not exist or we cannot become it.

    daemon: the user id of the daemon.
    """
    if daemon != 0:
        raise PluginError(
            f"{setting}: only root can run handlers as another user", hint="delete it, or run remaphore as root"
        )
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise PluginError(
            f"{setting}: no such user: {name!r}", hint="create it (adduser --system), or correct the name"
        ) from None
    if not _can_become(entry.pw_uid):
        raise PluginError(
            f"{setting}: root cannot change to user {name!r} here",
            hint="give remaphore CAP_SETUID and CAP_SETGID, and a user namespace that maps this user; or delete it",
        )
    if entry.pw_uid != 0 and not has_capability(_CAP_KILL):
        raise PluginError(
            f"{setting}: root cannot end the processes of user {name!r} here",
            hint="give remaphore CAP_KILL (a container drops it); or delete it",
        )
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid, groups=groups, home=entry.pw_dir or "/")


def _can_become(uid: int) -> bool:
    """Return whether root here can change to *uid*: a container may drop the capabilities, and map few uids."""
    try:
        os.setgroups(os.getgroups())  # changes nothing, and fails as it would for a handler
        ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    except PermissionError:
        return False
    except OSError:  # without /proc, the start of the handler shows it
        return True
    return has_capability(_CAP_SETUID) and any(
        int(first) <= uid < int(first) + int(count) for first, _, count in ranges
    )
