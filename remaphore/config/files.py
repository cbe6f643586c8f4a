"""Writing files atomically, and making directories whose modes do not depend on the umask.

A reader of a file, also after a crash, finds all of the new content or all of the old. A directory that is to be
private is checked before it is used: another user may have prepared it, or a link in its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from remaphore import trust
from remaphore.errors import ConfigError

FOLDER_MODE = 0o755  # a configuration holds no secret: its user may be another than the one who creates it
PRIVATE_MODE = 0o700
LOCK_SECONDS = 10.0  # to wait for another edit, which takes milliseconds: one that takes longer is stopped, or hangs
LEFTOVER = ".remaphore-*.tmp"  # pattern of the names of files that are being written

_LOCK_AGAIN = 0.01  # seconds
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A file to create. Its text may be a secret, which *mode* protects.

    like: the file or directory whose owner and group it gets, if we are root; None for our own.
    """

    path: Path
    text: str
    mode: int
    like: Path | None = None


def create_all(wanted: Sequence[NewFile]) -> None:
    """Create all of these files, in this order, or none of them. Raise ConfigError, also if one of them exists."""
    made: list[Path] = []
    with contextlib.ExitStack() as stack:
        written = [
            (stack.enter_context(_temporary(new.path, new.text, new.mode, owner=_owner(new.like))), new.path)
            for new in wanted
        ]
        try:
            for temporary, path in written:
                with _reporting(path):
                    os.link(temporary, path)  # fails if the name exists, and the file has all of its content
                made.append(path)
                _sync(path.parent)
        except BaseException:
            for path in made:
                path.unlink()
            raise


def replace(path: Path, text: str) -> None:
    """Replace the content of an existing file by *text*; mode, owner and attributes stay, and a link stays a link.

    Raise ConfigError, and then the file is unchanged.
    """
    with _reporting(path):
        target = path.resolve(strict=True)
        info = target.stat()
    with (
        _temporary(target, text, stat.S_IMODE(info.st_mode), owner=info, attributes_of=target) as temporary,
        _reporting(path),
    ):
        temporary.replace(target)
        _sync(target.parent)


def write(path: Path, text: str, *, mode: int) -> None:
    """Write *text* to a new file of *mode*, which then takes the name *path*, whether or not a file had it.

    A link of that name is replaced and not followed, as another user could have made it. Raise ConfigError, and then
    the earlier file is unchanged.
    """
    _check_replaceable(path)
    with _temporary(path, text, mode) as temporary, _reporting(path):
        temporary.replace(path)
        _sync(path.parent)


def check_writable(path: Path) -> None:
    """Raise ConfigError if `write` could not write *path* now, or if it is a link. Nothing is left behind.

    Of all links, /dev/stdout is the one that is named most, and a file in its place would harm the whole system.
    """
    _check_replaceable(path)
    if path.is_symlink():
        raise ConfigError(f"{path}: is a symbolic link", hint="name a file: a link would be replaced, not followed")
    with _temporary(path, "", PRIVATE_MODE):
        pass


def _check_replaceable(path: Path) -> None:
    """Raise ConfigError if *path* is a directory or a device: nothing may take the place of /dev/null."""
    with _reporting(path):
        if os.path.lexists(path) and stat.S_IFMT(path.lstat().st_mode) not in (stat.S_IFREG, stat.S_IFLNK):
            raise ConfigError(f"{path}: not a regular file", hint="name a file that may be replaced")


def make_folder(path: Path, *, mode: int = FOLDER_MODE, like: Path | None = None) -> None:
    """Create a directory of *mode*, and its parents of FOLDER_MODE, unless it exists. Raise ConfigError.

    The umask has no effect: with 077, the daemon's user could not read what root creates, and with 0 all could write.
    like: as for NewFile.
    """
    with _reporting(path):
        _make(path, mode, owner=_owner(like))


def check_private(path: Path) -> None:
    """Check whether `open_private` can use the directory *path*. Nothing is created. Raise UnsafeError or OSError."""
    user = os.geteuid()
    path = path.absolute()
    way = path.parent
    while not os.path.lexists(way):
        way = way.parent
    trust.check_way(str(way), user=user)
    if os.path.lexists(path):
        os.close(_open_own(path))


def open_private(path: Path) -> int:
    """Return a descriptor of the directory *path*, which only we can enter; it is created if it does not exist.

    Neither the directory nor anything in it may be another user's, nor a link lead to it. Nothing is changed unless
    all of that is checked. Raise UnsafeError or OSError.
    """
    path = path.absolute()
    check_private(path)
    _make(path, PRIVATE_MODE)
    descriptor = _open_own(path)
    os.fchmod(descriptor, PRIVATE_MODE)
    return descriptor


def _owner(like: Path | None) -> os.stat_result | None:
    return like.stat() if like is not None and os.geteuid() == 0 and like.exists() else None


def _make(path: Path, mode: int, *, owner: os.stat_result | None = None) -> None:
    missing = []
    for each in (path, *path.parents):
        if each.exists():
            break
        missing.append(each)
    for each in reversed(missing):
        try:
            each.mkdir(mode=PRIVATE_MODE)
        except FileExistsError:
            if each == path and not each.is_dir():
                raise
            continue  # made meanwhile: its mode is that of the other process
        descriptor = os.open(each, _DIRECTORY | os.O_NOFOLLOW)
        try:
            # It may have inherited set-gid, which gives everything in it the group of the directory above.
            inherited = os.fstat(descriptor).st_mode & stat.S_ISGID
            if owner is not None:
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            os.fchmod(descriptor, inherited | (mode if each == path else FOLDER_MODE))
        finally:
            os.close(descriptor)


def _open_own(path: Path) -> int:
    """Return a descriptor of the existing directory *path*. Raise UnsafeError if it, or what is in it, is not ours."""
    user = os.geteuid()
    try:
        descriptor = os.open(path, _DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        if path.is_symlink():
            hint = "name the directory that it leads to, or delete it"
            raise trust.UnsafeError(str(path), "a symbolic link", hint) from None
        raise
    try:
        found = os.fstat(descriptor)
        _check_own(path, found, user=user)
        shared = bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
        with os.scandir(descriptor) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile, such as by a daemon that ends
                    _check_entry(path / entry.name, entry.stat(follow_symlinks=False), user=user, shared=shared)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_own(path: Path, found: os.stat_result, *, user: int) -> None:
    if found.st_uid != user:
        hint = f"run remaphore as its owner, or name another directory (look at it: ls -la {shlex.quote(str(path))})"
        raise trust.UnsafeError(str(path), f"owned by user id {found.st_uid}, we are {user}", hint)
    if found.st_mode & stat.S_ISVTX:
        raise trust.UnsafeError(str(path), "a directory for all users (sticky)", "name a directory in it")


def _check_entry(path: Path, found: os.stat_result, *, user: int, shared: bool) -> None:
    """Raise UnsafeError if *path* is another user's; if others can write to its directory, also if it is a link."""
    trust.check_owner(str(path), found, user=user)
    # The second name of a file has the owner of the first.
    linked = stat.S_ISLNK(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink > 1)
    if shared and linked:
        raise trust.UnsafeError(str(path), "a link in a directory that others can write to", "delete it")


def delete(path: Path) -> None:
    """Delete a file. Raise ConfigError."""
    with _reporting(path):
        path.unlink()
        _sync(path.parent)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a lock, so that only one remaphore at a time edits files of *folder*.

    Raise ConfigError, also if another one has it for LOCK_SECONDS.
    """
    with _reporting(folder):
        descriptor = os.open(folder, _DIRECTORY)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    limit = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > limit:
                what = f"{folder}: another program has been editing its files for {LOCK_SECONDS:g} s"
                raise ConfigError(what, hint="end it (lslocks shows it), and repeat the command") from None
            time.sleep(_LOCK_AGAIN)
        except OSError:  # a file system without locks: no worse than with an editor
            return
        else:
            return


@contextlib.contextmanager
def _temporary(
    path: Path,
    text: str,
    mode: int,
    *,
    owner: os.stat_result | None = None,
    attributes_of: Path | None = None,
) -> Iterator[Path]:
    """Write *text* to a file with another name next to *path*, and sync it. It is deleted at the end unless renamed."""
    with _reporting(path):
        # mkstemp creates it for its owner alone (O_EXCL, 0600); peers.d ignores the name.
        prefix, suffix = LEFTOVER.split("*")
        descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=path.parent)
    try:
        with _reporting(path), os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            if owner is not None:
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            if attributes_of is not None:
                # The ACL too: under an ACL the group bits of the mode are its mask, so that the copied mode alone would
                # give the group everything up to the mask.
                for attribute in os.listxattr(attributes_of):
                    with contextlib.suppress(OSError):  # security.* may be reserved to the kernel
                        os.setxattr(descriptor, attribute, os.getxattr(attributes_of, attribute))
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        yield Path(name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, _DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _reporting(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise ConfigError(f"{path}: already exists", hint="name another file, or move this one away") from None
    except UnicodeEncodeError:
        raise ConfigError(f"{path}: it contains a name that is not valid UTF-8", hint="choose another name") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        hint = "nothing was changed: fix the cause and repeat the command"
        raise ConfigError(f"{path}: cannot be written: {reason}", hint=hint) from None
