"""Adding, removing and permitting peers, in the main file or in `peers.d` next to it."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from remaphore.config import payload_rules, peer_line, render, revision, roundtrip, search, toml
from remaphore.config.settings import Config
from remaphore.config.tables import Table
from remaphore.errors import ConfigError, UsageError
from remaphore.protocol.peers import ANY_VERB, Peer, every_name

# A destination that can name a drop-in: neither hidden nor in another directory, and within the limit of a file name.
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}")


class Edited(NamedTuple):
    """What an edit has changed: the peers, as they are now, and the names of the files; nothing if nothing differed."""

    peers: tuple[Peer, ...] = ()
    files: tuple[str, ...] = ()


def add(path: str, peers: Sequence[Peer], *, drop_in: bool = False, rotate: bool = False) -> Edited:
    """Add those of *peers* that the configuration *path* does not have yet, all or none.

    drop_in: write to `peers.d/DESTINATION.toml` instead of the main file, which cannot be edited without tomlkit.
    rotate: the peers are further keys of known destinations, which are an error otherwise. Raise ConfigError, and then
    no file has changed.
    """
    with revision.editing(path) as before:
        config = before.config()
        new = _check_new(config, peers, rotate=rotate)
        after = before
        if new and not drop_in and roundtrip.is_available():
            after = before.changed(path, roundtrip.append(before.by_name[path], new, path))
        else:
            for peer in new:
                # A key is a safe file name.
                stem = peer.destination if _FILE_NAME.fullmatch(peer.destination) else peer.key
                name = f"{revision.folder(path)}/{search.DROP_INS}/{stem}.toml"
                text, block = after.by_name.get(name, ""), render.peer(peer)
                after = after.changed(name, f"{text.rstrip()}\n\n{block}" if text.strip() else block)
        return Edited(new, revision.write(before, after, expected=replace(config, peers=(*config.peers, *new))))


def remove(path: str, peers: Iterable[Peer]) -> tuple[str, ...]:
    """Remove each of *peers* from its file, and return the names of the changed files.

    A file in `peers.d` that has no other peers is deleted. Raise ConfigError.
    """
    gone = {(peer.destination, peer.key) for peer in peers}
    with revision.editing(path) as before:
        config = before.config()
        kept = dict(before.by_name)
        for name, text in before.by_name.items():
            found = _peers(text, name)
            numbers = [number for number, peer in enumerate(found) if (peer.destination, peer.key) in gone]
            left = [peer for number, peer in enumerate(found) if number not in {*numbers}]
            if numbers and not left and name != path:
                del kept[name]
            elif numbers:
                kept[name] = _edited(text, name, left, partial(roundtrip.remove, text, numbers, name))
        rest = tuple(peer for peer in config.peers if (peer.destination, peer.key) not in gone)
        return revision.write(before, revision.Texts(path, kept), expected=replace(config, peers=rest))


def permit(path: str, peers: Iterable[Peer], *, allow: frozenset[str], deny: frozenset[str]) -> Edited:
    """Add the verbs *allow* to those of each of *peers*, and remove *deny*. Raise ConfigError or UsageError."""
    wanted = {(peer.destination, peer.key) for peer in peers}
    with revision.editing(path) as before:
        config = before.config()

        def permitted(peer: Peer) -> Peer:
            if (peer.destination, peer.key) not in wanted:
                return peer
            return replace(peer, verbs=permitted_verbs(peer, allow=allow, deny=deny, source=config.source))

        after = before
        for name, text in before.by_name.items():
            found = _peers(text, name)
            edited = [*map(permitted, found)]
            verbs = {number: peer.verbs for number, peer in enumerate(edited) if peer != found[number]}
            if verbs:
                ours = _edited(text, name, edited, partial(roundtrip.set_verbs, text, verbs, name))
                after = after.changed(name, ours)
        expected = tuple(map(permitted, config.peers))
        changed = tuple(peer for peer, old in zip(expected, config.peers, strict=True) if peer != old)
        return Edited(changed, revision.write(before, after, expected=replace(config, peers=expected)))


def permitted_verbs(peer: Peer, *, allow: frozenset[str], deny: frozenset[str], source: str) -> frozenset[str]:
    """Return the verbs that *peer* may send with *allow* and without *deny*. Raise UsageError.

    `*` stands for every verb: one that it covers is not added, and to deny one verb, `*` has to be denied, too.
    """
    both = allow & deny
    if both:
        raise UsageError(f"both allowed and denied: {', '.join(sorted(both))}", hint="give each verb only once")
    ruled = sorted(deny & peer.only.keys())
    if ruled:
        what = f"{peer.destination} may send {', '.join(ruled)} by a payload rule, which stays"
        hint = f"delete {', '.join(f'[peers.only.{verb}]' for verb in ruled)} of {peer.origin}"
        raise UsageError(what, hint=hint)
    verbs = (peer.verbs | allow) - deny
    for verb in sorted(deny - verbs):
        if ANY_VERB not in verbs and (entry := every_name(verb)) in verbs:
            what = f"{peer.destination} may send {entry}, so denying {verb} would have no effect"
            raise UsageError(what, hint=f"deny {entry}, and allow those names that it may still use")
    if ANY_VERB not in verbs:
        return verbs
    if deny:
        denied, rest = ",".join(sorted(deny)), "VERB,..."
        what = f"{peer.destination} may send every verb ('*'), so denying {denied} would have no effect"
        command = f"remaphore peer permit -c {shlex.quote(source)} {shlex.quote(peer.destination)}"
        raise UsageError(what, hint=f"name those that it may still send: {command} --deny '*' --allow {rest}")
    return peer.verbs if ANY_VERB in peer.verbs else verbs


def choose(config: Config, wanted: str, *, key: str = "", every: bool = False) -> tuple[Peer, ...]:
    """Return the peers of *config* that *wanted* names: a destination, or a public key.

    For a destination with several keys, *key* must name one, or *every* must be set. Raise UsageError, which quotes no
    private key that was given by mistake.
    """
    for given in (wanted, key):
        problem = peer_line.secret_problem(given)
        if problem is not None:
            raise UsageError(problem.what, hint=problem.hint)
    peers = tuple(peer for peer in config.peers if wanted in (peer.destination, peer.key) and key in ("", peer.key))
    keys = tuple(dict.fromkeys(peer.key for peer in peers))
    if not peers:
        what = f"{wanted} with the key {key}" if key else wanted
        hint = f"list the peers: remaphore peer list -c {shlex.quote(config.source)}"
        raise UsageError(f"no peer {what} in {config.source}", hint=hint)
    if len(keys) > 1 and not every:
        what = f"{wanted} has {len(keys)} keys: {', '.join(keys)}"
        raise UsageError(what, hint="choose one with --key KEY, or all with --all")
    return peers


def _peers(text: str, name: str) -> list[Peer]:
    """Return the peers of one file, which has been checked, in its order."""
    peers = []
    for table in toml.document(text, name).get("peers", []):
        only = payload_rules.read_by_verb(Table(table, source=name, known=None))
        verbs = frozenset(verb.lower() for verb in table["verbs"]).union(only)
        legacy = "compatibility" in table
        peers.append(Peer(destination=table["destination"], key=table["key"], verbs=verbs, only=only, legacy=legacy))
    return peers


def _edited(text: str, name: str, peers: Sequence[Peer], edit: Callable[[], str]) -> str:
    """Return the file *name* with *peers*: written by us if it has been, which needs no tomlkit, else by *edit*."""
    whole = "\n".join(map(render.peer, _peers(text, name)))
    return "\n".join(map(render.peer, peers)) if whole == text else edit()


def _check_new(config: Config, peers: Sequence[Peer], *, rotate: bool) -> tuple[Peer, ...]:
    """Return those of *peers* that are not known. Raise ConfigError for one that is known otherwise."""
    # Of several with the same key or destination the first takes precedence.
    keys = {peer.key: peer for peer in reversed(config.peers)}
    known = {peer.destination: peer for peer in reversed(config.peers)}
    file = shlex.quote(config.source)
    new: list[Peer] = []
    for peer in peers:
        if (other := keys.get(peer.key)) is not None:
            place = other.origin or "given twice"
            if other.destination != peer.destination:
                what = f"the key of {peer.destination} already belongs to {other.destination}: {place}"
                raise ConfigError(what, hint=f"add nothing, or first run: remaphore peer remove -c {file} {other.key}")
            if other.legacy != peer.legacy:
                what = (
                    f"{peer.destination} is already known {'with' if other.legacy else 'without'} compatibility legacy"
                )
                hint = f"to change that, first run: remaphore peer remove -c {file} {other.key}"
                raise ConfigError(f"{what}: {place}", hint=hint)
            if other.verbs != peer.verbs and ANY_VERB not in other.verbs & peer.verbs:
                may = ", ".join(sorted(other.verbs)) or "nothing"
                what = f"{peer.destination} is already known, and may send {may}: {place}"
                raise ConfigError(what, hint=f"to change that: {_permit_command(file, other, peer.verbs)}")
            continue
        if (other := known.get(peer.destination)) is not None and not rotate:
            what = f"{peer.destination} is already known with another key"
            hint = "if both keys belong to it, as during a key rotation, add --rotate"
            raise ConfigError(f"{what}: {other.origin or 'given twice'}", hint=hint)
        keys[peer.key] = peer
        known.setdefault(peer.destination, peer)
        new.append(peer)
    names = Counter(peer.destination for peer in (*config.peers, *new))
    for peer in new:
        if rotate and names[peer.destination] == 1:
            raise ConfigError(f"{peer.destination} is not known, so it has no key to rotate", hint="omit --rotate")
    return tuple(new)


def _permit_command(file: str, known: Peer, verbs: frozenset[str]) -> str:
    """Return the command that changes the verbs of *known* to *verbs*."""
    added, denied = verbs - known.verbs, known.verbs - verbs if ANY_VERB not in verbs else frozenset()
    options = [
        f"{name} {shlex.quote(','.join(sorted(some)))}"
        for name, some in (("--allow", added), ("--deny", denied))
        if some
    ]
    return f"remaphore peer permit -c {file} {known.key} {' '.join(options)}"
