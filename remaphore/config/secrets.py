"""Reading the files of a configuration, and checking who else can read and write them.

A file is checked through the descriptor that it is read from, so that it cannot be exchanged between check and read.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shlex
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from remaphore import trust
from remaphore.config import characters, checks
from remaphore.config.settings import Problem
from remaphore.errors import ConfigError, KeyFormatError, resource_hint
from remaphore.protocol.keys import PrivateKey
from remaphore.text import describe_character

# More than ten times a configuration of 10,000 peers. It keeps a name such as /dev/zero from filling the memory.
MAX_FILE_BYTES = 16 * 1024 * 1024
# read(n) allocates n bytes, which takes longer than reading one of ten thousand drop-ins: start with less.
_USUAL_BYTES = 64 * 1024

# The one variable that is replaced in the names of files: where systemd puts the credentials of a service.
CREDENTIALS_VARIABLE = "$CREDENTIALS_DIRECTORY"

_ROOT = 0


def read_secret(path: Path, *, what: str, lenient: bool = False, warn: Callable[[Problem], None] | None = None) -> str:
    """Return the text of a file that contains a secret, without white space at its ends.

    what: its name and origin, for messages, such as `credentials`. Raise ConfigError, which never quotes the text, if
    the file is missing, a directory, unreadable, not text, or empty; and if its owner or mode let others read or change
    it, unless *lenient* (files of a legacy .conf): then *warn* is called with that problem instead.
    """
    raw, info = read_file(path, what=what)
    problem = mode_problem(info, path, user=os.geteuid())
    if problem is not None:
        found = problem.at(f"{path}: {what}")
        if not lenient:
            raise ConfigError(found.what, hint=found.hint)
        if warn is not None:
            warn(found)
    try:
        text = raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: {what}: not text", hint="check that it is the right file") from None
    if not text:
        raise ConfigError(f"{path}: {what}: empty file", hint="write the secret to it")
    return text


def read_file(path: str | Path, *, what: str, limit: int = MAX_FILE_BYTES) -> tuple[bytes, os.stat_result]:
    """Return the bytes of a file, at most *limit*, and the status of that same file. Raise ConfigError."""
    try:
        with open(path, "rb", opener=_open) as file:
            raw = file.read(_USUAL_BYTES)
            if len(raw) == _USUAL_BYTES:
                raw += file.read(limit + 1 - _USUAL_BYTES)
            return _contents(raw, path, what, limit), os.fstat(file.fileno())
    except FileNotFoundError:
        raise ConfigError(f"{path}: {what}: no such file", hint=missing_hint(str(path))) from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: {what}: is a directory", hint="name a file in it") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        hint = resource_hint(error) or "check the name, and who may read the file"
        if isinstance(error, PermissionError):
            hint = _denied_hint(Path(path))
        raise ConfigError(f"{path}: {what}: cannot be read: {reason}", hint=hint) from None
    except ValueError:  # such as a NUL byte in it
        raise ConfigError(f"{str(path)!r}: {what}: not a valid file name", hint="correct the name") from None


def missing_hint(path: str, *, create: str = "check the name of the file") -> str:
    """Return how to fix the name *path*, which does not exist. create: the hint if nothing is wrong with the name."""
    if CREDENTIALS_VARIABLE in path.split("/"):
        where = "for a service whose unit has LoadCredential="
        return f"{CREDENTIALS_VARIABLE} is only set by systemd, {where}: name a file, or run the unit"
    if any(part.startswith(("~", "$")) for part in path.split("/")):
        return "write the full path: neither ~ nor a variable is replaced in a file name"
    deceptive = next((each for each in path if characters.find(f"x{each}x") is not None), "")
    if deceptive or path.endswith(" "):
        return f"delete or replace {describe_character(deceptive or ' ')} in the name"
    return create


def _denied_hint(path: Path) -> str:
    """Return how to let our user read *path*, which exists, or is in a directory that our user may not enter."""
    user = os.geteuid()
    for place in (path, *path.absolute().parents):
        with contextlib.suppress(OSError):
            info = place.stat()
            name = _real_name(place)
            if stat.S_ISDIR(info.st_mode):
                return f"let uid {user} enter {name}, or run this command as uid {info.st_uid}"
            if trust.is_read_only(str(place)):
                return f"let uid {user} read it: {_mount_hint(user)}"
            if info.st_uid not in (_ROOT, user):
                return f"run this command as uid {info.st_uid}, which owns {name}, or name a file of uid {user}"
            group = f"as root: chgrp {os.getegid()} {name} && chmod 0640 {name}"
            return f"let uid {user} read it ({group}), or run this command as uid {info.st_uid}"
    return "check the name, and who may read the file"


def read_stdin(*, what: str, limit: int | None = None) -> bytes:
    """Return all bytes of stdin, at most *limit* (default: as many as a file may have). Raise ConfigError."""
    limit = limit or MAX_FILE_BYTES
    if sys.stdin is None:
        raise ConfigError(f"stdin: {what}: stdin is closed", hint="name a file, or open stdin")
    try:
        return _contents(sys.stdin.buffer.read(limit + 1), "stdin", what, limit)
    except OSError as error:
        raise ConfigError(f"stdin: {what}: cannot be read: {error.strerror}", hint="name a file") from None


def _open(path: str, flags: int) -> int:
    """Open *path*, also the pipe of `-c <(...)`. A FIFO that has a name would block until another process opens it."""
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode) and not os.path.realpath(path).startswith("/proc/"):
        os.close(descriptor)
        raise OSError(errno.ENXIO, "is a FIFO, not a file")
    return descriptor


def _contents(raw: bytes, path: str | Path, what: str, limit: int) -> bytes:
    if len(raw) > limit:
        hint = "check that it is the right file"
        raise ConfigError(f"{path}: {what}: larger than {limit} bytes", hint=hint)
    return raw


def mode_problem(info: os.stat_result, path: str | Path, *, user: int) -> Problem | None:
    """Return who else can read or change a secret's file, with its fix as the hint, or None.

    user: the uid that reads it. The file must be owned by that user or root. A group may read it if root owns it, for
    only root can have chosen that group, or if it is a group of ours; a service's own group has no other members.
    """
    if info.st_uid not in (_ROOT, user):
        hint = f"{trust.replace_hint(str(path))} as uid {user} (or run this command as uid {info.st_uid})"
        return Problem(f"owned by uid {info.st_uid}, who can change it", hint)
    found = []
    if info.st_mode & stat.S_IROTH:
        found.append("others can read it")
    if info.st_mode & stat.S_IRGRP and info.st_uid != _ROOT and info.st_gid not in {os.getegid(), *os.getgroups()}:
        found.append(f"group {info.st_gid}, which is not ours, can read it")
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        found.append("group or others can write it")
    if not found:
        return None
    what = f"{' and '.join(found)} (mode {stat.S_IMODE(info.st_mode):04o})"
    return Problem(what, _mode_hint(info, path, user=user))


def _mode_hint(info: os.stat_result, path: str | Path, *, user: int) -> str:
    """Return how to fix the mode of the file *path*: on a read-only mount, as of a container's secret, no chmod can."""
    if trust.is_read_only(os.fspath(path)):
        return _mount_hint(user)
    name = _real_name(path)
    fix = f"chmod 0600 {name}"
    if info.st_uid != user:  # it is root's: without "others", only its group lets us read it
        fix = f"as root: chgrp {os.getegid()} {name} && chmod 0640 {name}"
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may have changed it: look at {name}, install it again if they have, and then: {fix}"
    return fix


def _real_name(path: str | Path) -> str:
    """Return what *path* leads to, for a command: who typed the name of a link would not see what it changes."""
    real = os.path.realpath(path)
    return shlex.quote(str(path) if real == os.path.abspath(path) else real)  # noqa: PTH100 - `..` must be resolved


def _mount_hint(user: int) -> str:
    return (
        "it is mounted read-only, so set the mode where it is mounted: for Kubernetes defaultMode: 0400 in the volume"
        f" and fsGroup: {os.getegid()} in the securityContext, for Docker mode: 0400 and uid: {user} of the secret;"
        f" or copy it to a file of mode 0600 of uid {user}"
    )


def private_key_loader(path: Path, *, public: str, what: str) -> Callable[[], PrivateKey]:
    """Return a function that returns the private key of *public*. It reads *path* once, when it is first called.

    The function raises ConfigError as `read_secret` does, and if the text is not the private key of *public*.
    """

    @functools.cache
    def load() -> PrivateKey:
        text = read_secret(path, what=what)
        try:
            return checks.private_key(text, public=public)
        except KeyFormatError as error:
            deceptive = characters.describe(text)
            hint = f"delete {deceptive}" if deceptive else error.hint
            raise ConfigError(f"{path}: {what}: {error}", hint=hint) from None

    return load
