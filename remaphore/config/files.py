"""Writing files so that a reader, and whoever comes after a crash, finds all of the new content or all of the old."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from remaphore.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A file that is to be made: its text may be a secret, which *mode* keeps."""

    path: Path
    text: str
    mode: int


def create_all(wanted: Sequence[NewFile]) -> None:
    """Make all of these files, in this order, or none of them. Raises ConfigError, also if one of them exists."""
    made: list[Path] = []
    with contextlib.ExitStack() as stack:
        written = [(stack.enter_context(_temporary(new.path, new.text, new.mode)), new.path) for new in wanted]
        try:
            for temporary, path in written:
                with _reporting(path):
                    os.link(temporary, path)  # takes no name that is taken, and the file has all of its content
                made.append(path)
                _sync(path.parent)
        except BaseException:
            for path in made:
                path.unlink()
            raise


def replace(path: Path, text: str) -> None:
    """Give an existing file the content *text*; mode, owner and attributes stay, and a link stays a link.

    Raises ConfigError, and then the file is as it was.
    """
    with _reporting(path):
        target = path.resolve(strict=True)
        info = target.stat()
    with _temporary(target, text, stat.S_IMODE(info.st_mode), like=(target, info)) as temporary, _reporting(path):
        temporary.replace(target)
        _sync(target.parent)


def make_folder(path: Path, *, mode: int = 0o755) -> None:
    """Make a directory, unless it is there. Raises ConfigError."""
    with _reporting(path):
        path.mkdir(mode=mode, parents=True, exist_ok=True)


def delete(path: Path) -> None:
    """Delete a file. Raises ConfigError."""
    with _reporting(path):
        path.unlink()
        _sync(path.parent)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait until no other remaphore edits files of *folder*, and hold others off meanwhile."""
    with _reporting(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: no worse than an editor
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _temporary(path: Path, text: str, mode: int, *, like: tuple[Path, os.stat_result] | None = None) -> Iterator[Path]:
    """Write *text* to a file of another name beside *path*, down to the disk; it is gone at the end, or renamed."""
    with _reporting(path):
        # mkstemp makes it for its owner alone (O_EXCL, 0600); the name is one that peers.d does not read.
        descriptor, name = tempfile.mkstemp(prefix=".remaphore-", suffix=".tmp", dir=path.parent)
    try:
        with _reporting(path), os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            if like is not None:
                _resemble(descriptor, *like)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        yield Path(name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()


def _resemble(descriptor: int, original: Path, info: os.stat_result) -> None:
    os.fchown(descriptor, info.st_uid, info.st_gid)
    # Without its ACL, the mode would give the group what the ACL's mask says.
    for name in os.listxattr(original):
        with contextlib.suppress(OSError):  # security.* may be the kernel's business alone
            os.setxattr(descriptor, name, os.getxattr(original, name))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _reporting(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise ConfigError(f"{path}: exists, and nothing is overwritten; name another file, or move it away") from None
    except UnicodeEncodeError:
        raise ConfigError(f"{path}: a name in it would not be UTF-8, so nothing was changed; choose another") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"{path}: cannot be written ({reason}); nothing was changed, hint that and repeat") from None
