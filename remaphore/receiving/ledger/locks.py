"""Locks of the file system of a state directory. Some have none: NFS without its lock service, some of FUSE and 9p.

Two kinds are needed: that of flock(2) lets one daemon use the directory, and SQLite uses those of fcntl(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from remaphore.errors import StateError, resource_hint

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_NO_SPACE = "free some space, or inodes, on the file system (df, df -i)"
_HINTS = {
    errno.EROFS: "mount the file system so that it can be written, or set state_dir to a directory on another one",
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EIO: "check the disk: dmesg shows what the kernel reports about it",
    errno.ELOOP: "replace the symbolic link by a directory or file of its own, or set state_dir to another directory",
    errno.ENOTDIR: "move the file of this name away, or set state_dir to another directory",
    errno.ENAMETOOLONG: "set state_dir to a shorter path",
}


def hint(error: OSError) -> str:
    """Return how to fix *error*, which concerns the state directory."""
    known = resource_hint(error) or _HINTS.get(error.errno or 0, "")
    return known or "set state_dir to a directory that this user can write to"


def acquire(descriptor: int, folder: Path) -> bool:
    """Lock the open file of *folder*; return False if another process has its lock. Raise StateError."""
    # `remaphore check` holds the lock for a moment, to see whether a daemon does: that is no other daemon.
    for pause in (0.05, 0.1, 0.2, None):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if pause is not None:
                time.sleep(pause)
        except OSError as error:
            raise _unlocked(error, folder) from error
        else:
            return True
    return False


def probe(folder: Path) -> None:
    """Raise StateError if *folder* has not both kinds of locks. Nothing stays in it.

    What keeps a file from being created there is not reported: that is another problem than locks.
    """
    try:
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - its errors are others than those of the locks
    except OSError:
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)  # on NFS both kinds are the same, and would wait for each other
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _unlocked(error, folder) from error


def _unlocked(error: OSError, folder: Path) -> StateError:
    if error.errno not in _NO_LOCKS:
        return StateError(f"state directory {folder}: cannot be locked: {error.strerror}", hint=hint(error))
    return StateError(
        f"state directory {folder}: no locks available on its file system ({_file_system(folder)}: {error.strerror})",
        hint="set state_dir to a directory on a local file system; on NFS, start its lock service",
    )


def _file_system(folder: Path) -> str:
    """Return the type of the file system of *folder*, such as nfs4, from proc_pid_mountinfo(5)."""
    with suppress(OSError, ValueError, IndexError):
        device = folder.stat().st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
            if line.split()[2] == number:
                return line.partition(" - ")[2].split()[0]
    return "unknown type"
