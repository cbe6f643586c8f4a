"""Writing files atomically: a reader, also after a crash, finds all of the new content or all of the old."""

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
    """A file to create. Its text may be a secret, which *mode* protects."""

    path: Path
    text: str
    mode: int


def create_all(wanted: Sequence[NewFile]) -> None:
    """Create all of these files, in this order, or none of them. Raise ConfigError, also if one of them exists."""
    made: list[Path] = []
    with contextlib.ExitStack() as stack:
        written = [(stack.enter_context(_temporary(new.path, new.text, new.mode)), new.path) for new in wanted]
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
    with _temporary(target, text, stat.S_IMODE(info.st_mode), like=(target, info)) as temporary, _reporting(path):
        temporary.replace(target)
        _sync(target.parent)


def make_folder(path: Path, *, mode: int = 0o755) -> None:
    """Create a directory, and its parents, unless it exists. Raise ConfigError."""
    with _reporting(path):
        path.mkdir(mode=mode, parents=True, exist_ok=True)


def delete(path: Path) -> None:
    """Delete a file. Raise ConfigError."""
    with _reporting(path):
        path.unlink()
        _sync(path.parent)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a lock, so that only one remaphore at a time edits files of *folder*. Raise ConfigError."""
    with _reporting(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: no worse than with an editor
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _temporary(path: Path, text: str, mode: int, *, like: tuple[Path, os.stat_result] | None = None) -> Iterator[Path]:
    """Write *text* to a file with another name next to *path*, and sync it. It is deleted at the end unless renamed."""
    with _reporting(path):
        # mkstemp creates it for its owner alone (O_EXCL, 0600); peers.d ignores the name.
        descriptor, name = tempfile.mkstemp(prefix=".remaphore-", suffix=".tmp", dir=path.parent)
    try:
        with _reporting(path), os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            if like is not None:
                original, info = like
                os.fchown(descriptor, info.st_uid, info.st_gid)
                # The ACL too: under an ACL the group bits of the mode are its mask, so that the copied mode alone would
                # give the group everything up to the mask.
                for attribute in os.listxattr(original):
                    with contextlib.suppress(OSError):  # security.* may be reserved to the kernel
                        os.setxattr(descriptor, attribute, os.getxattr(original, attribute))
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        yield Path(name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()


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
        raise ConfigError(f"{path}: already exists", hint="name another file, or move this one away") from None
    except UnicodeEncodeError:
        raise ConfigError(f"{path}: it contains a name that is not valid UTF-8", hint="choose another name") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        hint = "nothing was changed: fix the cause and repeat the command"
        raise ConfigError(f"{path}: cannot be written: {reason}", hint=hint) from None
