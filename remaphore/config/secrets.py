"""Reading the files that a configuration is made of or names, and judging who else can read and write them.

A file is judged by the descriptor that it is read from, so that it cannot be exchanged between the two.
"""

from __future__ import annotations

import functools
import os
import shlex
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from remaphore.config import checks
from remaphore.errors import ConfigError, KeyFormatError
from remaphore.protocol.keys import PrivateKey

# More than ten times a configuration of 10,000 peers. It keeps a name such as /dev/zero from eating the memory.
MAX_FILE_BYTES = 16 * 1024 * 1024
# read() makes room for all that it might get, which takes longer than reading one of ten thousand drop-ins.
_USUAL_BYTES = 64 * 1024

_ROOT = 0


def read_secret(path: Path, *, what: str, lenient: bool = False, warn: Callable[[str], None] | None = None) -> str:
    """Return the text of a file that holds a secret, without white space at its ends.

    *what* says what it is and who names it, for messages. Raises ConfigError, which never quotes the text, if it is
    missing, a directory, unreadable, not text or empty; and if its owner or mode let others read it or change it,
    unless *lenient* (the original's files): then *warn* gets that message instead.
    """
    raw, info = read_file(path, what=what)
    problem = mode_problem(info, path, user=os.geteuid())
    if problem is not None:
        message = f"{path}: {what}: {problem}"
        if not lenient:
            raise ConfigError(message)
        if warn is not None:
            warn(message)
    try:
        text = raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: {what}: not text; check that it is the right file") from None
    if not text:
        raise ConfigError(f"{path}: {what}: the file is empty; write the secret to it")
    return text


def read_file(path: str | Path, *, what: str) -> tuple[bytes, os.stat_result]:
    """Return the bytes of a file, and the status of the very file that they came from. Raises ConfigError."""
    try:
        with open(path, "rb", opener=_open) as file:
            raw = file.read(_USUAL_BYTES)
            if len(raw) == _USUAL_BYTES:
                raw += file.read(MAX_FILE_BYTES + 1 - _USUAL_BYTES)
            return _contents(raw, path, what), os.fstat(file.fileno())
    except FileNotFoundError:
        raise ConfigError(f"{path}: {what}: no such file; check the name, or write the file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: {what}: a directory; name a file in it") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"{path}: {what}: cannot be read ({reason}); check the name and who may read it") from None
    except ValueError:
        raise ConfigError(f"{str(path)!r}: {what}: no file can have this name; correct it") from None


def read_stdin(*, what: str) -> bytes:
    """Return the bytes that stdin holds, no more of an endless one than of a file. Raises ConfigError."""
    if sys.stdin is None:
        raise ConfigError(f"stdin: {what}: it is closed; name a file, or open it")
    try:
        return _contents(sys.stdin.buffer.read(MAX_FILE_BYTES + 1), "stdin", what)
    except OSError as error:
        raise ConfigError(f"stdin: {what}: cannot be read ({error.strerror}); name a file") from None


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY)


def _contents(raw: bytes, path: str | Path, what: str) -> bytes:
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: {what}: larger than {MAX_FILE_BYTES} bytes; check that it is the right file")
    return raw


def mode_problem(info: os.stat_result, path: str | Path, *, user: int) -> str | None:
    """Tell who else can read or change a secret's file, and the command that mends it; None if nobody can.

    *user* is the uid that reads it. It or root must own the file; the group may read it then.
    """
    name = shlex.quote(str(path))
    if info.st_uid not in (_ROOT, user):
        return f"it belongs to uid {info.st_uid}, who can change it; hint: chown {user} {name}"
    found = []
    if info.st_mode & stat.S_IROTH:
        found.append("others can read it")
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        found.append("group or others can write it")
    if not found:
        return None
    return f"{' and '.join(found)} (mode {stat.S_IMODE(info.st_mode):04o}); hint: chmod go-w,o-r {name}"


def private_key_loader(path: Path, *, public: str, what: str) -> Callable[[], PrivateKey]:
    """Return a function that reads the private key of *public* from *path*, once, when it is first called.

    The function raises ConfigError as `read_secret` does, and if the key is none or belongs to another.
    """

    @functools.cache
    def load() -> PrivateKey:
        text = read_secret(path, what=what)
        try:
            return checks.private_key(text, public=public)
        except KeyFormatError as error:
            raise ConfigError(f"{path}: {what}: {error}") from None

    return load
