"""Which entries of a verb's directories would run, in which order, and which are skipped, and why.

The rules for names, order and kinds of files are those of Debian's run-parts. The rule for several directories is that
of NetworkManager's dispatcher: an entry of a later directory replaces one of the same name in an earlier, before
anything else is examined. Whether an entry is safe is checked in `trust`. Directories are read for each message.

Example, with hooks = /usr/hooks.d, /etc/hooks.d:

    /usr/hooks.d/deploy/10-a    /etc/hooks.d/deploy/10-a (not executable)    10-a is skipped: the later one replaces it
    /usr/hooks.d/deploy/20-b    /etc/hooks.d/deploy/20-b -> /dev/null        20-b is masked
    /usr/hooks.d/deploy/30-c                                                 30-c of /usr runs
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

# A peer chooses the verb, so it must match before a path is made of it (CVE-2022-29799): no dot, no slash, not empty.
_VERB = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_DEV_NULL = os.makedev(1, 3)
_EXECUTABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
_FILE_TYPES = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a fifo", stat.S_IFSOCK: "a socket"}


class Kind(StrEnum):
    """What happens to an entry: it would run, it hides one of the same name in an earlier directory, or is skipped."""

    RUN = "run"
    MASK = "mask"
    SKIP = "skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry of a verb's directories. reason and hint: why it does not run, and how to make it run."""

    kind: Kind
    name: str
    path: str
    reason: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What there is for a verb. folders: all that decided it, including hooks directories; entries: in byte order."""

    folders: tuple[str, ...]
    entries: tuple[Entry, ...]


def is_verb(verb: str) -> bool:
    """Return whether *verb* can be the name of a directory."""
    return _VERB.fullmatch(verb) is not None


def has_directory(verb: str, hooks: Sequence[str]) -> bool:
    """Return whether `scan` may find something for *verb*, by one stat(2) for each of *hooks*."""
    try:
        return is_verb(verb) and any(_is_there(f"{hook}/{verb}") for hook in hooks)
    except OSError:
        return True  # `scan` raises it


def scan(verb: str, hooks: Sequence[str]) -> Scan | None:
    """Read the directories of *verb* under *hooks*, later ones overriding; return None if there are none.

    Raise OSError for one that exists and cannot be read.
    """
    listed = [(hook, _list(verb, f"{hook}/{verb}")) for hook in hooks] if is_verb(verb) else []
    if all(names is None for _, names in listed):
        return None
    folders: list[str] = []
    entries: dict[str, Entry] = {}
    for hook, names in listed:
        folder = f"{hook}/{verb}"
        if names is None:
            folders += [hook] if _is_there(hook) else []
        elif isinstance(names, Entry):
            folders.append(hook)
            entries[verb] = names
        else:
            folders += hook, folder
            entries |= {name: _classify(name, f"{folder}/{name}") for name in names}
    return Scan(folders=tuple(folders), entries=tuple(entries[name] for name in sorted(entries, key=os.fsencode)))


def _list(verb: str, folder: str) -> list[str] | Entry | None:
    """Return the names in *folder*, None if it does not exist, or the entry of a file in its place. Raise OSError."""
    try:
        return os.listdir(folder)  # noqa: PTH208 - paths are text here, as handlers get them
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        os.stat(folder)  # noqa: PTH116 - it raises the same if the hook directory itself is none
        return _skip(verb, folder, "not a directory", f"move it into a directory of this name, as {folder}/50-name")


def find_verbs(hooks: Iterable[str]) -> tuple[list[str], list[Entry]]:
    """Return the verbs that have a directory, and the directories whose names no verb can have. Raise OSError."""
    verbs: set[str] = set()
    misnamed: list[Entry] = []
    for hook in filter(_is_there, hooks):
        for name in sorted(os.listdir(hook), key=os.fsencode):  # noqa: PTH208
            if not os.path.isdir(f"{hook}/{name}"):  # noqa: PTH112
                continue
            if is_verb(name):
                verbs.add(name)
            else:
                reason = "not a verb: use 1 to 64 of a to z, 0 to 9, _ and -, beginning with a letter or digit"
                misnamed.append(_skip(name, f"{hook}/{name}", reason, "rename it, and send that verb"))
    return sorted(verbs), misnamed


def _is_there(path: str) -> bool:
    """Return whether *path* exists. Raise OSError if that is unknown: it may contain a mask or a replacement."""
    try:
        os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return False
    return True


def _classify(name: str, path: str) -> Entry:
    if not _NAME.fullmatch(name):
        return _skip(
            name, path, "a name may contain only letters, digits, _ and -", f"{_rename(path, name)}, or delete it"
        )
    try:
        found = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return _skip(name, path, "a broken link", f"ln -sfn TARGET {shlex.quote(path)}, or delete it")
    except OSError as error:
        return _skip(
            name, path, f"cannot be examined: {error.strerror}", "correct the link, or the modes of directories above"
        )
    if _is_mask(found):
        return Entry(
            kind=Kind.MASK,
            name=name,
            path=path,
            reason="masks entries with this name: it is empty, or a link to /dev/null",
        )
    if not stat.S_ISREG(found.st_mode):
        kind = _FILE_TYPES.get(stat.S_IFMT(found.st_mode), "a device")
        reason, hint = f"{kind}, not a file", "move it elsewhere"
    elif not found.st_mode & _EXECUTABLE:
        # Not for any user, so it is meant. A file that only some may execute would run, and fails if its user is not
        # one of them (`processes.obstacles`). access(2) is not asked: it denies all on a file system mounted noexec,
        # and under seccomp profiles that do not know faccessat2.
        reason, hint = "not executable", f"chmod +x {shlex.quote(path)}"
    else:
        return Entry(kind=Kind.RUN, name=name, path=path)
    return _skip(name, path, reason, hint)


def _is_mask(found: os.stat_result) -> bool:
    if stat.S_ISCHR(found.st_mode):
        return found.st_rdev == _DEV_NULL
    return stat.S_ISREG(found.st_mode) and found.st_size == 0


def _rename(path: str, name: str) -> str:
    stem = re.sub(r"[^a-zA-Z0-9_-]", "-", name.lstrip(".").split(".")[0]) or "50-name"
    return f"mv {shlex.quote(path)} {shlex.quote(path.removesuffix(name) + stem)}"


def _skip(name: str, path: str, reason: str, hint: str) -> Entry:
    return Entry(kind=Kind.SKIP, name=name, path=path, reason=reason, hint=hint)
