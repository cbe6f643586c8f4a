"""The files of a node: its configuration, as TOML or in the legacy format, and its private key.

The one place that writes them for the tests; the tests of the parsers write their own texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.harness.factories import make_key

NO_LOGIN = 'auth = "none"\n'


class Entry(NamedTuple):
    """A peer as a configuration lists it: the owner of `make_key(number)`."""

    destination: str
    number: int
    verbs: Sequence[str] = ("*",)


def write_private(file: Path, text: str) -> Path:
    """Write a file that only its owner may read, in one step."""
    new = file.with_name(file.name + ".new")
    new.touch(mode=0o600)
    new.write_text(text)
    return new.replace(file)


def credentials_line(file: str | Path) -> str:
    """Return the line of a TOML configuration that names the credentials file."""
    return f'credentials = "{file}"\n'


def write_toml(
    path: Path,
    number: int,
    destination: str,
    *,
    servers: Iterable[str] = ("nats://127.0.0.1:4222",),
    login: str = NO_LOGIN,
    settings: str = "",
    verbs: Sequence[str] = ("*",),
    peers: Iterable[Entry] = (),
    tables: str = "",
    key_file: str | Path | None = None,
) -> Path:
    """Write the configuration and the key of the node that owns `make_key(number)`; return *path*.

    *settings*: more lines before the first table. *login*: how to log in at the broker; it may be a table.
    *tables*: text after the last table. *key_file*: as the configuration names it; default: an absolute path beside
    the configuration.
    """
    key = make_key(number)
    key_file = key_file or path.with_suffix(".key")
    write_private(path.parent / key_file, key.reveal() + "\n")
    return write_private(
        path,
        f'destination = "{destination}"\nservers = {json.dumps(list(servers))}\n{settings}{login}'
        f'[[identities]]\nkey = "{key.public}"\nprivate_key_file = "{key_file}"\nverbs = {json.dumps(list(verbs))}\n'
        + "".join(
            f'[[peers]]\ndestination = "{peer.destination}"\nkey = "{make_key(peer.number).public}"\n'
            f"verbs = {json.dumps(list(peer.verbs))}\n"
            for peer in peers
        )
        + tables,
    )


def write_legacy(
    path: Path,
    number: int,
    destination: str,
    *,
    server: str,
    credentials: str | Path,
    settings: str = "",
    verbs: Sequence[str] = ("*",),
    peers: Iterable[Entry] = (),
    tables: str = "",
) -> Path:
    """Write the same in the legacy format, which has the private key in the configuration; return *path*."""
    key = make_key(number)
    return write_private(
        path,
        f"server: {server}\ncredentials: {credentials}\ndestination: {destination}\n{settings}"
        f"[ Identities ]\n{key.public} {key.reveal()} [{','.join(verbs)}]\n[ Peers ]\n"
        + "".join(f"{peer.destination} {make_key(peer.number).public} [{','.join(peer.verbs)}]\n" for peer in peers)
        + tables,
    )
