"""The state directory of the daemon, and its ledger. Nothing is made, locked for long or written."""

from __future__ import annotations

import os
import shlex
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from remaphore.config.settings import Config
from remaphore.diagnostics.findings import Code, Finding, Level
from remaphore.protocol import duration
from remaphore.receiving.ledger import state
from remaphore.receiving.ledger.ledger import FILE
from remaphore.receiving.ledger.store import VERSION

_ROOT = 0


def check_state(config: Config, folder: Path, *, now: int, user: int) -> Iterator[Finding]:
    """Judge *folder*, the directory of one instance, for a daemon of the uid *user*. now: Unix nanoseconds."""
    if not folder.exists():
        yield from _check_unmade(folder)
        return
    found = folder.stat()
    if not stat.S_ISDIR(found.st_mode):
        hint = f"mv {shlex.quote(str(folder))} {shlex.quote(str(folder))}.old"
        yield Finding(Level.ERROR, Code.STATE_UNUSABLE, str(folder), "the state directory is no directory", hint)
        return
    if found.st_uid not in (_ROOT, user) or not os.access(folder, os.W_OK | os.X_OK):
        hint = f"chown -R {user} {shlex.quote(str(folder))} && chmod 0700 {shlex.quote(str(folder))}"
        yield Finding(Level.ERROR, Code.STATE_UNUSABLE, str(folder), "the state directory is not ours to write", hint)
        return
    holder = state.holder(folder)
    if holder:
        what = f"a daemon runs (pid {holder}); another one needs --instance NAME"
        yield Finding(Level.NOTE, Code.DAEMON_RUNNING, str(folder), what)
    yield from _check_ledger(folder / FILE, now=now, allow_skew_ns=config.allow_skew_ns)


def _check_unmade(folder: Path) -> Iterator[Finding]:
    above = next(parent for parent in folder.parents if parent.exists())
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        yield Finding(Level.OK, Code.STATE_OK, str(folder), "the daemon makes it when it starts")
        return
    hint = "set state_dir to a directory that we may write"
    if not above.is_dir():
        hint = f"{hint}, or: mv {shlex.quote(str(above))} {shlex.quote(str(above))}.old"
    yield Finding(Level.ERROR, Code.STATE_UNUSABLE, str(folder), f"it cannot be made in {above}", hint)


def _check_ledger(path: Path, *, now: int, allow_skew_ns: int) -> Iterator[Finding]:
    if not path.exists():
        yield Finding(Level.OK, Code.STATE_OK, str(path), "the daemon makes it when it starts")
        return
    away = f"stop the daemon, and: mv {shlex.quote(str(path))} {shlex.quote(str(path))}.old"
    try:
        version, damage, latest = _read_ledger(path)
    except (sqlite3.Error, OSError, TypeError) as error:
        yield Finding(Level.ERROR, Code.LEDGER_DAMAGED, str(path), f"it cannot be read ({error})", away)
        return
    if version > VERSION:
        what = f"made by a newer remaphore (schema {version}, ours is {VERSION})"
        yield Finding(Level.ERROR, Code.LEDGER_NEWER, str(path), what, f"install that one; or {away}")
    elif damage != "ok":
        yield Finding(Level.ERROR, Code.LEDGER_DAMAGED, str(path), f"it is damaged: {damage}", away)
    elif latest > now + allow_skew_ns:
        off = (latest - now) / duration.SECOND
        what = f"it rejects what was signed in the next {off:.0f} s: this clock is behind, or was ahead"
        yield Finding(Level.ERROR, Code.LEDGER_AHEAD, str(path), what, f"set the clock; if it is right, {away}")
    else:
        yield Finding(Level.OK, Code.STATE_OK, str(path), "the ledger is sound")


def _read_ledger(path: Path) -> tuple[int, str, int]:
    """Return the schema's version, what the integrity check says, and the latest time up to which it rejects."""
    database = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
    try:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version != VERSION:
            return version, "ok" if version > VERSION else "it was never begun", 0
        (damage,) = database.execute("PRAGMA integrity_check(1)").fetchone()
        (began,) = database.execute("SELECT value FROM meta WHERE name = 'began'").fetchone()
        (floor,) = database.execute("SELECT max(floor) FROM senders").fetchone()
    finally:
        database.close()
    return version, damage, max(began, floor or began)
