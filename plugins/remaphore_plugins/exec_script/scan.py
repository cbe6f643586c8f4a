"""What lies in the directories of a verb: which entries would run, in which order, and which are passed over, and why.

The rules are those of Debian's run-parts for names, order and kinds of files, and NetworkManager's dispatcher's for
several directories: a later one replaces by name, before anything else is looked at. What is safe is judged elsewhere.
Read anew for each message.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

# Tested before any path is made of a verb, which a peer wrote (CVE-2022-29799). No dot, no slash, never empty.
_VERB = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_DEV_NULL = os.makedev(1, 3)


class Kind(StrEnum):
    """What becomes of an entry: it would run, it hides one of its name in an earlier directory, it is passed over."""

    RUN = "run"
    MASK = "mask"
    SKIP = "skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry of a verb's directories. reason and hint: why it does not run, and what would make it."""

    kind: Kind
    name: str
    path: str
    reason: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What there is for a verb. folders: those that decided it, hooks directories too; entries: in byte order."""

    folders: tuple[str, ...]
    entries: tuple[Entry, ...]

    @property
    def runs(self) -> tuple[Entry, ...]:
        """The entries that would run."""
        return tuple(entry for entry in self.entries if entry.kind is Kind.RUN)


def is_verb(verb: str) -> bool:
    """Tell whether *verb* may name a directory."""
    return _VERB.fullmatch(verb) is not None


def scan(verb: str, hooks: Sequence[str]) -> Scan | None:
    """Read the directories of *verb* under *hooks*, the later ones going before; None if there are none.

    Raises OSError for one that is there and cannot be read.
    """
    # First, so that a verb without directories costs one look for each of *hooks*.
    having = [hook for hook in hooks if _is_there(f"{hook}/{verb}")] if is_verb(verb) else []
    if not having:
        return None
    folders: list[str] = []
    entries: dict[str, Entry] = {}
    for hook in filter(_is_there, hooks):
        folders.append(hook)
        if hook not in having:
            continue
        folder = f"{hook}/{verb}"
        try:
            names = os.listdir(folder)  # noqa: PTH208 - paths are text here, as handlers get them
        except NotADirectoryError:
            entries[verb] = _misplaced(verb, folder)
            continue
        folders.append(folder)
        entries |= {name: _classify(name, f"{folder}/{name}") for name in names}
    return Scan(folders=tuple(folders), entries=tuple(entries[name] for name in sorted(entries, key=os.fsencode)))


def find_verbs(hooks: Iterable[str]) -> tuple[list[str], list[Entry]]:
    """Return the verbs that have a directory, and the directories whose names no verb can have. Raises OSError."""
    verbs: set[str] = set()
    wrong: list[Entry] = []
    for hook in filter(_is_there, hooks):
        for name in sorted(os.listdir(hook), key=os.fsencode):  # noqa: PTH208
            if not os.path.isdir(f"{hook}/{name}"):  # noqa: PTH112
                continue
            if is_verb(name):
                verbs.add(name)
            else:
                wrong.append(_no_verb(name, f"{hook}/{name}"))
    return sorted(verbs), wrong


def _is_there(path: str) -> bool:
    """Tell whether there is something. Raises OSError if that cannot be told: it may hold what hides or replaces."""
    try:
        os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return False
    return True


def _classify(name: str, path: str) -> Entry:
    if not _NAME.fullmatch(name):
        return _skip(
            name, path, "a name may hold only letters, digits, _ and -", f"{_rename(path, name)}, or delete it"
        )
    try:
        found = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return _skip(name, path, "a link to nothing", f"ln -sfn TARGET {shlex.quote(path)}, or delete it")
    except OSError as error:
        return _skip(name, path, f"cannot be looked at: {error.strerror}", "hint the link or the modes on its way")
    return _classify_file(name, path, found)


def _classify_file(name: str, path: str, found: os.stat_result) -> Entry:
    if _is_mask(found):
        return Entry(kind=Kind.MASK, name=name, path=path, reason="masks: it is empty, or a link to /dev/null")
    if not stat.S_ISREG(found.st_mode):
        return _skip(name, path, f"{_describe(found.st_mode)}, not a file", "move it elsewhere")
    if not os.access(path, os.X_OK, effective_ids=True):
        return _skip(name, path, "not executable", f"chmod +x {shlex.quote(path)}")
    return Entry(kind=Kind.RUN, name=name, path=path)


def _is_mask(found: os.stat_result) -> bool:
    if stat.S_ISCHR(found.st_mode):
        return found.st_rdev == _DEV_NULL
    return stat.S_ISREG(found.st_mode) and found.st_size == 0


def _describe(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a fifo", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _rename(path: str, name: str) -> str:
    stem = re.sub(r"[^a-zA-Z0-9_-]", "-", name.lstrip(".").split(".")[0]) or "50-name"
    return f"mv {shlex.quote(path)} {shlex.quote(path.removesuffix(name) + stem)}"


def _misplaced(verb: str, path: str) -> Entry:
    return _skip(verb, path, "not a directory", f"move it into a directory of this name, as {path}/50-name")


def _no_verb(name: str, path: str) -> Entry:
    reason = "no verb is called so: handlers are for a to z, 0 to 9, _ and -, at most 64, beginning with neither"
    return _skip(name, path, reason, "rename it, and send that verb")


def _skip(name: str, path: str, reason: str, hint: str) -> Entry:
    return Entry(kind=Kind.SKIP, name=name, path=path, reason=reason, hint=hint)
