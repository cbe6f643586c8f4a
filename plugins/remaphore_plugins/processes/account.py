"""The user that a program runs as, and the variables that state it."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user as the system knows it. groups: all of its group ids, including *gid*."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    def environment(self) -> dict[str, bytes]:
        """Return HOME, USER and LOGNAME. Not SHELL: for a service user that is nologin, which programs would start."""
        name = os.fsencode(self.name)
        return {"HOME": os.fsencode(self.home), "USER": name, "LOGNAME": name}


def has_capability(number: int) -> bool:
    """Return whether we have the capability *number* of capabilities(7), also if that cannot be seen."""
    try:
        lines = Path("/proc/self/status").read_text(errors="replace").splitlines()
    except OSError:
        return True
    masks = [line.split()[1] for line in lines if line.startswith("CapEff:")]
    return not masks or bool(int(masks[0], 16) >> number & 1)


def own_account() -> Account:
    """Return the user that we run as. One that the system does not know has its uid as its name, and / as its home."""
    uid, gid = os.geteuid(), os.getegid()
    name, home = str(uid), ""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        pass
    else:
        name, home = entry.pw_name, entry.pw_dir
    return Account(name=name, uid=uid, gid=gid, groups=tuple({gid, *os.getgroups()}), home=home or "/")
