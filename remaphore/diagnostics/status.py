"""What daemons do now: that of this machine from its status file, those of the peers from their replies.

Behind `remaphore status`. Whatever a peer replies, it becomes a status or one line that states what is wrong.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import NamedTuple

from remaphore.config.settings import Config
from remaphore.diagnostics.clock import SYNCHRONIZE
from remaphore.errors import DecodeError, StateError
from remaphore.node import Node
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.message import NO_DATA, REJECTED, Reply, random_id
from remaphore.protocol.peers import Peer
from remaphore.protocol.status import VERB, Status, parse
from remaphore.receiving.default_reply import NO_HANDLER
from remaphore.receiving.ledger import locks, state
from remaphore.receiving.status_file import STALE_SECONDS, LocalStatus, load
from remaphore.requesting.requester import expect_each
from remaphore.requesting.rollout import Rollout
from remaphore.tasks import spawn
from remaphore.text import shorten

# How long a daemon that has just been started may need to write its first status.
WAIT_SECONDS = 3.0
_NOT_PERMITTED = "not-permitted"  # the reason of a rejection after a reload
_AGAIN_SECONDS = 0.1


class Problem(StrEnum):
    """Why there is no status of a peer."""

    NO_REPLY = "no-reply"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"
    UNREADABLE = "unreadable"


class PeerStatus(NamedTuple):
    """What is known about one peer: its status, or the problem, what it is, and a hint."""

    peer: str
    status: Status | None = None
    problem: Problem | None = None
    what: str = ""
    hint: str = ""


async def ask(
    node: Node,
    to: Sequence[str],
    *,
    timeout: float,
    on_asking: Callable[[Callable[[], object]], object] = lambda _stop: None,
    on_drop: Callable[[Drop], None] = lambda _drop: None,
) -> list[PeerStatus]:
    """Return a report of each peer that the patterns *to* address, in natural order. Raise TransportError.

    Of several patterns no two match the same peer, see `selection.addressees`. on_asking: called with a function that
    ends the waiting; peers that have not replied by then have no reply. on_drop: called with each dropped reply.
    """
    config = node.config
    known = {peer.destination: peer for peers in expect_each(config, to).values() for peer in peers}
    one = to[0] if len(to) == 1 else ""
    rollout = Rollout(
        partial(node.request, VERB, id=random_id(), receipts=False, on_drop=on_drop),
        tuple(known),
        timeout=timeout,
        to=one,
    )
    replies: dict[str, Reply] = {}

    async def collect() -> None:
        async with aclosing(rollout.events()) as events:
            async for event in events:
                if event.reply is not None:
                    replies[event.reply.peer] = event.reply

    collecting = spawn(collect(), name="status")
    on_asking(collecting.cancel)
    try:
        await asyncio.wait({collecting})
    finally:
        collecting.cancel()
    if not collecting.cancelled():
        collecting.result()  # raises what it raised
    waited = f"within {timeout:g} s" if not collecting.cancelled() else "before it was stopped"
    key = config.sender(VERB).key
    return [
        judge(replies[name], key=key) if name in replies else silent(peer, config, waited=waited)
        for name, peer in known.items()
    ]


def judge(reply: Reply, *, key: str) -> PeerStatus:
    """Return what *reply* to the verb `remaphore-status` reports. key: that of ours which signed the request."""
    here = f"run remaphore hooks {VERB} there: a handler or plugin for that verb replaces the status"
    if reply.rejected:
        text = reply.output.removeprefix(REJECTED).decode(errors="replace")
        reason = text.partition(":")[0]
        hint = "read the log of its daemon, or run remaphore check there"
        if reason in (DropReason.VERB_NOT_PERMITTED, _NOT_PERMITTED):
            hint = f"on that node: remaphore peer permit {key} --allow {VERB}"
        elif reason == DropReason.OUTSIDE_WINDOW:
            hint = f"on the machine whose clock is wrong: {SYNCHRONIZE}"
        return PeerStatus(reply.peer, None, Problem.REJECTED, f"rejected: {shorten(text)}", hint)
    if reply.exit_code is None and reply.text == NO_DATA:
        what = "a receiver that runs nothing replied, not a daemon"
        return PeerStatus(reply.peer, None, Problem.UNAVAILABLE, what, "run remaphore run there")
    if reply.exit_code == NO_HANDLER:
        what = f"its daemon does not know the verb {VERB}"
        return PeerStatus(reply.peer, None, Problem.UNAVAILABLE, what, "update remaphore there, and restart its daemon")
    if reply.exit_code != 0:
        what = f"replied {'without an exit code' if reply.exit_code is None else f'with exit code {reply.exit_code}'}"
        return PeerStatus(reply.peer, None, Problem.UNREADABLE, f"{what}, not with a status", here)
    try:
        return PeerStatus(reply.peer, parse(reply.output))
    except DecodeError as error:
        hint = f"{here}; or update the older of the two nodes"
        return PeerStatus(reply.peer, None, Problem.UNREADABLE, f"unreadable: {shorten(str(error))}", hint)


def silent(peer: Peer, config: Config, *, waited: str) -> PeerStatus:
    """Return the report about a *peer* that did not reply. waited: how long, such as `within 5 s`."""
    what, hint = f"no reply {waited}", "remaphore doctor finds out why"
    if any(identity.key == peer.key for identity in config.identities):  # as in a peers.d that is the same everywhere
        what, hint = "this node itself, which does not answer its own messages", "leave out NODES: remaphore status"
    elif peer.legacy:
        what, hint = f"{what}; the Go implementation has no status", "remaphore ping shows whether it is up"
    return PeerStatus(peer.destination, None, Problem.NO_REPLY, what, hint)


class Local(NamedTuple):
    """The status of the daemon of this machine. age_seconds: how old it is; stale: whether it should be newer."""

    content: LocalStatus
    age_seconds: float
    stale: bool


def read_local(folder: Path, *, default: bool, monotonic: Callable[[], float] = time.monotonic) -> Local:
    """Return the status of the daemon that uses the state directory *folder*. Raise StateError.

    It runs if its lock is held, and the file is its own if the pid is the same: the age proves neither. A daemon that
    has just been started gets WAIT_SECONDS to write it. default: whether *folder* follows from the user alone, so that
    the daemon of the system has another.
    """
    until = monotonic() + WAIT_SECONDS
    while True:
        holder = _holder(folder, default=default)
        try:
            content = load(folder)
        except FileNotFoundError:
            problem = "it has written no status"
        except (OSError, DecodeError) as error:
            problem = f"its status cannot be read: {getattr(error, 'strerror', None) or error}"
        else:
            if holder in (str(content.pid), state.UNKNOWN_PID):
                age = max(0.0, monotonic() - content.monotonic)
                return Local(content, age, age > STALE_SECONDS)
            problem = f"its status is that of another process, {content.pid}"
        if monotonic() > until:
            hint = "look for status_file_failed in its log; a daemon of an older version has to be restarted"
            raise StateError(f"a daemon (pid {holder}) uses {folder}, but {problem}", hint=hint)
        time.sleep(_AGAIN_SECONDS)


def _holder(folder: Path, *, default: bool) -> str:
    """Return the pid of the daemon that uses *folder*. Raise StateError if there is none, or it cannot be seen."""
    try:
        os.close(os.open(folder / state.LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW))
        holder = state.holder(folder)
    except PermissionError:
        hint = f"run it as the user of the daemon: {_as_owner(folder)} remaphore status{_instance(folder)}"
        raise StateError(f"state directory {folder}: permission denied", hint=hint) from None
    except FileNotFoundError:
        holder = ""
    except OSError as error:
        raise StateError(f"state directory {folder}: {error.strerror}", hint=locks.hint(error)) from None
    if holder:
        return holder
    what = f"no daemon is running with the state directory {folder}"
    instance = _instance(folder)
    start = f"remaphore run{instance}" if instance else "systemctl start remaphore, or remaphore run"
    hint = f"start it ({start}); --instance NAME names another one"
    if default and os.geteuid() != 0:
        hint = f"for the daemon of the system: sudo remaphore status{instance}; or {hint}"
    with suppress(OSError, DecodeError):
        left = load(folder)
        what += f"; the last one (pid {left.pid}) did not end cleanly"
        if number := len(left.status.running):
            what += f", while it was handling {number} message{'s' if number > 1 else ''}"
    raise StateError(what, hint=hint)


def _instance(folder: Path) -> str:
    """Return the option, behind a space, that names the instance which *folder* belongs to; nothing if it is usual."""
    return "" if folder.name == state.DEFAULT_INSTANCE else f" --instance {folder.name}"


def _as_owner(folder: Path) -> str:
    """Return the command that runs another as the owner of *folder*, or of what is above it if that cannot be seen."""
    try:
        owner = folder.stat().st_uid
        return f"sudo -u {shlex.quote(pwd.getpwuid(owner).pw_name)}" if owner else "sudo"
    except (OSError, KeyError):
        return "sudo"
