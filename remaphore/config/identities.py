"""Adding and removing identities of this node, and choosing the default one.

A rotation takes place on every node, also where only what the daemon needs is installed, and identities cannot be in
`peers.d`. So these edits need no library: they insert or delete whole lines, and `revision.write` compares the result.
In

    [[identities]]        # the table begins here
    key = "..."
    # the old one

    # The peers.
    [[peers]]

the table ends at the blank line: what follows introduces the next table.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from remaphore.config import checks, creation, files, peer_line, render, revision, secrets
from remaphore.config.revision import Texts
from remaphore.config.settings import Config, Identity
from remaphore.errors import ConfigError, KeyFormatError, UsageError
from remaphore.protocol.keys import PrivateKey

_HEADER = re.compile(r"[ \t]*\[")
_IDENTITY = re.compile(r"[ \t]*\[\[[ \t]*identities[ \t]*\]\]")
_DEFAULT = re.compile(r"[ \t]*default_identity[ \t]*=[ \t]*[\"'][1-9A-Za-z]*[\"']")
_DESTINATION = re.compile(r"[ \t]*destination[ \t]*=")


class NewIdentity(NamedTuple):
    """The result of `add`. changed: the configuration, unless it had the identity. created: whether the file is new."""

    identity: Identity
    file: Path
    changed: tuple[str, ...]
    created: bool


def add(path: str, *, key_file: str = "", verbs: frozenset[str] = frozenset()) -> NewIdentity:
    """Add an identity to the configuration *path*.

    key_file: the private key's file, which is created if it does not exist; empty for a new one next to *path*. verbs:
    what this node may send with it, empty for those of the default identity. Raise ConfigError, and then nothing has
    changed.
    """
    for verb in verbs:
        problem = checks.verb_problem(verb)
        if problem is not None:
            raise UsageError(f"--verbs: {problem.what}", hint=problem.hint)
    with revision.editing(path) as before:
        config = before.config()
        default = config.identity()
        file = Path(os.path.abspath(key_file)) if key_file else _new_name(path)  # noqa: PTH100 - keeps links
        created = not os.path.lexists(file)
        private = PrivateKey.generate() if created else creation.read_key(file)
        identity = Identity(key=private.public, verbs=verbs or default.verbs, load=lambda: private, file=file)
        known = next((each for each in config.identities if each.key == identity.key), None)
        if known is not None:
            if verbs and verbs != known.verbs:
                what = f"{known.key} is already an identity, and may send {', '.join(sorted(known.verbs)) or 'nothing'}"
                raise ConfigError(
                    f"{what}: {path}", hint="omit --verbs, or edit the verbs of this identity in the file"
                )
            return NewIdentity(known, file, (), created=False)
        _check_not_of_a_peer(config, identity.key, file)
        base = revision.folder(path)
        name = str(file.relative_to(base) if file.is_relative_to(base) else file)
        table = render.identity(key=identity.key, private_key_file=name, verbs=identity.verbs)
        lines = before.by_name[path].split("\n")
        tables = _tables(lines)
        by_hand = f"add to its identities: {', '.join(table.splitlines()[1:])}"
        if not tables:
            raise _by_hand(path, by_hand)
        _insert(lines, tables[-1][1], table)
        if created:
            mode = creation.SECRET_MODE | _group_mode(default.file)
            secret = files.NewFile(path=file, text=f"{private.reveal()}\n", mode=mode, like=default.file)
            files.create_all([secret])
        try:
            expected = replace(config, identities=(*config.identities, identity))
            changed = _write(before, lines, expected=expected, by_hand=by_hand)
        except BaseException:
            if created:
                file.unlink()
            raise
        return NewIdentity(identity, file, changed, created)


def set_default(path: str, key: str) -> tuple[str, ...]:
    """Make the identity *key* the default one of *path*, and return the changed file, if any. Raise ConfigError."""
    with revision.editing(path) as before:
        config = before.config()
        if choose(config, key).key == config.default_identity:
            return ()
        lines = before.by_name[path].split("\n")
        line = f"default_identity = {render.string(key)}"
        top = next((at for at, each in enumerate(lines) if _HEADER.match(each)), len(lines))
        for at in range(top):
            if _DEFAULT.match(lines[at]):
                lines[at] = _DEFAULT.sub(line, lines[at])
                break
        else:
            after = next((at + 1 for at in range(top) if _DESTINATION.match(lines[at])), 0)
            lines.insert(after, line + _ending(lines))
        by_hand = f"write above its first [table]: {line}"
        return _write(before, lines, expected=replace(config, default_identity=key), by_hand=by_hand)


def remove(path: str, key: str, *, delete_key_file: bool = False) -> tuple[Path | None, tuple[str, ...]]:
    """Remove the identity *key* from the configuration *path*; return its private key's file, and the changed file.

    delete_key_file: delete that file, too; nothing is removed unless it contains this key, or does not exist. Raise
    ConfigError, also for the default identity.
    """
    with revision.editing(path) as before:
        config = before.config()
        gone = choose(config, key)
        file = shlex.quote(path)
        if len({each.key for each in config.identities}) == 1:
            hint = f"first add another, and make it the default: remaphore identity add -c {file}"
            raise ConfigError(f"{key} is the only identity of {path}", hint=hint)
        if key == config.default_identity:
            hint = f"first choose another default: remaphore identity default -c {file} KEY"
            raise ConfigError(f"{key} is the default identity of {path}", hint=hint)
        if delete_key_file and gone.file is not None:
            _check_contents(gone.file, key)
        lines = before.by_name[path].split("\n")
        tables = _tables(lines)
        by_hand = "delete this key from its identities"
        if len(tables) != len(config.identities):
            raise _by_hand(path, by_hand)
        for (start, end), each in reversed([*zip(tables, config.identities, strict=True)]):
            if each.key == key:
                _delete(lines, start, end)
        left = tuple(each for each in config.identities if each.key != key)
        changed = _write(before, lines, expected=replace(config, identities=left), by_hand=by_hand)
        if delete_key_file and gone.file is not None and os.path.lexists(gone.file):
            files.delete(gone.file)
        return gone.file, changed


def choose(config: Config, key: str) -> Identity:
    """Return the identity with this public key. Raise UsageError, which quotes no private key given by mistake."""
    problem = peer_line.secret_problem(key)
    if problem is not None:
        raise UsageError(problem.what, hint=problem.hint)
    for identity in config.identities:
        if identity.key == key:
            return identity
    hint = f"list the identities: remaphore identity list -c {shlex.quote(config.source)}"
    raise UsageError(f"no identity {key} in {config.source}", hint=hint)


def _new_name(path: str) -> Path:
    """Return a name that no file has yet: `NAME-2.key` and so on, as `config convert` names further keys."""
    config = Path(path).absolute()
    number = 2
    while os.path.lexists(name := config.with_name(f"{config.stem}-{number}.key")):
        number += 1
    return name


def _group_mode(file: Path | None) -> int:
    """Return whether the group of *file* can read it, as a mode, for a new file that root creates like it.

    A daemon that reads the old key as a member of its group reads the new one so. Only root gives it the same group.
    """
    if file is None or os.geteuid() != 0 or not file.exists():
        return 0
    return file.stat().st_mode & stat.S_IRGRP


def _check_not_of_a_peer(config: Config, key: str, file: Path) -> None:
    for peer in config.peers:
        if peer.key == key and peer.destination != config.destination:
            hint = "two nodes must not share a key: create a new one, in a file that does not exist"
            raise ConfigError(f"{file}: this key belongs to the peer {peer.destination}", hint=hint)


def _check_contents(file: Path, key: str) -> None:
    """Raise ConfigError if *file* exists and contains anything but the private key of *key*."""
    if not os.path.lexists(file):
        return
    raw, _ = secrets.read_file(file, what="private key")
    try:
        public = PrivateKey.from_text(raw.decode("utf-8-sig", errors="replace").strip()).public
    except KeyFormatError:
        public = ""
    if public != key:
        hint = "omit --delete-key-file, and look at the file"
        raise ConfigError(f"{file}: does not contain the private key of {key}", hint=hint)


def _write(before: Texts, lines: list[str], *, expected: Config, by_hand: str) -> tuple[str, ...]:
    """Write *lines* to the main file. Raise ConfigError with the hint *by_hand* if they do not make a configuration."""
    after = before.changed(before.main, "\n".join(lines))
    try:
        after.config()
    except ConfigError:
        raise _by_hand(before.main, by_hand) from None
    return revision.write(before, after, expected=expected)


def _by_hand(path: str, hint: str) -> ConfigError:
    return ConfigError(f"{path}: cannot be edited by this command", hint=f"edit the file by hand: {hint}")


def _ending(lines: Iterable[str]) -> str:
    """Return what each of *lines* has before its newline: a carriage return in a file of Windows."""
    return "\r" if any(line.endswith("\r") for line in lines) else ""


def _tables(lines: list[str]) -> list[tuple[int, int]]:
    """Return the first line of each [[identities]] table, and the line after its last one."""
    headers = [at for at, line in enumerate(lines) if _HEADER.match(line)]
    found = []
    for start, following in zip(headers, [*headers[1:], len(lines)], strict=True):
        if _IDENTITY.match(lines[start]):
            last = max(at for at in range(start, following) if lines[at].strip() and lines[at].strip()[0] != "#")
            end = next((at for at in range(last + 1, following) if not lines[at].strip()), following)
            found.append((start, end))
    return found


def _insert(lines: list[str], at: int, table: str) -> None:
    ending = _ending(lines)
    block = [line + ending for line in ("", *table.rstrip("\n").split("\n"))]
    if at == len(lines):
        block.append("")  # the last line gets its newline
    elif lines[at].strip():
        block.append(ending)
    lines[at:at] = block


def _delete(lines: list[str], start: int, end: int) -> None:
    """Delete a table with the blank lines on one side of it."""
    if start and not lines[start - 1].strip():
        start -= 1
    else:
        while end < len(lines) - 1 and not lines[end].strip():
            end += 1
    del lines[start:end]
