"""A node's first configuration, its key, and key pairs alone: what is there stays, and nothing is half-written."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from remaphore.config import checks, files, peer_line, render, secrets, toml
from remaphore.errors import ConfigError, KeyFormatError, UsageError
from remaphore.protocol.keys import PrivateKey

SECRET_MODE = 0o600
STATE_MODE = 0o700
_CONFIG_MODE = 0o644  # it holds no secret, only the names of the files that do

_SERVERS = ("nats://localhost:4222",)
_CREDENTIALS = "nats.creds"
_OTHERS_NAMES = ("", "localhost", "localdomain.localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNode:
    """What a first configuration says. config: the file to be made; its private key comes beside it.

    destination: the node's name. servers: none given, one on this machine. credentials: the file for the broker; none
    given, `nats.creds` beside *config*. state_dir: where the daemon remembers; in_config: whether the file says so.
    """

    config: Path
    destination: str
    servers: Sequence[str] = ()
    credentials: str = ""
    state_dir: Path
    state_in_config: bool

    @property
    def key_file(self) -> Path:
        """The private key's file."""
        return self.config.with_suffix(".key")


def destination_of(host: str) -> str:
    """Return a destination for the machine with the name *host*: reversed, and cleaned. Raises UsageError.

    `left.us.example.com` becomes `com.example.us.left`.
    """
    labels = (re.sub(r"[^a-z0-9_-]+", "-", label).strip("-") for label in reversed(host.lower().split(".")))
    name = ".".join(filter(None, labels))
    if name in _OTHERS_NAMES or name.replace(".", "").isdigit():
        raise UsageError(f"this host has no name of its own ({host!r}); give one: --destination com.example.host")
    return name


def create_node(node: NewNode) -> tuple[str, bool]:
    """Make configuration, private key and state directory; return the public key, and whether the key was there.

    A good private key that is there is used: so it goes on after a kill, or with a key that was made before. Raises
    ConfigError, also if the configuration exists, and then nothing was made.
    """
    check_place(node.config)
    _check_values(node)
    there = _is_there(node.key_file)
    key = read_key(node.key_file) if there else PrivateKey.generate()
    secret = files.NewFile(path=node.key_file, text=f"{key.reveal()}\n", mode=SECRET_MODE)
    config = files.NewFile(path=node.config, text=_text(node, key.public), mode=_CONFIG_MODE)
    toml.parse(config.text, str(node.config), node.config.parent)
    with _folders(node):
        files.create_all([config] if there else [secret, config])
    return key.public, there


def create_key(path: Path) -> str:
    """Write a new private key to *path*, mode 0600, and return the public key. Raises ConfigError."""
    key = PrivateKey.generate()
    files.create_all([files.NewFile(path=path, text=f"{key.reveal()}\n", mode=SECRET_MODE)])
    return key.public


def read_key(path: Path) -> PrivateKey:
    """Return the private key that *path* holds. Raises ConfigError, also if others can read it."""
    what = "private key"
    try:
        return PrivateKey.from_text(secrets.read_secret(path, what=what))
    except KeyFormatError as error:
        raise ConfigError(f"{path}: {what}: {error}; move it away, it is not overwritten") from None


def check_place(config: Path) -> None:
    """Raise ConfigError or UsageError if no first configuration can be made there."""
    if config.suffix != ".toml":
        raise UsageError(f"{config}: the name of a configuration in TOML ends in .toml; name it so")
    if _is_there(config):
        raise ConfigError(
            f"{config}: exists, and nothing is overwritten; this node's peer line:"
            f" remaphore peer show -c {shlex.quote(str(config))} (for a new node move the file away, and its key)"
        )
    original = config.with_suffix(".conf")
    if _is_there(original):
        raise ConfigError(
            f"{original}: exists, and {config.name} would go before it; make TOML of it instead:"
            f" remaphore config convert {shlex.quote(str(original))}"
        )


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:  # what we may not look into, we cannot write either: that is told then
        return False
    return True


def _check_values(node: NewNode) -> None:
    problem = peer_line.secret_problem(node.destination) or checks.destination_problem(node.destination)
    if problem is not None:
        raise UsageError(f"--destination: {problem}")
    for server in node.servers:
        problem = checks.server_problem(server)
        if problem is not None:
            raise UsageError(f"--server: {problem}")


@contextlib.contextmanager
def _folders(node: NewNode) -> Iterator[None]:
    """Make the folders that are missing, and take them away again if what follows fails."""
    folders = ((node.config.parent, 0o755), (node.state_dir, STATE_MODE))
    made = []
    try:
        for folder, mode in folders:
            if not _is_there(folder):
                made += [each for each in reversed((folder, *folder.parents)) if not _is_there(each)]
                files.make_folder(folder, mode=mode)
        yield
    except BaseException:
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _text(node: NewNode, public: str) -> str:
    inside = node.state_dir.is_relative_to(node.config.parent)
    place = node.state_dir.relative_to(node.config.parent) if inside else node.state_dir
    state = f"state_dir = {render.string(str(place))}"
    return f"""\
# remaphore: who this node is, where its broker is, and whom it knows.
# Paths count from the folder of this file. `remaphore check` says whether it can work.

# This node's name, from the general to the special. Others address it, or a pattern such as "com.example.**".
destination = {render.string(node.destination)}

# The NATS servers: one is enough, several are for failover. tls:// instead of nats:// insists on TLS.
servers = {render.array(node.servers or _SERVERS)}

# How the broker knows us: a credentials file (mode 0600). Instead of it: a table [auth] with nkey_seed_file, with user
# and password_file, or with token_file; or auth = "none".
credentials = {render.string(node.credentials or _CREDENTIALS)}

# How far another node's clock may be off, either way.
allow_skew = "5s"

# Which of the identities below signs replies, and whatever names no other.
default_identity = {render.string(public)}

# Where the daemon remembers what it has run (mode 0700).
{state if node.state_in_config else f"#{state}"}

# Who we are. verbs: what this node may send.
{render.identity(key=public, private_key_file=node.key_file.name, verbs=["*"])}
# Whom we know: a table each, from `remaphore peer add`, here or in peers.d/*.toml. verbs: what it may send to us.
"""
