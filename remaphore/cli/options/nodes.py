"""The options of the commands that make a node, and let it know others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from remaphore.cli.options import Options


@dataclass(frozen=True, slots=True, kw_only=True)
class Init(Options):
    """Make a first configuration. destination: empty for one of this host's name; credentials: empty for the usual."""

    command: ClassVar[str] = "init"

    config: str | None = None
    destination: str = ""
    servers: tuple[str, ...] = ()
    credentials: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keygen(Options):
    """Make a key pair. file: where the private key goes."""

    command: ClassVar[str] = "keygen"

    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAdd(Options):
    """Add peers. line: a peer line, `-` or empty for stdin, unless *file* names a file of them.

    legacy: it runs the Go implementation, and *line* may be its destination and public key. rotate: it is another key
    of a destination that is known. drop_in: write to peers.d.
    """

    command: ClassVar[str] = "peer"

    config: str | None = None
    line: str = ""
    file: str = ""
    verbs: tuple[str, ...]
    legacy: bool = False
    rotate: bool = False
    drop_in: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRemove(Options):
    """Remove a peer. peer: its destination or a public key; key: which of several keys; every: all of them."""

    command: ClassVar[str] = "peer"

    config: str | None = None
    peer: str
    key: str = ""
    every: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerList(Options):
    """List all peers."""

    command: ClassVar[str] = "peer"

    config: str | None = None
    json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerShow(Options):
    """Print peer lines: of a destination or a public key, a peer's or ours; all of our own if *peer* is empty."""

    command: ClassVar[str] = "peer"

    config: str | None = None
    peer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigShow(Options):
    """Show the effective configuration."""

    command: ClassVar[str] = "config"

    config: str | None = None
    json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigConvert(Options):
    """Make TOML of the original's configuration *file*. output: empty for the same name with .toml."""

    command: ClassVar[str] = "config"

    file: str
    output: str = ""
