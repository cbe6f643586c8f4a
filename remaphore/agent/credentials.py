"""Who connected: what the kernel knows about the other end of a Unix socket, and what only helps to read the log."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from remaphore import proc
from remaphore.agent.refusal import RefusedError

# Of socket(7); Python does not define them. SO_PEERPIDFD exists since Linux 6.5.
SO_PEERGROUPS = 59
SO_PEERPIDFD = 77
# getsockopt() of Python returns at most 1024 bytes, which are 256 groups of 4.
MAX_GROUPS_BYTES = 1024
_UCRED = struct.Struct("3i")
_UNSET = 2**32 - 1  # the loginuid of a process that no login started, such as a service


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A process that connected. uid, gid, groups: decide, since the kernel keeps them. pid: is only for the log.

    groups: those that the process has, which may differ from those in /etc/group.
    """

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()


def read_caller(connection: socket.socket) -> tuple[Caller, RefusedError | None]:
    """Return who connected, and why nothing can be done for it: who it is is then not certain.

    In a user namespace the kernel shows every user without a mapping as one, the overflow uid: many users are it, so
    nothing can be permitted to it. A pid of 0 is that of a process in another pid namespace than ours.
    """
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = (number & 0xFFFFFFFF for number in _UCRED.unpack(raw))
    try:
        listed = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MAX_GROUPS_BYTES)
    except OSError as error:
        what, hint = f"your groups cannot be read: {error.strerror}", "run the agent on Linux 4.13 or newer"
        if error.errno == errno.ERANGE:
            what = f"your process is in more than {MAX_GROUPS_BYTES // 4} groups"
            hint = "run the command in fewer groups, for example with setpriv --groups"
        return Caller(pid=pid, uid=uid, gid=gid), RefusedError("refused", what, hint=hint)
    caller = Caller(pid=pid, uid=uid, gid=gid, groups=frozenset(struct.unpack(f"{len(listed) // 4}I", listed)))
    if caller.uid == overflow_id("uid"):
        what = f"your uid is not known here: {caller.uid} stands for every user that has no mapping"
        hint = "run the command as another user, or the agent outside the user namespace"
        return caller, RefusedError("refused", what, hint=hint)
    if caller.pid == 0:
        hint = "run the command in the pid namespace of the agent, or in one below it"
        return caller, RefusedError("refused", "your process is in another pid namespace than the agent", hint=hint)
    return caller, None


def overflow_id(kind: str) -> int:
    """Return the uid or gid (*kind*) that the kernel shows for one without a mapping."""
    try:
        return int(Path(f"/proc/sys/kernel/overflow{kind}").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 65534


def describe_caller(connection: socket.socket, caller: Caller) -> dict[str, object]:
    """Return what the log says about *caller*: it decides nothing, since a process can call itself what it likes.

    loginuid: who logged in, also behind su and sudo; None if unknown. comm: the name of the command. Its arguments are
    never read: they contain the payload. To be called at once: the process may end, and another one have its pid.
    """
    about: dict[str, object] = {"uid": caller.uid, "gid": caller.gid, "pid": caller.pid, "loginuid": None, "comm": None}
    if not proc.is_ours():  # there, another process has its pid
        return about
    process = Path("/proc", str(caller.pid))
    pidfd = -1
    try:
        with contextlib.suppress(OSError):  # an older kernel
            pidfd = struct.unpack("i", connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD, 4))[0]
        with contextlib.suppress(OSError, ValueError):  # it has ended, or /proc hides it
            login = int((process / "loginuid").read_text(encoding="ascii"))
            about["loginuid"] = None if login == _UNSET else login
            about["comm"] = (process / "comm").read_text(errors="replace").removesuffix("\n")
        if pidfd >= 0:
            signal.pidfd_send_signal(pidfd, 0)
    except ProcessLookupError:  # what was read may be that of a later process with the same pid
        about |= {"loginuid": None, "comm": None}
    except OSError:  # it belongs to another user, so it exists
        pass
    finally:
        if pidfd >= 0:
            os.close(pidfd)
    return about
