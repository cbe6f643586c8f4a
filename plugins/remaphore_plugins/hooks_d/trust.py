"""Check a handler before it runs: who could have written it, and that it is still the file that was checked.

A handler runs with the daemon's privileges for everyone who may send its verb. `remaphore.trust` checks the path; here
are the rules for the file itself.
"""

from __future__ import annotations

import os
import shlex
import stat
from dataclasses import dataclass

from remaphore.trust import Look, UnsafeError, check_owner, check_writers, lstat, walk

_DEV_NULL = os.makedev(1, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedFile:
    """A file that was found safe, and what must be the same when it is run.

    Every change of content, owner or modes changes the ctime, which, unlike the mtime, no system call can set.
    """

    path: str
    device: int
    inode: int
    ctime_ns: int


def check_file(path: str, *, user: int, look: Look = lstat) -> TrustedFile:
    """Walk from / to the file *path*; return what was found. *user*: the user that is trusted besides root.

    look: `lstat`, or a cached one, to check several paths as they are at one moment.

    Raise UnsafeError unless each component, and each of the target if it is a link, is owned by root or *user* and not
    writable by group or others, and the file is neither set-uid nor set-gid. /dev/null may be writable by all.
    """
    end, found = walk(path, user=user, look=look)
    if stat.S_ISCHR(found.st_mode) and found.st_rdev == _DEV_NULL and found.st_uid == 0:
        return _trusted(path, found)
    if not stat.S_ISREG(found.st_mode):
        raise UnsafeError(path, "no longer a file", "send the message again")
    check_owner(end, found, user=user)
    check_writers(end, found)
    if found.st_mode & (stat.S_ISUID | stat.S_ISGID):
        raise UnsafeError(end, "set-uid or set-gid", f"chmod ug-s {shlex.quote(end)}")
    return _trusted(path, found)


def check_same(trusted: TrustedFile) -> None:
    """Raise UnsafeError unless the path still leads to the same file, which was found safe a moment ago."""
    try:
        same = _trusted(trusted.path, os.stat(trusted.path)) == trusted  # noqa: PTH116
    except OSError as error:
        raise UnsafeError(trusted.path, f"cannot be examined: {error.strerror}", "send the message again") from None
    if not same:
        raise UnsafeError(trusted.path, "changed after it was checked", "send the message again")


def recheck(trusted: TrustedFile, *, user: int) -> None:
    """Check the file again, after another program has run. Raise UnsafeError if it is unsafe, or not the same."""
    if check_file(trusted.path, user=user) != trusted:
        raise UnsafeError(trusted.path, "changed after it was checked", "send the message again")


def _trusted(path: str, found: os.stat_result) -> TrustedFile:
    return TrustedFile(path=path, device=found.st_dev, inode=found.st_ino, ctime_ns=found.st_ctime_ns)
