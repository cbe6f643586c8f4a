"""Who besides root and us could have changed a file of the configuration, which decides what the daemon runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from remaphore import trust
from remaphore.config.settings import Problem

# Names of descriptors that are already open, such as of a pipe: no path leads to what they name.
_DESCRIPTORS = ("/dev/fd", "/proc/self/fd")


def file_problems(path: str, info: os.stat_result, *, look: trust.Look | None = trust.lstat) -> Iterator[Problem]:
    """Yield who else could have changed the file *path*: a problem of the file, and one of the way to it.

    info: the status of the descriptor that was read, so that the file cannot be exchanged between check and read.
    look: None if the way is known to be safe, and *path* to be no link.
    """
    user = os.geteuid()
    try:
        trust.check_owner(path, info, user=user)
        trust.check_writers(path, info)
    except trust.UnsafeError as error:
        yield _problem(error)
    if look is not None and path != "/dev/stdin" and path.rpartition("/")[0] not in _DESCRIPTORS:
        try:
            trust.walk(path, user=user, look=look)
        except trust.UnsafeError as error:
            yield _problem(error)


def folder_problems(path: str) -> Iterator[Problem]:
    """Yield who else could have changed the directory *path*, each entry of which counts."""
    try:
        trust.check_directory(path, user=os.geteuid())
    except trust.UnsafeError as error:
        yield _problem(error)


def check_file(path: str, *, user: int) -> None:
    """Walk to the file *path*, and check its owner and who can write to it. Raise UnsafeError."""
    end, found = trust.walk(path, user=user)
    trust.check_owner(end, found, user=user)
    trust.check_writers(end, found)


def unsafe_places(path: str, check: Callable[..., object]) -> Iterator[tuple[str, Problem]]:
    """Yield the place where another user can change what *path* leads to, and the problem.

    check: `check_file`, `trust.check_directory`, or `trust.walk` for the way alone. What cannot be examined is not
    reported: the check that reads it says why.
    """
    try:
        check(path, user=os.geteuid())
    except trust.UnsafeError as error:
        if os.path.lexists(error.path):
            yield error.path, Problem(error.reason, error.hint)


def _problem(error: trust.UnsafeError) -> Problem:
    return Problem(str(error), error.hint)
