"""Creating a node's first configuration and its key, and key pairs alone. Existing files stay, and none is partial."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from remaphore.config import characters, checks, files, peer_line, render, secrets, toml
from remaphore.errors import ConfigError, KeyFormatError, UsageError
from remaphore.protocol.keys import PrivateKey

SECRET_MODE = 0o600
_CONFIG_MODE = 0o644  # it contains no secret, only the names of the files that do

_SERVERS = ("nats://localhost:4222",)
_CREDENTIALS = "nats.creds"
_CA_FILE = "ca.crt"
# A label of a host name, as a resolver accepts it; and the first labels that every host has.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_LOCAL = re.compile(r"(?:ip6-)?(?:localhost|localdomain|loopback|localnet|allnodes|allrouters|mcastprefix)[0-9]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNode:
    """The contents of a first configuration. config: the file to create; the private key is created next to it.

    destination: the node's name. servers: empty for a server on this machine. credentials: the file for the broker,
    empty for `nats.creds` next to *config*. ca_file: the CA of the servers' certificates, empty for those of the
    system. state_dir: the daemon's state directory. state_in_config: whether the file names it.
    """

    config: Path
    destination: str
    servers: Sequence[str] = ()
    credentials: str = ""
    ca_file: str = ""
    state_dir: Path
    state_in_config: bool

    @property
    def key_file(self) -> Path:
        """The private key's file."""
        return self.config.with_suffix(".key")


def destination_of(*hosts: str) -> str:
    """Return a destination for a machine: the first usable one of its names *hosts*, its labels reversed.

    `left.us.example.com` becomes `com.example.us.left`. Raise UsageError if none is usable.
    """
    for host in hosts:
        labels = host.lower().removesuffix(".").split(".")
        usable = all(map(_LABEL.fullmatch, labels)) and not _LOCAL.fullmatch(labels[0])
        if usable and not "".join(labels).isdigit():
            return ".".join(reversed(labels))
    names = " or ".join(map(repr, dict.fromkeys(hosts))) or "(unknown)"
    what = f"no destination can be derived from the host name {names}"
    raise UsageError(what, hint="add --destination com.example.host")


def create_node(node: NewNode) -> tuple[str, bool]:
    """Create configuration, private key and state directory; return the public key, and whether the key existed.

    A valid private key that exists is used, so that the command can be repeated after a kill, or with a key that was
    created before. Raise ConfigError, also if the configuration exists, and then nothing was created.
    """
    check_place(node.config)
    problem = peer_line.secret_problem(node.destination) or checks.destination_problem(node.destination)
    if problem is not None:
        raise UsageError(f"--destination: {problem.what}", hint=problem.hint)
    for server in node.servers:
        problem = checks.server_problem(server)
        if problem is not None:
            raise UsageError(f"--server: {problem.what}", hint=problem.hint)
    existed = _exists(node.key_file)
    key = read_key(node.key_file) if existed else PrivateKey.generate()
    secret = files.NewFile(path=node.key_file, text=f"{key.reveal()}\n", mode=SECRET_MODE)
    config = files.NewFile(path=node.config, text=_config_text(node, key.public), mode=_CONFIG_MODE)
    toml.parse(config.text, str(node.config), node.config.parent)
    with _new_folders(node):
        files.create_all([config] if existed else [secret, config])
    return key.public, existed


def create_key(path: Path) -> str:
    """Write a new private key to *path*, mode 0600, and return the public key. Raise ConfigError."""
    key = PrivateKey.generate()
    files.create_all([files.NewFile(path=path, text=f"{key.reveal()}\n", mode=SECRET_MODE)])
    return key.public


def read_key(path: Path) -> PrivateKey:
    """Return the private key that *path* contains. Raise ConfigError, also if others can read it."""
    what = "private key"
    text = secrets.read_secret(path, what=what)
    try:
        return PrivateKey.from_text(text)
    except KeyFormatError as error:
        deceptive = characters.describe(text)
        hint = f"delete {deceptive}" if deceptive else "move the file away: it is not overwritten"
        raise ConfigError(f"{path}: {what}: {error}", hint=hint) from None


def check_place(config: Path) -> None:
    """Raise ConfigError or UsageError if no first configuration can be created there."""
    if config.suffix != ".toml":
        raise UsageError(f"{config}: the name of a TOML configuration must end in .toml", hint="add .toml to the name")
    if _exists(config):
        show = f"remaphore peer show -c {shlex.quote(str(config))}"
        hint = f"print this node's peer line with: {show} (for a new node move the file away, and its key)"
        raise ConfigError(f"{config}: already exists", hint=hint)
    legacy = config.with_suffix(".conf")
    if _exists(legacy):
        hint = f"convert it to TOML: remaphore config convert {shlex.quote(str(legacy))}"
        raise ConfigError(f"{legacy}: already exists, and {config.name} would take precedence", hint=hint)


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:  # a path that cannot be read cannot be written either: writing it will report why
        return False
    return True


@contextlib.contextmanager
def _new_folders(node: NewNode) -> Iterator[None]:
    """Create the missing directories, and delete them again if the body fails."""
    folders = ((node.config.parent, files.FOLDER_MODE), (node.state_dir, files.PRIVATE_MODE))
    made = []
    try:
        for folder, mode in folders:
            if not _exists(folder):
                made += [each for each in reversed((folder, *folder.parents)) if not _exists(each)]
                files.make_folder(folder, mode=mode)
        yield
    except BaseException:
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


# Commented out in a new configuration: an administrator decides who may send.
_AGENT_RULES = """\
#[[agent.allow]]
#user = "root"
#do = ["send", "request", "receive"]
#verbs = ["*"]
#to = ["**"]

#[[agent.allow]]
#group = "deploy"
#do = ["send", "request"]
#verbs = ["deploy"]
#to = ["com.example.web.*"]
#pattern = 'v[0-9]{1,4}'
"""


def _config_text(node: NewNode, public: str) -> str:
    inside = node.state_dir.is_relative_to(node.config.parent)
    place = node.state_dir.relative_to(node.config.parent) if inside else node.state_dir
    state = f"state_dir = {render.string(str(place))}"
    mark = "" if node.ca_file else "#"
    return f"""\
# remaphore: this node's name and keys, its broker and its peers.
# Paths are relative to the directory of this file. `remaphore check` reports problems in it.

# This node's name, from the general to the specific. Other nodes address it by this name, or by a pattern such as
# "com.example.**".
destination = {render.string(node.destination)}

# The NATS servers: one is enough, several are for failover. tls:// instead of nats:// requires TLS.
servers = {render.array(node.servers or _SERVERS)}

# NATS credentials file (mode 0600). Alternatives: a table [auth] with nkey_seed_file, with user and password_file, or
# with token_file; or auth = "none".
credentials = {render.string(node.credentials or _CREDENTIALS)}

# Largest accepted difference between this clock and that of a sender, in both directions.
allow_skew = "5s"

# The identity below that signs replies, and requests without --from.
default_identity = {render.string(public)}

# The daemon's state directory, which records the messages that it has run (mode 0700).
{state if node.state_in_config else f"#{state}"}

# The CA of the servers' certificates, unless the system trusts it.
{mark}[tls]
{mark}ca_file = {render.string(node.ca_file or _CA_FILE)}

# Our identities. verbs: what this node may send.
{render.identity(key=public, private_key_file=node.key_file.name, verbs=["*"])}
# What `remaphore agent` does for local users, who need not read the keys then: what these rules permit, also to root,
# and nothing else. to: the destinations; pattern: the whole payload. Without rules it permits nothing.
{_AGENT_RULES}
# Our peers: one table each, from `remaphore peer add`, here or in peers.d/*.toml. verbs: what the peer may send to us.
"""
