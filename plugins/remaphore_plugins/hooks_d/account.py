"""The user that a verb's handlers run as: its ids, its groups, its home directory."""

from __future__ import annotations

import os
import pwd

from remaphore import PluginError
from remaphore_plugins.processes.run import Account


def look_up(name: str, *, setting: str) -> Account:
    """Return the user *name*, which *setting* names. Raise PluginError if there is none, or if we are not root."""
    if os.geteuid() != 0:
        raise PluginError(
            f"{setting}: only root can run handlers as another user", hint="delete it, or run remaphore as root"
        )
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise PluginError(
            f"{setting}: no such user: {name!r}", hint="create it (adduser --system), or correct the name"
        ) from None
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(uid=entry.pw_uid, gid=entry.pw_gid, groups=groups, home=entry.pw_dir)


def own_home() -> str:
    """Return the home directory of the user that we run as, / if the system does not know that user."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return "/"
