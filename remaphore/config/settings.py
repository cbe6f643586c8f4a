"""The settings of a node, whichever format they came from: frozen, validated, without secrets in their repr."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from remaphore.errors import NotPermittedError
from remaphore.protocol import duration, peers

if TYPE_CHECKING:
    from remaphore.protocol.keys import PrivateKey

DEFAULT_SUBJECT = "remaphore"
# Of handlers: what came with the system, and what its administrator puts there, which goes before it.
DEFAULT_HOOKS = (Path("/usr/share/remaphore/hooks.d"), Path("/etc/remaphore/hooks.d"))
DEFAULT_SKEW_NS = 3 * duration.SECOND  # the original's, when the file does not say

AuthKind = Literal["credentials", "nkey", "password", "token", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """How this node shows the broker who it is. file: the creds file, nkey seed, password or token, by *kind*.

    lenient: the file belongs to a configuration of the original, whose modes are only warned about.
    """

    kind: AuthKind
    file: Path | None = None
    user: str = ""
    lenient: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Files for TLS, each optional: the CA to trust instead of the system's, our certificate and its key."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A key pair of this node: its base58 public key, the verbs that it may send, and how to get at the secret.

    file: where the secret is, None if the configuration itself holds it.
    """

    key: str
    verbs: frozenset[str]
    load: Callable[[], PrivateKey] = field(repr=False, compare=False)
    file: Path | None = field(default=None, compare=False)

    def may_send(self, verb: str) -> bool:
        """Tell whether this identity may send *verb*."""
        return peers.permits(self.verbs, verb)


def _no_tables() -> Mapping[str, Mapping[str, Any]]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class VerbSettings:
    """How the daemon treats the messages of a verb, and how its handlers are run.

    timeout_seconds: for all handlers of one message together. concurrency: messages handled at a time; with one, in the
    order in which the broker delivered them. queue: messages that may wait. max_wait_seconds: how long. exit_on_error:
    a failing handler ends the run, as in run-parts. cap: bytes of output that are kept. payload: `argument`, or `stdin`
    for payloads that cannot be an argument. user: whom the handlers run as, if the daemon is root.
    """

    timeout_seconds: float = 600.0
    concurrency: int = 1
    queue: int = 100
    max_wait_seconds: float = 60.0
    exit_on_error: bool = False
    cap: int = 512 * 1024  # half of the 1 MiB that a broker takes: a reply is one message
    payload: Literal["argument", "stdin"] = "argument"
    user: str = ""


DEFAULT_VERB_SETTINGS = VerbSettings()


def _no_origins() -> Mapping[str, str]:
    return MappingProxyType({})


def _no_verbs() -> Mapping[str, VerbSettings]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that a node knows about itself, the broker and its peers.

    source: the file, for messages. default_identity: its base58 key, the first one's unless the file says otherwise.
    allow_skew_ns: nanoseconds, either way. verbs: those with a table of their own. plugins: the table of each plugin,
    as it stands in the file. warnings: what is odd in the file, one line each; a command prints them once. legacy: the
    file is in the legacy .conf format, so every peer counts as running the Go implementation. notify_rejections:
    whether the daemon tells a known peer why it would not act. origins: where each setting of the file stands.
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
    verbs: Mapping[str, VerbSettings] = field(default_factory=_no_verbs)
    enabled_plugins: tuple[str, ...] = ()
    plugins: Mapping[str, Mapping[str, Any]] = field(default_factory=_no_tables)
    legacy: bool = False
    notify_rejections: bool = True
    warnings: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=_no_origins, repr=False, compare=False)

    def verb(self, name: str) -> VerbSettings:
        """Return how messages of the verb *name* are treated: as its table says, or as all are that have none."""
        return self.verbs.get(name, DEFAULT_VERB_SETTINGS)

    def origin(self, key: str) -> str:
        """Return what decides the setting *key*, for people: the file and its line or path, or that it is a default."""
        return self.origins.get(key, f"default, as {self.source} has no {key}")

    def identity(self, key: str = "") -> Identity:
        """Return the identity with this public key, or the default one. Raises NotPermittedError if it is not ours."""
        wanted = key or self.default_identity or self.identities[0].key
        for identity in self.identities:
            if identity.key == wanted:
                return identity
        raise NotPermittedError(f"no identity with the key {wanted} in {self.source}")

    def sender(self, verb: str, key: str = "") -> Identity:
        """Return the identity that sends *verb*. Raises NotPermittedError if it may not."""
        identity = self.identity(key)
        if identity.may_send(verb):
            return identity
        allowed = ", ".join(sorted(identity.verbs)) or "none"
        raise NotPermittedError(
            f"no private key with sender permission found: {identity.key} may send {allowed},"
            f" not {verb!r} ({self.source})"
        )
