"""What the machine, the container or its seccomp profile denies, of what running handlers needs. Nothing is changed.

What cannot be done without at all, the plugin that runs handlers rejects when it is configured.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from remaphore import proc
from remaphore.diagnostics.findings import Code, Finding, Level

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_PR_GET_CHILD_SUBREAPER = 37
_PROFILE = "permit it in the seccomp profile of the container or unit, or update the container runtime or the kernel"


def check_runtime() -> Iterator[Finding]:
    """Try what the daemon will need, and yield what is denied, with its effect."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        what = f"{error.strerror}: the end of a handler is noticed by polling, up to 0.05 s late"
        yield Finding(Level.NOTE, Code.RUNTIME_LIMITED, "pidfd_open", what, _PROFILE)
    number = _try_subreaper()
    if number:
        what = f"{os.strerror(number)}: processes that handlers leave behind are not ended with them"
        yield Finding(Level.WARNING, Code.RUNTIME_LIMITED, "prctl(PR_SET_CHILD_SUBREAPER)", what, _PROFILE)
    if not proc.is_ours():
        which = "that of another pid namespace" if Path("/proc/self/stat").exists() else "not mounted"
        what = f"{which}: at a timeout, processes that have left the process group of their handler are not found"
        yield Finding(Level.WARNING, Code.RUNTIME_LIMITED, "/proc", what, "mount -t proc proc /proc")


def _try_subreaper() -> int:
    """Set the attribute to what it is; return 0, or the errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    now = ctypes.c_int()
    if libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(now), 0, 0, 0):
        return ctypes.get_errno()
    return ctypes.get_errno() if libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(now.value), 0, 0, 0) else 0
