"""What remaphore.toml can hold: for the man page, and for the site. Defaults come from the classes that have them.

tests/docs/test_configuration.py compares it with what the reader knows.
"""

from __future__ import annotations

from dataclasses import dataclass

from remaphore.config.settings import DEFAULT_SKEW_NS, DEFAULT_SUBJECT, DEFAULT_VERB_SETTINGS
from remaphore.protocol import duration

_VERB = DEFAULT_VERB_SETTINGS


@dataclass(frozen=True)
class Key:
    """A key of a table. shape: what stands behind the equals sign."""

    name: str
    shape: str
    text: str


@dataclass(frozen=True)
class Table:
    """A table, as it is headed in the file; keys: those that it may hold."""

    name: str
    text: str
    keys: tuple[Key, ...]


INTRODUCTION = (
    "The configuration of a node, in TOML. It holds no secret itself, only the names of files that do, and may be"
    " written by root or the daemon's user alone. Relative paths count from its folder. An unknown key is an error, and"
    " every error names the key and what mends it. Files in peers.d/*.toml beside it may hold more [[peers]]."
    " A file with any other name than *.toml has the original's format."
)


TABLES = (
    Table(
        "Top of the file",
        "These keys stand before the first table.",
        (
            Key("destination", "string", "Our name, reverse-dotted, such as com.example.us.left. Needed."),
            Key("servers", "array of strings", "nats://HOST:PORT or tls://HOST:PORT; several: failover. Needed."),
            Key("credentials", "file", "The .creds file that the broker's operator gave us. It, or auth, is needed."),
            Key("auth", '"none", or a table', 'Another way to show the broker who we are, or "none"; see [auth].'),
            Key("subject", "string", f"The first part of our NATS subjects (default: {DEFAULT_SUBJECT})."),
            Key(
                "allow_skew",
                "duration",
                f"How far a sender's clock may be off, either way (default: {DEFAULT_SKEW_NS // duration.SECOND}s).",
            ),
            Key("default_identity", "public key", "Which of our identities signs (default: the first)."),
            Key(
                "state_dir",
                "folder",
                "Where the daemon keeps its ledger (default: $STATE_DIRECTORY, else /var/lib/remaphore for root,"
                " $XDG_STATE_HOME/remaphore for others).",
            ),
            Key(
                "hooks",
                "array of folders",
                "Handlers of the daemon; a later folder replaces files of an earlier one by name (default:"
                " /usr/share/remaphore/hooks.d and /etc/remaphore/hooks.d).",
            ),
            Key(
                "notify_rejections",
                "boolean",
                "Whether the daemon tells a known peer why it would not act (default: true).",
            ),
        ),
    ),
    Table(
        "[auth]",
        "Instead of credentials, one way to show the broker who we are.",
        (
            Key("nkey_seed_file", "file", "An nkey seed; alone."),
            Key("user", "string", "A user; with password_file."),
            Key("password_file", "file", "The user's password; with user."),
            Key("token_file", "file", "A token; alone."),
        ),
    ),
    Table(
        "[tls]",
        "Files for TLS, in PEM, each optional.",
        (
            Key("ca_file", "file", "The CA to trust instead of the system's."),
            Key("cert_file", "file", "Our certificate, if the broker asks for one."),
            Key("key_file", "file", "Its private key, if it is not in the same file."),
        ),
    ),
    Table(
        "[[identities]]",
        "Who we are: a table for each key pair of this node. One is needed.",
        (
            Key("key", "public key", "Its public half, in base58. Needed."),
            Key("private_key_file", "file", "Its private half, that others may not read. Needed."),
            Key("verbs", "array of strings", 'What it may send; ["*"] is every verb. Needed.'),
        ),
    ),
    Table(
        "[[peers]]",
        "Whom we know: a table for each key. A destination may have several.",
        (
            Key("destination", "string", "Its name. Needed."),
            Key("key", "public key", "Its public key, in base58. Needed."),
            Key("verbs", "array of strings", 'What it may send to us; ["*"] is every verb, [] none. Needed.'),
            Key("compatibility", '"legacy"', "It runs the Go implementation, whose replies do not name their request."),
        ),
    ),
    Table(
        "[verbs.NAME]",
        "How the daemon treats the messages of a verb. A verb without a table has the defaults.",
        (
            Key(
                "timeout",
                "duration",
                f"For all handlers of one message together (default: {_VERB.timeout_seconds:g}s).",
            ),
            Key(
                "concurrency",
                "integer",
                f"Messages at a time; with 1 they keep their order (default: {_VERB.concurrency}).",
            ),
            Key("queue", "integer", f"Messages that may wait (default: {_VERB.queue})."),
            Key("max_wait", "duration", f"How long one may wait (default: {_VERB.max_wait_seconds:g}s)."),
            Key(
                "exit_on_error",
                "boolean",
                f"Whether the first handler that fails ends the run (default: {str(_VERB.exit_on_error).lower()}).",
            ),
            Key("cap", "integer", f"Bytes of output that are kept (default: {_VERB.cap})."),
            Key(
                "payload",
                '"argument" or "stdin"',
                f"How handlers get it; stdin takes what cannot be an argument (default: {_VERB.payload}).",
            ),
            Key("user", "string", "Whom the handlers run as, if the daemon is root (default: the daemon's user)."),
        ),
    ),
    Table(
        "[plugins]",
        "A table [plugins.NAME] beside it holds the settings of a plugin.",
        (Key("enable", "array of strings", "Plugins to load beside the bundled ones that are always there."),),
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

[verbs.deploy]
timeout = "10m"
exit_on_error = true

[plugins]
enable = ["metrics"]
"""
