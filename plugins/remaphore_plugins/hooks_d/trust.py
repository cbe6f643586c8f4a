"""Check who could have changed the target of a path: only root and the daemon's user, or others as well.

A handler runs with the daemon's privileges for everyone who may send its verb. So no other user may be able to write
to the file, to a directory on the way to it, or to anything that a link on the way leads through. Links are resolved
here, one component at a time, because each component is a place where another user could redirect the path.

Example. `/etc/hooks.d/deploy/10-a` is a link to `../../../opt/run`. These are checked, in this order:

    /  /etc  /etc/hooks.d  /etc/hooks.d/deploy   directories: owner and writers
    /etc/hooks.d/deploy/10-a                     the link: owner (the modes of a link have no effect)
    /  /opt                                      directories on the way to the target: owner and writers
    /opt/run                                     the file: owner, writers, neither set-uid nor set-gid
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

MAX_LINKS = 40  # as the kernel's, path_resolution(7)

_DEV_NULL = os.makedev(1, 3)


class UnsafeError(Exception):
    """*path* is unsafe. reason: what is wrong with it; hint: how to fix it, a command where there is one."""

    def __init__(self, path: str, reason: str, hint: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason, self.hint = path, reason, hint


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedFile:
    """A file that was found safe, and what must be the same when it is run.

    Every change of content, owner or modes changes the ctime, which, unlike the mtime, no system call can set.
    """

    path: str
    device: int
    inode: int
    ctime_ns: int


def lstat(path: str) -> os.stat_result:
    """Return the status of *path* itself, without following a link. Raise UnsafeError."""
    try:
        return os.lstat(path)
    except OSError as error:
        raise _lost(path, error) from None


Look = Callable[[str], os.stat_result]


def check_file(path: str, *, user: int, look: Look = lstat) -> TrustedFile:
    """Walk from / to the file *path*; return what was found. *user*: the user that is trusted besides root.

    look: `lstat`, or a cached one, to check several paths as they are at one moment.

    Raise UnsafeError unless each component, and each of the target if it is a link, is owned by root or *user* and not
    writable by group or others, and the file is neither set-uid nor set-gid. /dev/null may be writable by all.
    """
    end, found = _walk(path, user=user, look=look)
    if stat.S_ISCHR(found.st_mode) and found.st_rdev == _DEV_NULL and found.st_uid == 0:
        return _trusted(path, found)
    if not stat.S_ISREG(found.st_mode):
        raise UnsafeError(path, "no longer a file", "send the message again")
    _check_owner(end, found, user=user)
    _check_writers(end, found)
    if found.st_mode & (stat.S_ISUID | stat.S_ISGID):
        raise UnsafeError(end, "set-uid or set-gid", f"chmod ug-s {shlex.quote(end)}")
    return _trusted(path, found)


def check_directory(path: str, *, user: int, look: Look = lstat) -> None:
    """Walk to the directory *path*, whose entries decide what runs. Raise UnsafeError as `check_file` does.

    A sticky directory that others can write to is unsafe as well: they could not replace an entry, but add one.
    """
    end, found = _walk(path, user=user, look=look)
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeError(path, "no longer a directory", "send the message again")
    _check_owner(end, found, user=user)
    _check_writers(end, found)


def recheck(trusted: TrustedFile, *, user: int) -> None:
    """Check the file again, right before it is run. Raise UnsafeError if it is unsafe, or not the same as before."""
    if check_file(trusted.path, user=user) != trusted:
        raise UnsafeError(trusted.path, "changed after it was checked", "send the message again")


def _walk(path: str, *, user: int, look: Look) -> tuple[str, os.stat_result]:
    """Return the absolute *path* with all links resolved, and its status. Checks all components but the last."""
    todo = _components(path)
    here, found, links = "/", look("/"), 0
    while todo:
        name = todo.pop()
        if name == "..":
            here = str(PurePosixPath(here).parent)  # `here` contains no links, so this is what the kernel does
            found = look(here)
            continue
        _check_passage(here, found, user=user)
        step = f"{here.rstrip('/')}/{name}"
        there = look(step)
        if not stat.S_ISLNK(there.st_mode):
            here, found = step, there
            continue
        _check_owner(step, there, user=user)
        links += 1
        if links > MAX_LINKS:
            raise UnsafeError(path, f"goes through more than {MAX_LINKS} links", "replace some links by their targets")
        target = _read_link(step)
        todo += _components(target)
        if target.startswith("/"):
            here, found = "/", look("/")
    return here, found


def _components(path: str) -> list[str]:
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _read_link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115
    except OSError as error:
        raise _lost(path, error) from None


def _lost(path: str, error: OSError) -> UnsafeError:
    return UnsafeError(path, f"cannot be examined: {error.strerror}", "send the message again, or correct its path")


def _check_passage(path: str, found: os.stat_result, *, user: int) -> None:
    # In a sticky directory of root, such as /tmp, only its owner can replace an entry; and that owner is checked next.
    _check_owner(path, found, user=user)
    if not (found.st_mode & stat.S_ISVTX and found.st_uid == 0):
        _check_writers(path, found)


def _check_owner(path: str, found: os.stat_result, *, user: int) -> None:
    if found.st_uid not in (0, user):
        reason = f"owned by user id {found.st_uid}, which is neither root nor the daemon's user"
        raise UnsafeError(path, reason, f"chown -h root {shlex.quote(path)}")


def _check_writers(path: str, found: os.stat_result) -> None:
    # An ACL that lets another user write is seen here too: its mask is shown as the permissions of the group. acl(5)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        writers = "others" if found.st_mode & stat.S_IWOTH else "its group"
        raise UnsafeError(path, f"writable by {writers}", f"chmod go-w {shlex.quote(path)}")


def _trusted(path: str, found: os.stat_result) -> TrustedFile:
    return TrustedFile(path=path, device=found.st_dev, inode=found.st_ino, ctime_ns=found.st_ctime_ns)
