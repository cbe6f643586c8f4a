"""Adding and removing peers: in our own file, or in `peers.d` beside it.

Each edit is made on the texts in memory, read again as a configuration, and compared with what it should be; only then
do the files change, each at once.
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

_MODE = 0o644  # who a node knows is no secret
# A destination that names a file of ours: neither hidden nor in another folder, and no longer than a name may be.
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}")


@dataclass(frozen=True, slots=True)
class _Texts:
    """What a configuration is made of: the name of its own file, and the text of each file by its name."""

    main: str
    by_name: Mapping[str, str]

    def config(self) -> Config:
        """Return what they mean. Raises ConfigError."""
        others = sorted(item for item in self.by_name.items() if item[0] != self.main)
        return toml.parse(self.by_name[self.main], self.main, _folder(self.main), drop_ins=others)


def add(path: str, peers: Sequence[Peer], *, drop_in: bool = False, rotate: bool = False) -> tuple[str, ...]:
    """Add *peers* to the configuration *path*, all or none, and return the names of the files that have changed.

    drop_in: to `peers.d/DESTINATION.toml` instead of the file itself. rotate: they are further keys of destinations
    that are known, which is rejected else. Raises ConfigError, and then no file has changed.
    """
    with files.locked(_folder(path)):
        before = _read(path)
        config = before.config()
        _check_new(config, peers, rotate=rotate)
        changed = dict(before.by_name)
        if drop_in:
            for peer in peers:
                name = _drop_in_name(path, peer)
                changed[name] = _with_block(changed.get(name, ""), render.peer(peer))
        else:
            changed[path] = roundtrip.append(changed[path], peers, path)
        return _write(before, _Texts(path, changed), (*config.peers, *peers))


def remove(path: str, peers: Iterable[Peer]) -> tuple[str, ...]:
    """Remove each of *peers*, wherever it stands, and return the names of the files that have changed.

    A file in `peers.d` that has no others is deleted. Raises ConfigError.
    """
    gone = {(peer.destination, peer.key) for peer in peers}
    with files.locked(_folder(path)):
        before = _read(path)
        left = [peer for peer in before.config().peers if (peer.destination, peer.key) not in gone]
        changed = {name: _without(text, gone, name, main=name == path) for name, text in before.by_name.items()}
        kept = {name: text for name, text in changed.items() if text is not None}
        return _write(before, _Texts(path, kept), left)


def check_format(path: str) -> None:
    """Raise ConfigError if the configuration *path* is in the original's format, which is not edited."""
    if not path.endswith(".toml"):
        raise ConfigError(
            f"{path}: in the original's format, which is not edited; make TOML of it:"
            f" remaphore config convert {shlex.quote(path)}"
        )


def choose(config: Config, wanted: str, *, key: str = "", every: bool = False) -> tuple[Peer, ...]:
    """Return the peers of *config* that *wanted* names: a destination, or a public key.

    A destination with several keys is rejected, unless *key* says which, or *every* that all are meant. Raises
    UsageError, which quotes no private key that was given by mistake.
    """
    for given in (wanted, key):
        problem = peer_line.secret_problem(given)
        if problem is not None:
            raise UsageError(problem)
    peers = tuple(peer for peer in config.peers if wanted in (peer.destination, peer.key) and key in ("", peer.key))
    keys = tuple(dict.fromkeys(peer.key for peer in peers))
    if not peers:
        what = f"{wanted} with the key {key}" if key else wanted
        raise UsageError(f"no peer {what} in {config.source}; see remaphore peer list -c {shlex.quote(config.source)}")
    if len(keys) > 1 and not every:
        raise UsageError(f"{wanted} has {len(keys)} keys: {', '.join(keys)}; say which: --key KEY, or --all")
    return peers


def _folder(path: str) -> Path:
    return Path(path).absolute().parent


def _read(path: str) -> _Texts:
    check_format(path)
    raw, _ = secrets.read_file(path, what="configuration")
    return _Texts(path, {path: search.utf8(raw, path), **dict(search.drop_ins(_folder(path)))})


def _check_new(config: Config, peers: Sequence[Peer], *, rotate: bool) -> None:
    keys = {peer.key: peer for peer in reversed(config.peers)}  # of several with one key the first counts
    known = {peer.destination: peer for peer in reversed(config.peers)}
    for peer in peers:
        if (other := keys.get(peer.key)) is not None:
            raise ConfigError(
                f"the key of {peer.destination} is known, as that of {other.destination}: {other.origin or 'twice'}"
                f"; nothing to add, or first: remaphore peer remove -c {shlex.quote(config.source)} {other.key}"
            )
        if (other := known.get(peer.destination)) is not None and not rotate:
            raise ConfigError(
                f"{peer.destination} is known with another key: {other.origin or 'given twice'}; if both are its"
                " own, as while it changes keys: --rotate"
            )
        keys[peer.key] = peer
        known.setdefault(peer.destination, peer)
    names = Counter(peer.destination for peer in (*config.peers, *peers))
    for peer in peers:
        if rotate and names[peer.destination] == 1:
            raise ConfigError(f"{peer.destination} is not known, so it has no key to rotate; leave out --rotate")


def _drop_in_name(path: str, peer: Peer) -> str:
    if not _FILE_NAME.fullmatch(peer.destination):
        raise ConfigError(
            f"{peer.destination!r} cannot be the name of a file in {search.DROP_INS}; leave out --drop-in"
        )
    return f"{_folder(path)}/{search.DROP_INS}/{peer.destination}.toml"


def _with_block(text: str, block: str) -> str:
    return f"{text.rstrip()}\n\n{block}" if text.strip() else block


def _without(text: str, gone: set[tuple[str, str]], name: str, *, main: bool) -> str | None:
    """Return *text* without those peers; None if it is a drop-in that has no others."""
    peers = toml.document(text, name).get("peers", [])
    numbers = [number for number, peer in enumerate(peers) if (peer["destination"], peer["key"]) in gone]
    if not numbers:
        return text
    return None if len(numbers) == len(peers) and not main else roundtrip.remove(text, numbers, name)


def _write(before: _Texts, after: _Texts, peers: Iterable[Peer]) -> tuple[str, ...]:
    _check(before.config(), after.config(), peers)
    changed = [name for name in after.by_name if after.by_name[name] != before.by_name.get(name)]
    gone = [name for name in before.by_name if name not in after.by_name]
    new = [Path(name) for name in changed if name not in before.by_name]
    for folder in {path.parent for path in new}:
        files.make_folder(folder)
    files.create_all([files.NewFile(path=path, text=after.by_name[str(path)], mode=_MODE) for path in new])
    for name in changed:
        if name in before.by_name:
            files.replace(Path(name), after.by_name[name])
    for name in gone:
        files.delete(Path(name))
    return (*changed, *gone)


def _check(old: Config, new: Config, peers: Iterable[Peer]) -> None:
    """Raise unless *new* is *old* with these *peers*: it guards against a mistake of ours or of tomlkit's."""
    same = replace(old, peers=(), warnings=()) == replace(new, peers=(), warnings=())
    if not same or Counter(new.peers) != Counter(peers):
        raise ConfigError(f"{old.source}: the edit would change more than the peers, so nothing was; edit it by hand")
