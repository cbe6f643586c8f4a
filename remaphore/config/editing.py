"""Adding and removing peers, in the main file or in `peers.d` next to it.

Each edit is made on the texts in memory, which are parsed again and compared with the intended configuration. Only then
are the files changed, each of them atomically.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from remaphore.config import files, peer_line, render, roundtrip, search, secrets, toml
from remaphore.config.settings import Config
from remaphore.errors import ConfigError, UsageError
from remaphore.protocol.peers import Peer

_MODE = 0o644  # a node's peers are not secret
# A destination that can name a drop-in: neither hidden nor in another directory, and within the limit of a file name.
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}")


@dataclass(frozen=True, slots=True)
class _Texts:
    """The texts of a configuration: the name of the main file, and the text of each file by its name."""

    main: str
    by_name: Mapping[str, str]

    def config(self) -> Config:
        """Return the configuration that they make. Raise ConfigError."""
        others = sorted(item for item in self.by_name.items() if item[0] != self.main)
        return toml.parse(self.by_name[self.main], self.main, _folder(self.main), drop_ins=others)


def add(path: str, peers: Sequence[Peer], *, drop_in: bool = False, rotate: bool = False) -> tuple[str, ...]:
    """Add *peers* to the configuration *path*, all or none, and return the names of the changed files.

    drop_in: write to `peers.d/DESTINATION.toml` instead of the main file. rotate: the peers are further keys of known
    destinations, which are an error otherwise. Raise ConfigError, and then no file has changed.
    """
    with files.locked(_folder(path)):
        before = _read(path)
        config = before.config()
        _check_new(config, peers, rotate=rotate)
        changed = dict(before.by_name)
        if not drop_in:
            changed[path] = roundtrip.append(changed[path], peers, path)
        for peer in peers if drop_in else ():
            if not _FILE_NAME.fullmatch(peer.destination):
                what = f"{peer.destination!r} cannot be the name of a file in {search.DROP_INS}"
                raise ConfigError(what, hint="omit --drop-in")
            name = f"{_folder(path)}/{search.DROP_INS}/{peer.destination}.toml"
            text, block = changed.get(name, ""), render.peer(peer)
            changed[name] = f"{text.rstrip()}\n\n{block}" if text.strip() else block
        return _write(before, _Texts(path, changed), (*config.peers, *peers))


def remove(path: str, peers: Iterable[Peer]) -> tuple[str, ...]:
    """Remove each of *peers* from its file, and return the names of the changed files.

    A file in `peers.d` that has no other peers is deleted. Raise ConfigError.
    """
    gone = {(peer.destination, peer.key) for peer in peers}
    with files.locked(_folder(path)):
        before = _read(path)
        left = [peer for peer in before.config().peers if (peer.destination, peer.key) not in gone]
        kept = dict(before.by_name)
        for name, text in before.by_name.items():
            found = toml.document(text, name).get("peers", [])
            numbers = [number for number, peer in enumerate(found) if (peer["destination"], peer["key"]) in gone]
            if numbers and len(numbers) == len(found) and name != path:
                del kept[name]
            elif numbers:
                kept[name] = roundtrip.remove(text, numbers, name)
        return _write(before, _Texts(path, kept), left)


def check_format(path: str) -> None:
    """Raise ConfigError if the configuration *path* is a legacy .conf, which is never edited."""
    if not path.endswith(".toml"):
        hint = f"convert it to TOML: remaphore config convert {shlex.quote(path)}"
        raise ConfigError(f"{path}: a legacy .conf file cannot be edited", hint=hint)


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


def _folder(path: str) -> Path:
    return Path(path).absolute().parent


def _read(path: str) -> _Texts:
    check_format(path)
    raw, _ = secrets.read_file(path, what="configuration")
    # Who else could have changed them does not matter to an edit: `check` reports it, and `run` refuses to start.
    drop_ins = search.drop_ins(_folder(path), warn=lambda _problem: None)
    return _Texts(path, {path: search.utf8(raw, path), **dict(drop_ins)})


def _check_new(config: Config, peers: Sequence[Peer], *, rotate: bool) -> None:
    # Of several with the same key or destination the first takes precedence.
    keys = {peer.key: peer for peer in reversed(config.peers)}
    known = {peer.destination: peer for peer in reversed(config.peers)}
    for peer in peers:
        if (other := keys.get(peer.key)) is not None:
            what = f"the key of {peer.destination} already belongs to {other.destination}"
            hint = f"add nothing, or first run: remaphore peer remove -c {shlex.quote(config.source)} {other.key}"
            raise ConfigError(f"{what}: {other.origin or 'given twice'}", hint=hint)
        if (other := known.get(peer.destination)) is not None and not rotate:
            what = f"{peer.destination} is already known with another key"
            hint = "if both keys belong to it, as during a key rotation, add --rotate"
            raise ConfigError(f"{what}: {other.origin or 'given twice'}", hint=hint)
        keys[peer.key] = peer
        known.setdefault(peer.destination, peer)
    names = Counter(peer.destination for peer in (*config.peers, *peers))
    for peer in peers:
        if rotate and names[peer.destination] == 1:
            raise ConfigError(f"{peer.destination} is not known, so it has no key to rotate", hint="omit --rotate")


def _write(before: _Texts, after: _Texts, peers: Iterable[Peer]) -> tuple[str, ...]:
    """Write the files that differ, and return their names. *peers*: what *after* must contain."""
    old, new = before.config(), after.config()
    # Guards against a mistake of ours or of tomlkit's: the edit may change the peers, and only as intended.
    same = replace(old, peers=(), warnings=()) == replace(new, peers=(), warnings=())
    if not same or Counter(new.peers) != Counter(peers):
        hint = "nothing was changed: edit the file by hand"
        raise ConfigError(f"{old.source}: the edit would change more than the peers", hint=hint)
    changed = [name for name in after.by_name if after.by_name[name] != before.by_name.get(name)]
    gone = [name for name in before.by_name if name not in after.by_name]
    created = [Path(name) for name in changed if name not in before.by_name]
    for folder in {path.parent for path in created}:
        files.make_folder(folder)
    files.create_all([files.NewFile(path=path, text=after.by_name[str(path)], mode=_MODE) for path in created])
    for name in changed:
        if name in before.by_name:
            files.replace(Path(name), after.by_name[name])
    for name in gone:
        files.delete(Path(name))
    return (*changed, *gone)
