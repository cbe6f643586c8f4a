"""Check who could have changed the target of a path: only root and our own user, or others as well.

What a handler, a configuration or the ledger's directory contains decides what the daemon does, with its privileges. So
no other user may be able to write to the file, to a directory on the way to it, or to anything that a link on the way
leads through. Links are resolved here, one component at a time, because each component is a place where another user
could redirect the path.

Example. `/etc/hooks.d/deploy/10-a` is a link to `../../../opt/run`. These are checked, in this order:

    /  /etc  /etc/hooks.d  /etc/hooks.d/deploy   directories: owner and writers
    /etc/hooks.d/deploy/10-a                     the link: owner (the modes of a link have no effect)
    /  /opt                                      directories on the way to the target: owner and writers
    /opt/run                                     the file: owner and writers
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable

__all__ = [
    "MAX_LINKS",
    "Look",
    "UnsafeError",
    "check_directory",
    "check_owner",
    "check_way",
    "check_writers",
    "is_read_only",
    "lstat",
    "replace_hint",
    "walk",
]

MAX_LINKS = 40
"""The most links that a path may go through, as the kernel's limit (path_resolution(7))."""

_ROOT = 0
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class UnsafeError(Exception):
    """*path* is unsafe. reason: what is wrong with it; hint: how to fix it.

    Where another user could have written, the hint never is a command alone: it would make that user's work ours.
    """

    def __init__(self, path: str, reason: str, hint: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason, self.hint = path, reason, hint


Look = Callable[[str], os.stat_result]
"""The type of `lstat`, and of a function in its place, such as one that remembers what it has looked at."""


def lstat(path: str) -> os.stat_result:
    """Return the status of *path* itself, without following a link. Raise UnsafeError."""
    try:
        return os.lstat(path)
    except OSError as error:
        raise _lost(path, error) from None


def walk(path: str, *, user: int, look: Look = lstat) -> tuple[str, os.stat_result]:
    """Walk from / to *path*; return its absolute path with all links resolved, and its status, which is not checked.

    user: the user that is trusted besides root. look: `lstat`, or a cached one, to check several paths as they are at
    one moment. Raise UnsafeError unless each component before the last, also of the target of a link, is owned by root
    or *user* and not writable by group or others.
    """
    todo = _components(path if path.startswith("/") else f"{_current(path)}/{path}")
    here, found, links = "/", look("/"), 0
    trusted = (_ROOT, user)
    while todo:
        name = todo.pop()
        if name == "..":
            here = here.rpartition("/")[0] or "/"  # `here` contains no links, so this is what the kernel does
            found = look(here)
            continue
        if found.st_mode & _OTHERS_WRITE or found.st_uid not in trusted:  # else it passes, as nearly always
            _check_passage(here, found, user=user)
        step = f"{here}/{name}" if here != "/" else f"/{name}"
        there = look(step)
        if not stat.S_ISLNK(there.st_mode):
            here, found = step, there
            continue
        check_owner(step, there, user=user)
        links += 1
        if links > MAX_LINKS:
            raise UnsafeError(path, f"goes through more than {MAX_LINKS} links", "replace some links by their targets")
        target = _read_link(step)
        todo += _components(target)
        if target.startswith("/"):
            here, found = "/", look("/")
    return here, found


def check_directory(path: str, *, user: int, look: Look = lstat) -> None:
    """Walk to the directory *path*, whose entries decide what happens. Raise UnsafeError as `walk` does.

    A sticky directory that others can write to is unsafe as well: they could not replace an entry, but add one; unless
    its file system is mounted read-only, as the volumes of Kubernetes are, which have this mode.
    """
    end, found = walk(path, user=user, look=look)
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeError(path, "not a directory", "put a directory in its place, or correct the path")
    if found.st_uid == _ROOT and found.st_mode & stat.S_ISVTX and is_read_only(end):
        return
    check_owner(end, found, user=user)
    check_writers(end, found)


def check_way(path: str, *, user: int) -> None:
    """Walk to the directory *path*, in which an entry is ours, or will be. Raise UnsafeError.

    Unlike in `check_directory`, others may add entries to it if it is a sticky directory of root, such as /tmp.
    """
    end, found = walk(path, user=user)
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeError(path, "not a directory", "put a directory in its place, or correct the path")
    _check_passage(end, found, user=user)


def check_owner(path: str, found: os.stat_result, *, user: int) -> None:
    """Raise UnsafeError unless root or *user* owns *path*, whose status is *found*."""
    if found.st_uid not in (_ROOT, user):
        # Not "the daemon's user": root may examine what the daemon of another user would run.
        trusted = f"neither root nor user id {user}" if user != _ROOT else "not root"
        reason = f"owned by user id {found.st_uid}, which is {trusted}"
        raise UnsafeError(path, reason, replace_hint(path))


def check_writers(path: str, found: os.stat_result) -> None:
    """Raise UnsafeError if group or others can write to *path*, whose status is *found*."""
    # An ACL that lets another user write is seen here too: its mask is shown as the permissions of the group. acl(5)
    if found.st_mode & _OTHERS_WRITE:
        writers = "others" if found.st_mode & stat.S_IWOTH else "its group"
        name = shlex.quote(path)
        look = f"look at {name} and what is in it" if stat.S_ISDIR(found.st_mode) else f"look at {name}"
        hint = (
            f"{look}: they may have changed it; delete or install again what they changed, and then: chmod go-w {name}"
        )
        raise UnsafeError(path, f"writable by {writers}", hint)


def replace_hint(path: str) -> str:
    """Return the hint for *path*, which another user owns. A new owner would make that user's work ours."""
    return f"look at {shlex.quote(path)}, which is another user's; then delete it, or install it again"


def is_read_only(path: str) -> bool:
    """Return whether *path* is on a file system that is mounted read-only."""
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _current(path: str) -> str:
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError as error:
        raise _lost(path, error) from None


def _components(path: str) -> list[str]:
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _read_link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115
    except OSError as error:
        raise _lost(path, error) from None


def _lost(path: str, error: OSError) -> UnsafeError:
    return UnsafeError(path, f"cannot be examined: {error.strerror}", "try again, or correct its path")


def _check_passage(path: str, found: os.stat_result, *, user: int) -> None:
    # In a sticky directory of root, such as /tmp, only its owner can replace an entry; and that owner is checked next.
    check_owner(path, found, user=user)
    if not (found.st_mode & stat.S_ISVTX and found.st_uid == _ROOT):
        check_writers(path, found)
