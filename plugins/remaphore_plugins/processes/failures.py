"""What to say about a program that could not be started: one reason and one hint for each cause, not for each errno."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence

from remaphore_plugins.processes.account import Account, own_account
from remaphore_plugins.processes.first_line import Obstacle
from remaphore_plugins.processes.obstacles import find_obstacle

# Of execve(2), where the file itself shows no cause.
_EXEC_HINTS = {
    errno.EACCES: "the modes permit it: look at ACLs (getfacl), SELinux or AppArmor (audit log), NFS (root_squash)",
    errno.EPERM: "look for what denies it: a security module (audit log), or a seccomp profile",
    errno.ENOENT: "install what it needs (ldd names missing libraries), or correct the name",
    errno.ENOEXEC: "add a first line such as #!/bin/sh; for a binary: install the one for this machine (uname -m)",
    errno.ETXTBSY: "a program is still writing to it: write a new file, and rename it to this name",
    errno.ELOOP: "replace a symbolic link that leads to itself, or an interpreter that is a script",
    errno.E2BIG: "keep each argument and each environment variable below 131072 bytes",
    errno.EAGAIN: "the limit of processes of its user is reached: raise it (LimitNPROC=, ulimit -u), or end some",
}
# Of the machine: making a process, a pipe or a descriptor.
_RESOURCE_HINTS = {
    errno.EAGAIN: "the limit of processes is reached: raise it (TasksMax= of the unit, --pids-limit of a container)",
    errno.ENOMEM: "the machine or the container has no free memory: free some, or raise its limit (MemoryMax=)",
    errno.EMFILE: "the limit of open files is reached: raise it (LimitNOFILE= of the unit, ulimit -n)",
    errno.ENFILE: "the limit of open files of the machine is reached: raise it (sysctl fs.file-max)",
}

_MACHINE = (errno.ENOMEM, errno.EMFILE, errno.ENFILE)


def explain_failure(
    argv: Sequence[bytes], error: Exception, *, env: Mapping[str, bytes], account: Account | None, cwd: str | None
) -> tuple[str, str]:
    """Return reason and hint for *error*, with which Popen failed to start *argv* for *account*, or for us.

    Never str(error): it may quote an argument, and so the payload.
    """
    if isinstance(error, ValueError):
        return "an argument or an environment variable contains a NUL byte, which cannot be passed to a program", ""
    if not isinstance(error, OSError) or error.errno is None:
        return type(error).__name__, ""
    reason = os.strerror(error.errno)
    # The name of the file is in the error if execve(2) failed; before that, it is the directory, or nothing.
    if error.errno not in _MACHINE and error.filename is not None and os.fsencode(error.filename) == argv[0]:
        found = _explain_exec(os.fsdecode(argv[0]), error.errno, env=env, account=account or own_account(), cwd=cwd)
        return found or (reason, _EXEC_HINTS.get(error.errno, "look for what denies it: the audit log, a limit"))
    if account is not None and error.errno in (errno.EPERM, errno.EINVAL):
        hint = "give remaphore CAP_SETUID and CAP_SETGID (a container drops them), or delete user of the verb"
        return f"cannot become user {account.name}: {reason}", hint
    return reason, _RESOURCE_HINTS.get(
        error.errno, "look for what denies it: a seccomp profile, or a limit of the unit"
    )


def _explain_exec(
    program: str, number: int, *, env: Mapping[str, bytes], account: Account, cwd: str | None
) -> Obstacle | None:
    """Return what the file *program* itself shows, None if it shows no cause of the errno *number*."""
    if number in (errno.E2BIG, errno.EAGAIN, errno.ETXTBSY):
        return None
    search_path = os.fsdecode(env.get("PATH", b""))
    candidates = (f"{folder}/{program}" for folder in search_path.split(":"))
    path = program if "/" in program else next(filter(os.path.lexists, candidates), None)
    if path is None:
        return Obstacle(f"no such program in PATH ({search_path})", "correct the name, or write its path")
    return find_obstacle(path, account, search_path=search_path, cwd=cwd or _own_directory())


def _own_directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109
    except FileNotFoundError:  # it was deleted; what remains reachable has an absolute path
        return "/"
