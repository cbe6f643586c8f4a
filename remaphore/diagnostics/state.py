"""The state directory of the daemon, its ledger, and its threads. Nothing that is created is kept, and no lock is."""

from __future__ import annotations

import os
import pwd
import shlex
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from remaphore.config.settings import Config
from remaphore.diagnostics.findings import Code, Finding, Level, from_error
from remaphore.errors import RemaphoreError, StateError
from remaphore.protocol import duration
from remaphore.receiving.ledger import locks, state
from remaphore.receiving.ledger.ledger import FILE
from remaphore.receiving.ledger.schema import VERSION
from remaphore.receiving.ledger.store import Store
from remaphore.receiving.threads import start_threads
from remaphore.receiving.verifier import THREADS
from remaphore.trust import is_read_only

_ROOT = 0
DAEMON_THREADS = 1 + THREADS  # that of the ledger, and those that verify signatures


def check_state(config: Config, directory: Path, *, now: int) -> Iterator[Finding]:
    """Check *directory*, that of one instance, for a daemon of our user. now: Unix nanoseconds."""
    where, name = str(directory), shlex.quote(str(directory))
    # Not Path.exists, which raises where we may not search, such as below a HOME of another user.
    existing = next(each for each in (directory, *directory.parents) if os.path.exists(each))  # noqa: PTH110
    found = existing.stat()
    owner = found.st_uid
    if os.geteuid() == _ROOT and owner != _ROOT:
        # Its owner is likely the daemon's user. A new owner would keep that daemon from starting.
        what = f"{existing} is owned by uid {owner}: a daemon of root rejects it, one of that user can use it"
        hint = f"check as that user: setpriv {_as_user(owner, found.st_gid)} remaphore check"
        yield Finding(Level.WARNING, Code.STATE_UNUSABLE, where, what, f"{hint} -c {shlex.quote(config.source)}")
        return
    if existing != directory:
        yield check_parents(directory, existing)
        if existing.is_dir():
            yield from check_locks(directory, existing)
        return
    if not directory.is_dir():
        yield Finding(Level.ERROR, Code.STATE_UNUSABLE, where, "not a directory", f"mv {name} {name}.old")
        return
    try:
        state.check(directory)
    except StateError as error:
        yield from_error(Code.STATE_UNUSABLE, where, error)
        return
    if is_read_only(where):
        hint = "mount it so that it can be written, or set state_dir to another directory"
        yield Finding(Level.ERROR, Code.STATE_UNUSABLE, where, "on a read-only file system", hint)
        return
    yield from check_plugin_directories(directory / state.PLUGINS, config.enabled_plugins)
    yield from check_locks(directory, directory)
    holder = state.holder(directory)
    if holder:
        what = f"a daemon is running (pid {holder})"
        hint = "start a second one with --instance NAME"
        yield Finding(Level.NOTE, Code.DAEMON_RUNNING, where, what, hint)
    yield check_ledger(directory / FILE, now=now, allow_skew_ns=config.allow_skew_ns)


def check_plugin_directories(parent: Path, plugins: Sequence[str]) -> Iterator[Finding]:
    """Check those state directories of *plugins* in *parent* that exist: a plugin need not have one."""
    for path in (parent, *(parent / name for name in plugins if state.NAME.fullmatch(name))):
        if os.path.lexists(path):
            try:
                state.check(path)
            except StateError as error:
                yield from_error(Code.STATE_UNUSABLE, str(path), error)


def _as_user(uid: int, gid: int) -> str:
    """Return the options of setpriv(1) for the user *uid* with its groups, of which one may read the configuration.

    gid: that of its files, for a user that is not in the user database.
    """
    try:
        return f"--reuid {uid} --regid {pwd.getpwuid(uid).pw_gid} --init-groups"
    except KeyError:
        return f"--reuid {uid} --regid {gid} --clear-groups"


def check_parents(directory: Path, parent: Path) -> Finding:
    """Return whether the daemon can create *directory*; *parent* is the lowest of its parents that exists."""
    if parent.is_dir():
        try:
            state.check(directory)
        except StateError as error:
            return from_error(Code.STATE_UNUSABLE, str(directory), error)
    if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
        return Finding(Level.OK, Code.STATE_OK, str(directory), "will be created when the daemon starts")
    hint = "set state_dir to a directory that the daemon's user can write to"
    if not parent.is_dir():
        hint = f"{hint}, or run: mv {shlex.quote(str(parent))} {shlex.quote(str(parent))}.old"
    return Finding(Level.ERROR, Code.STATE_UNUSABLE, str(directory), f"cannot be created in {parent}", hint)


def check_locks(directory: Path, existing: Path) -> Iterator[Finding]:
    """Report that there are no locks in *existing*: it is *directory*, or the parent in which that will be created."""
    try:
        locks.probe(existing)
    except StateError as error:
        what = str(error).partition(f"{existing}: ")[2]
        yield Finding(Level.ERROR, Code.LOCKS_UNAVAILABLE, str(directory), what, error.hint)


def check_ledger(path: Path, *, now: int, allow_skew_ns: int) -> Finding:
    """Return the state of the ledger *path*. It is only read, also while a daemon writes it."""
    where = str(path)
    # An empty one is what a daemon leaves that found no room on the disk: the next one creates its tables.
    if not path.exists() or path.stat().st_size == 0:
        return Finding(Level.OK, Code.STATE_OK, where, "will be created when the daemon starts")
    move_away = f"stop the daemon, and run: mv {shlex.quote(where)} {shlex.quote(where)}.old"
    found = Store.inspect(path)
    if found.newer:
        what = f"created by a newer remaphore (schema {found.version}, ours is {VERSION})"
        return Finding(Level.ERROR, Code.LEDGER_NEWER, where, what, f"install that version; or {move_away}")
    if found.damage:
        return Finding(Level.ERROR, Code.LEDGER_DAMAGED, where, f"damaged: {found.damage}", move_away)
    if found.low_water_mark > now + allow_skew_ns:
        ahead = (found.low_water_mark - now) / duration.SECOND
        what = f"drops messages signed within the next {ahead:.0f} s: this clock is behind, or was ahead"
        return Finding(Level.ERROR, Code.LEDGER_AHEAD, where, what, f"set the clock; if it is correct, {move_away}")
    return Finding(Level.OK, Code.STATE_OK, where, "ledger is valid")


def check_threads() -> Iterator[Finding]:
    """Report that the threads that a daemon needs cannot be started. Those of its unit or container may be fewer."""
    with ThreadPoolExecutor(DAEMON_THREADS, "check") as threads:
        try:
            start_threads(threads, DAEMON_THREADS)
        except RemaphoreError as error:
            yield from_error(Code.THREADS_UNAVAILABLE, "threads", error)
