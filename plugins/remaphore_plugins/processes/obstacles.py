"""Why a program cannot be started, found by looking at the file and at the way to it, before or after the attempt.

The kernel has one word for many causes: EACCES is a mode, a directory that this user cannot search, or a file system
mounted noexec; ENOENT is a missing file or a missing interpreter. Only execve(2) itself decides. So where it cannot be
known here, as with an access control list, nothing is reported.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from remaphore_plugins.processes.account import Account, has_capability
from remaphore_plugins.processes.elf import find_elf_obstacle
from remaphore_plugins.processes.first_line import ELF, LINE_BYTES, Interpreter, Obstacle, read_first_line

_MAX_INTERPRETERS = 5  # an interpreter may itself be a script: as deep as the kernel goes
_BINFMT_MISC = "/proc/sys/fs/binfmt_misc"
_ACL = "system.posix_acl_access"
_CAP_DAC_OVERRIDE = 1  # modes do not bind root, but in a container that has dropped it
_EXECUTE, _READ = 1, 4
_NO_FILE = "no such file"


def find_obstacle(path: str, account: Account, *, search_path: str, cwd: str = "/", depth: int = 0) -> Obstacle | None:
    """Return why *account* could not start the file *path* from the directory *cwd*; None if nothing is found.

    search_path: PATH of the program, in which env(1) looks up an interpreter.
    """
    path = os.path.join(cwd, path)  # noqa: PTH118 - paths are text here, as programs get them
    return (
        _find_blocked_directory(path, account)
        or _find_in_file(path, account)
        or _find_in_first_line(path, account, search_path=search_path, cwd=cwd, depth=depth)
    )


def find_directory_obstacle(path: str, account: Account) -> Obstacle | None:
    """Return why *account* could not read the directory *path* and search it; None if nothing is found."""
    blocked = _find_blocked_directory(path, account)
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return blocked
    if blocked or all(_may(found, account, right, path) for right in (_READ, _EXECUTE)):
        return blocked
    what = f"user {account.name} cannot read the directory {path} ({_modes(found)})"
    return Obstacle(what, f"chmod {_class(found, account)}+rx {shlex.quote(path)}")


def find_noexec_mount(path: str) -> str:
    """Return the mount point of the file system of *path* if that is mounted noexec, else an empty string."""
    try:
        if not os.statvfs(path).f_flag & os.ST_NOEXEC:
            return ""
    except OSError:
        return ""
    real = os.path.realpath(path)
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        lines = []
    points = [re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line.split(" ")[4]) for line in lines]
    above = [point for point in points if f"{real}/".startswith(f"{point.rstrip('/')}/")]
    return max(above, key=len, default=str(Path(real).parent))


def _find_in_file(path: str, account: Account) -> Obstacle | None:
    name = shlex.quote(path)
    try:
        found = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        missing = "a link whose target does not exist" if Path(path).is_symlink() else _NO_FILE
        return Obstacle(missing, f"create {name}, or correct the name")
    except OSError as error:
        return Obstacle(f"cannot be examined: {error.strerror}", f"correct {name}")
    if not stat.S_ISREG(found.st_mode):
        return Obstacle("not a regular file", f"name an executable file instead of {name}")
    mount = find_noexec_mount(path)
    if mount:
        what = f"it is on a file system that is mounted noexec: {mount}"
        return Obstacle(what, f"move it to another file system, or run: mount -o remount,exec {shlex.quote(mount)}")
    if found.st_mode & 0o111:
        fault = Obstacle(f"not executable by user {account.name} ({_modes(found)})", f"chmod a+rx {name}")
    else:
        fault = Obstacle("not executable", f"chmod +x {name}")
    return None if _may(found, account, _EXECUTE, path) else fault


def _find_in_first_line(path: str, account: Account, *, search_path: str, cwd: str, depth: int) -> Obstacle | None:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            found, start = os.fstat(file.fileno()), file.read(LINE_BYTES)
    except OSError:
        return None  # we may lack the permission that the account has
    read = read_first_line(path, start)
    name = shlex.quote(path)
    if not isinstance(read, Interpreter):
        return read or _find_in_binary(path, start)
    if not _may(found, account, _READ, path):
        what = f"its interpreter, which runs as user {account.name}, cannot read it ({_modes(found)})"
        return Obstacle(what, f"chmod a+r {name}")
    if depth == _MAX_INTERPRETERS:
        return Obstacle("its interpreter is a script, whose interpreter is a script, and so on", f"correct {name}")
    inner = find_obstacle(read.path, account, search_path=search_path, cwd=cwd, depth=depth + 1)
    if inner is not None:
        hint = f"install it, or correct the first line of {name}" if inner.reason == _NO_FILE else inner.hint
        if inner.reason == _NO_FILE and not read.path.startswith("/"):
            hint = f"write its absolute path, or /usr/bin/env before its name, into the first line of {name}"
        return Obstacle(f"its interpreter {read.path!a}: {inner.reason}", hint)
    return _find_missing_command(read.command, search_path, name)


def _find_in_binary(path: str, start: bytes) -> Obstacle | None:
    """Return why a file that is no script cannot be started, if that does not depend on what the kernel is told."""
    try:
        others = {*os.listdir(_BINFMT_MISC)} - {"register", "status"}  # noqa: PTH208
    except OSError:
        others = set()
    if start.startswith(ELF):
        return find_elf_obstacle(path, emulated=bool(others))
    what = "it is neither a script nor an ELF binary: the kernel knows no other format"
    hint = f"replace {shlex.quote(path)} by an executable; a script begins with #!"
    return None if others else Obstacle(what, hint)


def _find_missing_command(command: str, search_path: str, name: str) -> Obstacle | None:
    # Not Path.exists, which raises where we may not enter a directory of PATH.
    if not command or any(os.path.exists(Path(folder, command)) for folder in search_path.split(":")):  # noqa: PTH110
        return None
    hint = f"install it, or write its path into the first line of {name}"
    if " " in command:
        hint = f"write env -S instead of env in the first line of {name}"
    return Obstacle(f"its first line runs {command!a}, which is not found in PATH ({search_path})", hint)


def _find_blocked_directory(path: str, account: Account) -> Obstacle | None:
    """Return which directory on the way to *path*, as named or as links lead, *account* cannot search."""
    for folder in _directories(path):
        try:
            found = os.stat(folder)  # noqa: PTH116
        except OSError:
            return None
        if stat.S_ISDIR(found.st_mode) and not _may(found, account, _EXECUTE, folder):
            what = f"user {account.name} cannot search the directory {folder} ({_modes(found)})"
            return Obstacle(what, f"chmod {_class(found, account)}+x {shlex.quote(folder)}")
    return None


def _directories(path: str) -> Iterator[str]:
    seen = set()
    for each in (path, os.path.realpath(path)):
        for folder in reversed(Path(each).parents):
            if folder not in seen:
                seen.add(folder)
                yield str(folder)


def _may(found: os.stat_result, account: Account, right: int, path: str) -> bool:
    """Return whether *account* has *right* (as in a mode, of others) on what has the status *found*."""
    mode = found.st_mode
    if account.uid == 0 and has_capability(_CAP_DAC_OVERRIDE):
        return stat.S_ISDIR(mode) or right == _READ or bool(mode & 0o111)
    granted = mode >> {"u": 6, "g": 3, "o": 0}[_class(found, account)]
    return bool(granted & right) or _has_acl(path)


def _class(found: os.stat_result, account: Account) -> str:
    """Return whose permissions count for *account*, as in chmod(1): those of others never count for the group."""
    if found.st_uid == account.uid:
        return "u"
    return "g" if found.st_gid in account.groups else "o"


def _has_acl(path: str) -> bool:
    try:
        return _ACL in os.listxattr(path)
    except OSError:
        return False


def _modes(found: os.stat_result) -> str:
    return f"mode {stat.S_IMODE(found.st_mode):04o}, owner {found.st_uid}, group {found.st_gid}"
