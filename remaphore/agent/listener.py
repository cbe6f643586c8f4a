"""The agent's socket: systemd's, or one that is created, and taken over from an agent that has died."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path

from remaphore.config.settings import AGENT_SOCKET, Config
from remaphore.errors import StateError

# Connections that the kernel keeps until they are accepted.
BACKLOG = 128
# Owner and group may connect. The socket is created with this mode: no other user can connect before a chmod.
SOCKET_UMASK = 0o117
_FIRST = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)
_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
_MAX_PATH = 107  # bytes of sun_path in unix(7), without the NUL


def socket_path(given: str | None, config: Config, environ: Mapping[str, str], *, uid: int) -> Path:
    """Return where the agent listens: *given*, else as *config* says, else this user's default. Raise StateError."""
    if given:
        return Path(given).absolute()
    if config.agent.socket:
        return config.agent.socket
    if uid == 0:
        return AGENT_SOCKET
    folder = environ.get("XDG_RUNTIME_DIR", "")
    if not folder.startswith("/"):
        hint = "log in by a session that sets XDG_RUNTIME_DIR, or name a path with --agent"
        raise StateError("no directory for the socket: XDG_RUNTIME_DIR is not set", hint=hint)
    return Path(folder, "remaphore", "agent.sock")


def activated(environ: MutableMapping[str, str], *, pid: int) -> socket.socket | None:
    """Return the listening socket that the service manager has passed on, or None; see sd_listen_fds(3).

    The variables are removed, so that no child uses them. Raise StateError if it is another kind of socket.
    """
    count, owner, _ = (environ.pop(name, "") for name in _VARIABLES)
    if owner != str(pid) or not count.isdecimal() or count == "0":
        return None
    hint = "name one ListenStream= with an absolute path in the .socket unit"
    if count != "1":
        raise StateError(f"the service manager has passed {count} sockets, not one", hint=hint)
    os.set_inheritable(_FIRST, False)  # noqa: FBT003 - its only parameter
    try:
        passed = socket.socket(fileno=_FIRST)
    except OSError as error:
        raise StateError(f"the service manager has passed no socket: {error.strerror}", hint=hint) from None
    kind = passed.family, passed.type, passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if kind != (socket.AF_UNIX, socket.SOCK_STREAM, 1):
        raise StateError("the socket that the service manager has passed is no listening Unix stream socket", hint=hint)
    return passed


@contextmanager
def created(path: Path, *, uid: int) -> Iterator[socket.socket]:
    """Create the socket *path* and listen, for the length of a block; it is removed after it. Raise StateError.

    A lock beside it, which ends with its process, decides who may replace a socket that a dead agent has left behind.
    """
    if path == AGENT_SOCKET and uid != 0:
        hint = "systemctl enable --now remaphore-agent.socket, or name a path with --agent"
        raise StateError(f"{path}: only root or systemd may create the system's socket", hint=hint)
    if len(os.fsencode(path)) > _MAX_PATH:
        what = f"{path}: too long for a socket: {len(os.fsencode(path))} bytes, the limit is {_MAX_PATH}"
        raise StateError(what, hint="use a shorter path")
    with contextlib.ExitStack() as stack:
        try:
            if not path.parent.exists():
                path.parent.mkdir(mode=0o700)
                path.parent.chmod(0o755 if uid == 0 else 0o700)  # clients of all users pass root's, whatever the umask
            stack.enter_context(locked(path))
            remove_stale(path)
            listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            before = os.umask(SOCKET_UMASK)
            try:
                listener.bind(os.fspath(path))
            finally:
                os.umask(before)
            stack.callback(path.unlink, missing_ok=True)
            listener.listen(BACKLOG)
        except OSError as error:
            hint = "name a directory that you can write to with --agent"
            raise StateError(f"{path}: cannot create the socket: {error.strerror}", hint=hint) from None
        yield listener


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of the socket *path* for the length of a block. Raise StateError if another agent has it."""
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = "stop it first, or use it: remaphore agent --whoami"
            raise StateError(f"{path}: another agent uses this socket", hint=hint) from None
        yield
    finally:
        os.close(descriptor)


def remove_stale(path: Path) -> None:
    """Remove the socket *path* if no process listens on it. Raise StateError if one does, or if it is no socket."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StateError(f"{path}: exists, and is no socket", hint="remove it, or name another path with --agent")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # noqa: FBT003 - a full backlog is an answer, too: something listens
        answer = probe.connect_ex(os.fspath(path))
    if answer != errno.ECONNREFUSED:
        hint = "stop the unit or process that listens on it, or name another path with --agent"
        raise StateError(f"{path}: another process listens on this socket", hint=hint)
    path.unlink()
