"""Which way a command goes: through an agent, and which, or directly. And the errors of an agent that does not answer.

No socket means that this machine has no agent: commands then work as without one. But an agent that is there and cannot
be reached is an error, never a reason to go another way: that would hide the outage, sign with another key, and leave
no trace in the agent's log. `remaphore.cli.fast` decides the same for the simplest commands, without these imports.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping

from remaphore.config import search
from remaphore.errors import AgentError, ConnectionLostError, UsageError

SYSTEM_SOCKET = "/run/remaphore/agent.sock"
VARIABLE = "REMAPHORE_AGENT"

_ROOT = 0
_STATUS = "see: systemctl status remaphore-agent.socket remaphore-agent"
_HINTS = {
    errno.EACCES: "ask for membership in the group of the socket, then log in again",
    errno.ECONNREFUSED: f"no agent listens on it: start it, or remove the socket; {_STATUS}",
    errno.ENOTSOCK: "name the socket of an agent, or remove this file",
    errno.ENAMETOOLONG: "name a socket with a shorter path: at most 107 bytes",
}


def find(
    environ: Mapping[str, str], *, named: str | None = None, direct: bool = False, config: str | None = None
) -> str | None:
    """Return the socket of the agent to use; None: directly. Raise AgentError if it cannot be used, or UsageError.

    named, direct, config: the values of --agent, --direct and --config.
    """
    if named is not None and (direct or config is not None):
        other = "--direct" if direct else "--config"
        raise UsageError(f"--agent and {other} are mutually exclusive", hint="the agent has its own configuration")
    if named == "":
        raise UsageError("--agent: its value is empty", hint="write the path of a socket, or omit the option")
    if named is None and (direct or config is not None or environ.get(search.VARIABLE) or has_own_file(environ)):
        return None
    for path in (named,) if named is not None else paths(environ, user=os.geteuid()):
        try:
            info = os.stat(path)  # noqa: PTH116 - a path as it is named
        except FileNotFoundError:
            continue
        except OSError as error:
            raise unreachable(path, error) from None
        if not stat.S_ISSOCK(info.st_mode):
            raise unreachable(path, OSError(errno.ENOTSOCK, "not a socket"))
        check_directory(path, environ)
        return path
    if named is not None:
        raise AgentError(f"no agent at {named}: no such file", hint=f"start it, or correct the path; {_STATUS}")
    return None


def has_own_file(environ: Mapping[str, str]) -> bool:
    """Return whether the user has a configuration of their own, which counts before an agent as -c does."""
    found, _ = search.find_default(environ)
    return found is not None and found not in search.DEFAULT_PATHS


def paths(environ: Mapping[str, str], *, user: int) -> tuple[str, ...]:
    """Return where the socket may be; the first that exists counts. user: our uid.

    No variable decides what root does. A runtime directory of another user is one that `su` has left in place.
    """
    if user == _ROOT:
        return (SYSTEM_SOCKET,)
    if environ.get(VARIABLE):
        return (environ[VARIABLE],)
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    try:
        ours = runtime.startswith("/") and os.stat(runtime).st_uid == user  # noqa: PTH116
    except OSError:
        ours = False
    return (f"{runtime}/remaphore/agent.sock", SYSTEM_SOCKET) if ours else (SYSTEM_SOCKET,)


def check_directory(path: str, environ: Mapping[str, str]) -> None:
    """Raise AgentError if another user could have put the socket at *path*: they would get what is sent.

    Its directory must be root's, or below $XDG_RUNTIME_DIR our own, and no other user may write there.
    """
    folder = os.path.dirname(path) or os.curdir  # noqa: PTH120 - `a/../b` is not `b` if `a` is a link
    info = os.stat(folder)  # noqa: PTH116
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    inside = runtime.startswith("/") and os.path.realpath(folder).startswith(os.path.realpath(runtime) + "/")
    if info.st_uid != _ROOT and not (inside and info.st_uid == os.geteuid()):
        what = f"it belongs to uid {info.st_uid}, who could have put another socket there"
    elif info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        what = f"others may write there (mode {stat.S_IMODE(info.st_mode):04o})"
    else:
        return
    hint = "use a directory of root that no other user may write to, or one of yours below $XDG_RUNTIME_DIR"
    raise AgentError(f"the agent at {path} cannot be trusted: {folder}: {what}", hint=hint)


def unreachable(path: str, error: OSError) -> AgentError:
    """Return the error that the agent at *path* cannot be reached: nothing was sent."""
    if not error.errno and "too long" in str(error):  # of Python, before it asks the kernel
        error = OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    what = (error.strerror or str(error)).lower()
    return AgentError(f"the agent at {path}: {what}; nothing was sent", hint=_HINTS.get(error.errno or 0, _STATUS))


UNKNOWN = "the message may or may not have been sent"
SENT = "the message was sent, later replies are lost"
RECEIVING = "nothing more is received"


def lost(path: str, outcome: str) -> ConnectionLostError:
    """Return the error that the agent at *path* went away, or does not answer, with what that means."""
    what = f"the agent at {path} has gone, or does not answer; {outcome}"
    hint = f"find out whether it arrived before you send it again; {_STATUS}" if outcome == UNKNOWN else _STATUS
    return ConnectionLostError(what, hint=hint)


def not_understood(path: str, error: Exception) -> AgentError:
    """Return the error that the answer of the agent at *path* is not one of this protocol."""
    what = f"the answer of the agent at {path} is not understood: {error}"
    return AgentError(what, hint="install the same remaphore for both, and restart the agent", kind="protocol")


def describe_cut(peer: str, size: int) -> str:
    """Return the warning that the output of *peer* is not whole; *size*: in bytes."""
    return f"warning: the output of {peer} is cut: it has {size} bytes, and too many replies waited to be read"
