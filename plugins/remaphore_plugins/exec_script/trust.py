"""Who could have decided what a path leads to: root and ourselves, or somebody else.

A handler runs with our rights for whoever may send its verb, so nobody else may write to it, to a directory on the way
to it, or to anything that a link leads over. Links are resolved by hand, one component at a time, because each of them
is a place where a path can be bent.
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
    """Something on the way to *path* is not safe: *reason* says what, *hint* the command that makes it so."""

    def __init__(self, path: str, reason: str, hint: str) -> None:
        super().__init__(f"{path}: {reason}; {hint}")
        self.path, self.reason, self.hint = path, reason, hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """A file that was found safe, and what must be the same when it is run: nothing but a change alters its ctime."""

    path: str
    device: int
    inode: int
    ctime_ns: int


def look_at(path: str) -> os.stat_result:
    """Return what is at *path* now, links not followed. Raises UnsafeError."""
    try:
        return os.lstat(path)
    except OSError as error:
        raise _lost(path, error) from None


Look = Callable[[str], os.stat_result]


def judge(path: str, *, user: int, look: Look = look_at) -> Seal:
    """Walk from / to the file *path*; return what was found. *user*: who is trusted beside root.

    look: `look_at`, or one that remembers, for who judges several paths as they are at one moment.

    Raises UnsafeError unless each component, and each of the target if it is a link, is owned by root or *user* and not
    writable by others, and the file is neither set-uid nor set-gid. /dev/null may be written by all.
    """
    end, found = _walk(path, user=user, look=look)
    if stat.S_ISCHR(found.st_mode) and found.st_rdev == _DEV_NULL and found.st_uid == 0:
        return _seal(path, found)
    if not stat.S_ISREG(found.st_mode):
        raise UnsafeError(path, "no longer a file", "send the message again")
    _check_owner(end, found, user=user)
    _check_writers(end, found)
    if found.st_mode & (stat.S_ISUID | stat.S_ISGID):
        raise UnsafeError(end, "set-uid or set-gid", f"chmod ug-s {shlex.quote(end)}")
    return _seal(path, found)


def judge_folder(path: str, *, user: int, look: Look = look_at) -> None:
    """Walk to the directory *path*, whose list of names decides what runs. Raises UnsafeError as `judge` does.

    A sticky one that others may write is no better here: they could not replace an entry, but could add one.
    """
    end, found = _walk(path, user=user, look=look)
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeError(path, "no longer a directory", "send the message again")
    _check_owner(end, found, user=user)
    _check_writers(end, found)


def confirm(seal: Seal, *, user: int) -> None:
    """Judge the file of *seal* again, right before it is run. Raises UnsafeError also if it is not the same."""
    if judge(seal.path, user=user) != seal:
        raise UnsafeError(seal.path, "changed after it was checked", "send the message again")


def _walk(path: str, *, user: int, look: Look) -> tuple[str, os.stat_result]:
    """Return where *path*, an absolute one, leads to without links. All on the way is checked; the end is not."""
    todo = _components(path)
    here, found, links = "/", look("/"), 0
    while todo:
        name = todo.pop()
        if name == "..":
            here = str(PurePosixPath(here).parent)  # there are no links in it
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
            raise UnsafeError(path, f"leads over more than {MAX_LINKS} links", "shorten the way")
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
    return UnsafeError(path, f"cannot be looked at: {error.strerror}", "send the message again, or hint its directory")


def _check_passage(path: str, found: os.stat_result, *, user: int) -> None:
    # In a sticky directory of root's, as /tmp, an entry belongs to its owner; and the next component's is checked.
    _check_owner(path, found, user=user)
    if not (found.st_mode & stat.S_ISVTX and found.st_uid == 0):
        _check_writers(path, found)


def _check_owner(path: str, found: os.stat_result, *, user: int) -> None:
    if found.st_uid not in (0, user):
        reason = f"owned by user id {found.st_uid}, who is neither root nor the daemon's user"
        raise UnsafeError(path, reason, f"chown -h root {shlex.quote(path)}")


def _check_writers(path: str, found: os.stat_result) -> None:
    # An ACL that lets somebody else write shows here too: its mask stands in the bits of the group. acl(5)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        who = "others" if found.st_mode & stat.S_IWOTH else "its group"
        raise UnsafeError(path, f"writable by {who}", f"chmod go-w {shlex.quote(path)}")


def _seal(path: str, found: os.stat_result) -> Seal:
    return Seal(path=path, device=found.st_dev, inode=found.st_ino, ctime_ns=found.st_ctime_ns)
