"""The settings of a node, independent of the file format: frozen, validated, and without secrets in their repr."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from remaphore.errors import NotPermittedError
from remaphore.protocol import duration, peers
from remaphore.text import quoted, shorten

if TYPE_CHECKING:
    from remaphore.protocol.keys import PrivateKey
    from remaphore.protocol.payloads import PayloadRule

DEFAULT_SUBJECT = "remaphore"
# Directories of handlers: the distribution's, then the administrator's, which takes precedence.
DEFAULT_HOOKS = (Path("/usr/share/remaphore/hooks.d"), Path("/etc/remaphore/hooks.d"))
DEFAULT_SKEW_NS = 3 * duration.SECOND  # the Go implementation's default


class Problem(NamedTuple):
    """A problem with a value or a file.

    what: one line. hint: how to fix it, imperative, or empty.
    """

    what: str
    hint: str = ""

    def at(self, place: str) -> Problem:
        """Return the problem with *place* before it, such as `remaphore.toml: peers[0].key`."""
        return Problem(f"{place}: {self.what}", self.hint)


AuthKind = Literal["credentials", "nkey", "password", "token", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """How this node authenticates to the broker.

    kind: one of "credentials", "nkey", "password", "token" and "none". file: the creds file, nkey seed, password or
    token, by *kind*. user: the user name, for a password. lenient: the file belongs to a legacy .conf, for which
    unsafe modes are only a warning.
    """

    kind: AuthKind
    file: Path | None = None
    user: str = ""
    lenient: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Files for TLS, in PEM format, each optional.

    ca_file: the CAs to trust instead of the system's. cert_file: our certificate. key_file: its private key.
    handshake_first: whether TLS begins before the server's first line, as nats-server's setting of this name requires.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    handshake_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A key pair of this node.

    key: the public key in base58. verbs: those that it may send, `*` for every verb. load: a function that returns the
    private key. file: the private key's file, None if the configuration itself contains the key.
    """

    key: str
    verbs: frozenset[str]
    load: Callable[[], PrivateKey] = field(repr=False, compare=False)
    file: Path | None = field(default=None, compare=False)

    def may_send(self, verb: str) -> bool:
        """Return whether this identity may send *verb*."""
        return peers.permits(self.verbs, verb)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerbSettings:
    """How the daemon queues the messages of a verb, and how it runs the verb's handlers.

    timeout_seconds: for all handlers of one message together. concurrency: messages handled at a time; with 1, they are
    handled in the order in which the broker delivered them. queue: messages that may wait. max_wait_seconds: how long
    each may wait. exit_on_error: a failing handler ends the run, as in run-parts. cap: bytes of output that are kept.
    payload: `argument`, or `stdin` for payloads that cannot be an argument. user: the user that runs the handlers, if
    the daemon is root.
    """

    timeout_seconds: float = 600.0
    concurrency: int = 1
    queue: int = 100
    max_wait_seconds: float = 60.0
    exit_on_error: bool = False
    cap: int = 512 * 1024  # half of a broker's default limit of 1 MiB: a reply is one message
    payload: Literal["argument", "stdin"] = "argument"
    user: str = ""


DEFAULT_VERB_SETTINGS = VerbSettings()

# The clients of the agent read no configuration: they look at this path, so that another one must be named to them.
AGENT_SOCKET = Path("/run/remaphore/agent.sock")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRule:
    """What the agent does for a local user, or for the members of a group. Rules only permit: there is no order.

    user: its name, or its number as text; empty for a rule for a group. group: the same of a group. do: the operations
    `send`, `request` and `receive`. verbs: those of messages to send or receive, `*` for every verb. to: the patterns
    that the destination of a message must lie in. identity: the public key that signs; empty for the default identity.
    payload: the payloads of messages to send, None for any. path: its place in the file, for messages.
    """

    user: str = ""
    group: str = ""
    do: frozenset[str] = frozenset()
    verbs: frozenset[str] = frozenset()
    to: tuple[str, ...] = ()
    identity: str = ""
    payload: PayloadRule | None = None
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """The settings of the agent. socket: its path, None for the default. allow: its rules; it does nothing else.

    metrics: the IP address and the port at which it serves its metrics; empty for none.
    """

    socket: Path | None = None
    metrics: str = ""
    allow: tuple[AgentRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that a node knows about itself, the broker and its peers.

    source: the file, for messages. destination: this node's name. servers: the addresses of the broker. auth: how
    to authenticate to it. tls: the files for TLS. identities: the key pairs of this node. peers: the other nodes.
    subject: the first part of the NATS subjects. state_dir: where the daemon keeps its ledger, None for the
    default. hooks: the directories of handlers, empty for the default. enabled_plugins: those of `enable`, in its
    order. default_identity: its base58 public key; empty for that of the first identity. allow_skew_ns: how far the
    clock of a sender may be ahead or behind, in nanoseconds. verbs: the settings of the verbs that have a table.
    plugins: the table of each plugin, unchecked. warnings: likely mistakes that the reader accepted; a command
    prints each once. unsafe: the files and directories of the configuration that another user could have changed:
    the daemon rejects them, a command warns. legacy: whether the file is in the legacy .conf format, so every peer
    counts as running the Go implementation. notify_rejections: whether the daemon reports to a known peer why it
    rejected its message. agent: what `remaphore agent` does for local users. origins: the file and line, or file and
    key path, of each setting in the file.
    """

    source: str
    destination: str
    servers: tuple[str, ...]
    auth: Auth
    identities: tuple[Identity, ...]
    peers: tuple[peers.Peer, ...] = ()
    tls: Tls = Tls()
    subject: str = DEFAULT_SUBJECT
    allow_skew_ns: int = DEFAULT_SKEW_NS
    default_identity: str = ""
    state_dir: Path | None = None
    hooks: tuple[Path, ...] = ()
    verbs: Mapping[str, VerbSettings] = field(default_factory=lambda: MappingProxyType({}))
    enabled_plugins: tuple[str, ...] = ()
    plugins: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))
    legacy: bool = False
    notify_rejections: bool = True
    agent: AgentSettings = AgentSettings()
    warnings: tuple[Problem, ...] = ()
    unsafe: tuple[Problem, ...] = ()
    origins: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False, compare=False)

    def verb(self, name: str) -> VerbSettings:
        """Return the settings of the verb *name*: those of its table, or the defaults if it has none."""
        return self.verbs.get(name, DEFAULT_VERB_SETTINGS)

    def origin(self, key: str) -> str:
        """Return where the setting *key* comes from, for people: file and line, file and key path, or the default."""
        return self.origins.get(key, f"default ({key} is not set in {self.source})")

    def identity(self, key: str = "") -> Identity:
        """Return the identity with this public key, or the default one. Raise NotPermittedError if there is none."""
        wanted = key or self.default_identity or self.identities[0].key
        for identity in self.identities:
            if identity.key == wanted:
                return identity
        hint = "use the key of an identity in the configuration"
        raise NotPermittedError(f"no identity with the key {shorten(wanted)} in {self.source}", hint=hint)

    def sender(self, verb: str, key: str = "") -> Identity:
        """Return the identity that sends *verb*: that with the public key *key*, or the default one.

        Raise NotPermittedError if there is none, or if it may not send *verb*.
        """
        identity = self.identity(key)
        if identity.may_send(verb):
            return identity
        allowed = ", ".join(sorted(identity.verbs)) or "none"
        raise NotPermittedError(
            f"no private key with sender permission found: {identity.key} may send {allowed},"
            f" not {quoted(verb)} ({self.source})"
        )
