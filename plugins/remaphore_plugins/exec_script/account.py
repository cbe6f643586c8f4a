"""The user that a verb's handlers run as: its ids, its groups, its home."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass

from remaphore import PluginError


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user as the system knows it. groups: all of its group ids, with its own."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def look_up(name: str, *, setting: str) -> Account:
    """Return the user *name*, whom *setting* asks for. Raises PluginError if there is none, or we are not root."""
    if os.geteuid() != 0:
        raise PluginError(f"{setting}: only root can run handlers as another user; delete it, or run remaphore as root")
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise PluginError(f"{setting}: no such user; create it (adduser --system), or hint the name") from None
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(uid=entry.pw_uid, gid=entry.pw_gid, groups=groups, home=entry.pw_dir)


def own_home() -> str:
    """Return the home of the user that we run as, / if the system does not know it."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return "/"
