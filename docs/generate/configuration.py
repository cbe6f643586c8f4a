"""The keys of remaphore.toml, for the man page and the site. Defaults are taken from the classes that define them.

tests/docs/test_configuration.py compares the keys with those that the parser accepts.
"""

from __future__ import annotations

from dataclasses import dataclass

from remaphore.config.settings import AGENT_SOCKET, DEFAULT_SKEW_NS, DEFAULT_SUBJECT, DEFAULT_VERB_SETTINGS
from remaphore.protocol import duration
from remaphore.protocol.payloads import DEFAULT_LENGTH, MAX_PATTERN_LENGTH
from remaphore.transport.servers import INFO_WAIT

_VERB = DEFAULT_VERB_SETTINGS


@dataclass(frozen=True)
class Key:
    """A key of a table. shape: the type of its value."""

    name: str
    shape: str
    text: str


@dataclass(frozen=True)
class Table:
    """A table. name: its header in the file; keys: those that it may contain."""

    name: str
    text: str
    keys: tuple[Key, ...]


INTRODUCTION = (
    "The configuration of a node, in TOML. It contains no secrets, only the names of files that do. Only root and the"
    " daemon's user may be able to write to it. Relative paths start at its directory; one that begins with"
    " $CREDENTIALS_DIRECTORY/ is a credential of the systemd service (LoadCredential=). An unknown key is an error, and"
    " every error names the key and a hint on how to fix it. Files in peers.d/*.toml next to it may contain more"
    " [[peers]]."
    " A file whose name does not end in .toml has the legacy format of the Go implementation."
)


TABLES = (
    Table(
        "Top of the file",
        "These keys come before the first table.",
        (
            Key("destination", "string", "Name of this node, such as com.example.us.left. Required."),
            Key(
                "servers",
                "array of strings",
                "nats://HOST:PORT or tls://HOST:PORT; several for failover. Required.",
            ),
            Key("credentials", "file", "NATS credentials file (.creds). This or auth is required."),
            Key("auth", '"none", or a table', 'Another way to authenticate to the broker, or "none"; see [auth].'),
            Key("subject", "string", f"First part of the NATS subjects (default: {DEFAULT_SUBJECT})."),
            Key(
                "allow_skew",
                "duration",
                f"How far a sender's clock may be ahead or behind (default: {DEFAULT_SKEW_NS // duration.SECOND}s).",
            ),
            Key("default_identity", "public key", "Identity that signs if none is chosen (default: the first)."),
            Key(
                "state_dir",
                "directory",
                "State directory, where the daemon keeps its ledger (default: $STATE_DIRECTORY, else /var/lib/remaphore"
                " for root, $XDG_STATE_HOME/remaphore for others).",
            ),
            Key(
                "hooks",
                "array of directories",
                "Handler directories of the daemon; a later one replaces handlers of an earlier one by name (default:"
                " /usr/share/remaphore/hooks.d and /etc/remaphore/hooks.d).",
            ),
            Key(
                "notify_rejections",
                "boolean",
                "Whether the daemon replies to a known peer with the reason why it rejected a message (default: true).",
            ),
        ),
    ),
    Table(
        "[auth]",
        "Authentication without a credentials file. Use exactly one method.",
        (
            Key("nkey_seed_file", "file", "File with an nkey seed; the only key of this table."),
            Key("user", "string", "User name; requires password_file."),
            Key("password_file", "file", "File with the password; requires user."),
            Key("token_file", "file", "File with a token; the only key of this table."),
        ),
    ),
    Table(
        "[tls]",
        "TLS to the broker; every key is optional, and any of them makes TLS required. Files are in PEM format.",
        (
            Key("ca_file", "file", "CA certificates to trust instead of those of the system."),
            Key("cert_file", "file", "Client certificate, if the broker requires one."),
            Key("key_file", "file", "Private key of the client certificate, if it is not in the same file."),
            Key(
                "handshake_first",
                "boolean",
                "Whether TLS begins before the server's first line, for a nats-server with this setting (default: false"
                f" - without it, that is tried where TLS is required and no line comes within {INFO_WAIT:g} s).",
            ),
        ),
    ),
    Table(
        "[[identities]]",
        "One table for each key pair of this node. At least one is required.",
        (
            Key("key", "public key", "Public key, in base58. Required."),
            Key("private_key_file", "file", "File with the private key, which other users cannot read. Required."),
            Key("verbs", "array of strings", 'Verbs that it may send; ["*"] is every verb. Required.'),
        ),
    ),
    Table(
        "[[peers]]",
        "One table for each key of another node. A destination may have several keys.",
        (
            Key("destination", "string", "Name of the node. Required."),
            Key("key", "public key", "Public key, in base58. Required."),
            Key(
                "verbs",
                "array of strings",
                'Verbs that it may send to us; ["*"] is every verb, [] none. A verb has no comma, no invisible'
                " character, and no white space but spaces within it. Required.",
            ),
            Key(
                "only",
                "table",
                "Payload rules: for each verb with a table [peers.only.VERB], the payloads that the peer may send with"
                " it.",
            ),
            Key(
                "compatibility",
                '"legacy"',
                "The peer runs the Go implementation; its replies do not name their request.",
            ),
        ),
    ),
    Table(
        "[peers.only.VERB]",
        "Below the table of a peer: it may send this verb, whatever verbs says, but only with these payloads. At least"
        " one key is required.",
        (
            Key("payloads", "array of strings", 'Exact payloads; [""] is the empty one.'),
            Key(
                "pattern",
                "string",
                "Regular expression that the whole payload must match, without what could take long: see Running the"
                " daemon.",
            ),
            Key(
                "max_length",
                "integer",
                f"Bytes of a payload that matches (default with a pattern: {DEFAULT_LENGTH}, at most"
                f" {MAX_PATTERN_LENGTH}); without a pattern, any payload up to it is permitted.",
            ),
        ),
    ),
    Table(
        "[verbs.NAME]",
        "How the daemon handles messages of a verb. A verb without a table has the defaults.",
        (
            Key(
                "timeout",
                "duration",
                f"Limit for all handlers of one message together (default: {_VERB.timeout_seconds:g}s).",
            ),
            Key(
                "concurrency",
                "integer",
                f"Messages handled at the same time; with 1 they keep their order (default: {_VERB.concurrency}).",
            ),
            Key("queue", "integer", f"Messages that may wait in the queue (default: {_VERB.queue})."),
            Key(
                "max_wait",
                "duration",
                f"Longest time in the queue (default: {_VERB.max_wait_seconds:g}s).",
            ),
            Key(
                "exit_on_error",
                "boolean",
                f"Whether the handlers after one that fails are skipped (default: {str(_VERB.exit_on_error).lower()}).",
            ),
            Key("cap", "integer", f"Bytes of output that are kept (default: {_VERB.cap})."),
            Key(
                "payload",
                '"argument" or "stdin"',
                "How handlers get it: as an argument, which every local user can read, or on stdin only, which accepts"
                f" any bytes (default: {_VERB.payload}).",
            ),
            Key(
                "user",
                "string",
                "User of the handlers, if the daemon runs as root (default: the daemon's user).",
            ),
        ),
    ),
    Table(
        "[agent]",
        "The local agent, `remaphore agent`.",
        (
            Key(
                "socket",
                "file",
                f"Unix socket that the agent creates if systemd passes none (default: {AGENT_SOCKET} for root,"
                " $XDG_RUNTIME_DIR/remaphore/agent.sock for others). Clients do not read this: name another path"
                " to them with --agent.",
            ),
            Key(
                "metrics",
                "string",
                "IP address and port at which the agent serves its metrics, such as 127.0.0.1:9618 (default: none).",
            ),
        ),
    ),
    Table(
        "[[agent.allow]]",
        "One table for each rule of the local agent. A user may do what any rule that names it, or a group of its"
        " process, permits. Without a rule it may do nothing, and neither may root.",
        (
            Key("user", "string or integer", "User, by name or number. Exactly one of user and group is required."),
            Key("group", "string or integer", "Group, by name or number, of which a process of the user is a member."),
            Key("do", "array of strings", "Operations: send, request, receive. Required."),
            Key("verbs", "array of strings", 'Verbs of messages to send or receive; ["*"] is every verb. Required.'),
            Key(
                "to",
                "array of strings",
                "Patterns, such as com.example.web.*; one of them must contain everything that a message is sent to."
                " Required for send and request; for receive, only to get messages that are not sent to this node.",
            ),
            Key("payloads", "array of strings", "Exact payloads that may be sent, as in [peers.only.VERB]."),
            Key("pattern", "string", "Regular expression that the whole payload must match, as in [peers.only.VERB]."),
            Key("max_length", "integer", "Bytes of a payload that matches, as in [peers.only.VERB]."),
            Key("identity", "public key", "Identity that signs (default: default_identity)."),
        ),
    ),
    Table(
        "[plugins]",
        "The settings of a plugin are in its own table, [plugins.NAME].",
        (Key("enable", "array of strings", "Plugins to load in addition to those that are always loaded."),),
    ),
)

EXAMPLE = """\
destination = "com.example.us.left"
servers = ["nats://broker:4222", "tls://other:4222"]
credentials = "nats.creds"
allow_skew = "5s"

[[identities]]
key = "<our public key>"
private_key_file = "left.key"
verbs = ["*"]

[[peers]]
destination = "com.example.us.right"
key = "<its public key>"
verbs = ["ping", "deploy"]

[peers.only.restart]
payloads = ["web", "db"]

[verbs.deploy]
timeout = "10m"
exit_on_error = true

[plugins]
enable = ["metrics"]
"""
