"""Findings: what `check` and `doctor` report, each with its place and its hint.

To add one: a `Code` here, under the command that reports it; a case in tests/diagnostics/ (checkup_files.py,
checkup_services.py or doctor_cases.py) that provokes it, follows its hint and sees it gone; a row in docs/findings.md.
tests/diagnostics/test_findings.py names the place that is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from remaphore.errors import RemaphoreError, with_hint


class Level(StrEnum):
    """How bad a finding is: an error keeps something from working, a warning may do so, a note is information."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


class Code(StrEnum):
    """What kind of finding it is. The values are stable, for scripts."""

    # Reported by `check`:
    CONFIGURATION_UNUSABLE = "configuration-unusable"
    CONFIGURATION_WARNING = "configuration-warning"
    CONFIGURATION_OK = "configuration-ok"
    FILE_WRITABLE = "file-writable"
    DIRECTORY_WRITABLE = "directory-writable"
    FILE_LEFT_BEHIND = "file-left-behind"
    KEY_UNUSABLE = "key-unusable"
    KEY_OK = "key-ok"
    CREDENTIALS_NONE = "credentials-none"
    CREDENTIALS_UNUSABLE = "credentials-unusable"
    CREDENTIALS_EXPOSED = "credentials-exposed"
    CREDENTIALS_MALFORMED = "credentials-malformed"
    CREDENTIALS_MISMATCH = "credentials-mismatch"
    CREDENTIALS_EXPIRED = "credentials-expired"
    CREDENTIALS_EXPIRE_SOON = "credentials-expire-soon"
    CREDENTIALS_NOT_YET_VALID = "credentials-not-yet-valid"
    CREDENTIALS_CLEAR_TEXT = "credentials-clear-text"
    CREDENTIALS_OK = "credentials-ok"
    TLS_UNUSABLE = "tls-unusable"
    TLS_EXPIRED = "tls-expired"
    TLS_EXPIRES_SOON = "tls-expires-soon"
    TLS_OK = "tls-ok"
    NO_PEERS = "no-peers"
    NO_PERMITTED_VERBS = "no-permitted-verbs"
    PEER_HAS_OUR_KEY = "peer-has-our-key"
    PEER_SEVERAL_KEYS = "peer-several-keys"
    PEERS_LEGACY = "peers-legacy"
    PEERS_OK = "peers-ok"
    PLUGIN_UNUSABLE = "plugin-unusable"
    PLUGINS_OK = "plugins-ok"
    HOOKS_MISSING = "hooks-missing"
    HANDLER_UNSAFE = "handler-unsafe"
    HANDLER_CANNOT_START = "handler-cannot-start"
    HANDLER_SKIPPED = "handler-skipped"
    HANDLER_MASKED = "handler-masked"
    VERB_DIRECTORY_IDLE = "verb-directory-idle"
    VERB_UNHANDLED = "verb-unhandled"
    HANDLERS_OK = "handlers-ok"
    AGENT_RULE_BROAD = "agent-rule-broad"
    AGENT_RULE_IDLE = "agent-rule-idle"
    AGENT_SOCKET_UNKNOWN = "agent-socket-unknown"
    AGENT_OK = "agent-ok"
    RUNTIME_LIMITED = "runtime-limited"
    STATE_UNUSABLE = "state-unusable"
    LOCKS_UNAVAILABLE = "locks-unavailable"
    THREADS_UNAVAILABLE = "threads-unavailable"
    DAEMON_RUNNING = "daemon-running"
    LEDGER_DAMAGED = "ledger-damaged"
    LEDGER_NEWER = "ledger-newer"
    LEDGER_AHEAD = "ledger-ahead"
    STATE_OK = "state-ok"
    LOCK_NAME_INVALID = "lock-name-invalid"
    UNIT_MASKED = "unit-masked"
    UNIT_UNREADABLE = "unit-unreadable"
    UNIT_COMMAND = "unit-command"
    UNIT_TYPE = "unit-type"
    UNIT_OK = "unit-ok"
    CLOCK_UNSYNCHRONIZED = "clock-unsynchronized"
    CLOCK_OK = "clock-ok"
    # Reported by `doctor`:
    AGENT_UNUSABLE = "agent-unusable"
    AGENT_NOT_USED = "agent-not-used"
    AGENT_OTHER_RELEASE = "agent-other-release"
    AGENT_DISCONNECTED = "agent-disconnected"
    AGENT_NAMES_NO_RULE = "agent-names-no-rule"
    AGENT_USED = "agent-used"
    AGENT_HAS_KEYS = "agent-has-keys"
    SERVER_UNREACHABLE = "server-unreachable"
    SERVER_REJECTS = "server-rejects"
    SERVER_MAX_PAYLOAD = "server-max-payload"
    SERVER_ADDRESS_UNUSABLE = "server-address-unusable"
    SERVER_HANDSHAKE_FIRST = "server-handshake-first"
    SERVER_CERTIFICATE_EXPIRES_SOON = "server-certificate-expires-soon"
    SERVERS_SEPARATE = "servers-separate"
    SERVER_OK = "server-ok"
    SUBJECT_DENIED = "subject-denied"
    SUBJECTS_OK = "subjects-ok"
    SUBJECT_CAPTURED = "subject-captured"
    JETSTREAM_OFF = "jetstream-off"
    COORDINATION_UNAVAILABLE = "coordination-unavailable"
    COORDINATION_NO_STREAM = "coordination-no-stream"
    COORDINATION_DENIED = "coordination-denied"
    COORDINATION_SETTINGS = "coordination-settings"
    COORDINATION_SINGLE_REPLICA = "coordination-single-replica"
    COORDINATION_HALF_FULL = "coordination-half-full"
    COORDINATION_LOCK_JUNK = "coordination-lock-junk"
    COORDINATION_SET_BACK = "coordination-set-back"
    COORDINATION_NOT_REMEMBERED = "coordination-not-remembered"
    COORDINATION_SERVER_TOO_OLD = "coordination-server-too-old"
    COORDINATION_OK = "coordination-ok"
    IDENTITY_NOT_PERMITTED = "identity-not-permitted"
    PEER_OK = "peer-ok"
    PEER_SILENT = "peer-silent"
    PEER_SEVERAL_MACHINES = "peer-several-machines"
    PEER_SEVERAL_RECEIVERS = "peer-several-receivers"
    PEER_SEVERAL_INSTANCES = "peer-several-instances"
    PEER_REJECTS = "peer-rejects"
    PEER_EXPECTS_OTHER_KEY = "peer-expects-other-key"
    PEER_DESTINATION_MISMATCH = "peer-destination-mismatch"
    OWN_DESTINATION_MISMATCH = "own-destination-mismatch"
    PERMISSIONS_REJECTED = "permissions-rejected"
    PERMISSIONS_UNAVAILABLE = "permissions-unavailable"
    PERMISSIONS_UNREADABLE = "permissions-unreadable"
    REPLY_UNBOUND = "reply-unbound"
    REPLY_FORGED = "reply-forged"
    UNKNOWN_KEY = "unknown-key"
    NO_REPLIES = "no-replies"
    PEER_CLOCK_SKEW = "peer-clock-skew"
    OWN_CLOCK_SKEW = "own-clock-skew"
    TIME_REJECTED = "time-rejected"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. where: a file, a key path, a server or a peer.

    what: what was found. hint: a command that can be run, or else how to fix it, imperative; errors and warnings always
    have one. facts: what was measured, for machines. common: *what* without what was measured, if that is in it: the
    text that stands for several nodes with the same finding.
    """

    level: Level
    code: Code
    where: str
    what: str
    hint: str = ""
    facts: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    common: str = ""


def from_error(
    code: Code, where: str, error: RemaphoreError, *, level: Level = Level.ERROR, default_hint: str = ""
) -> Finding:
    """Return *error* as a finding, with its hint.

    default_hint: replaces the hint of the error's class; the error's own hint, if any, is kept. An error that
    begins with *where*, as those of configuration files do, does not repeat it: `FILE: what`, or `FILE:3: what`.
    """
    text = str(error)
    if text.startswith(f"{where}:"):
        line, _, text = text.removeprefix(where).partition(": ")
        where += line
    hint = default_hint if default_hint and error.hint == error.default_hint else error.hint
    return Finding(level, code, where, text, hint)


def to_line(finding: Finding) -> str:
    """Return *finding* as a line for people. It may quote files, servers and peers: escape it before it is shown."""
    return with_hint(f"{finding.level:<7}  {finding.where}: {finding.what}", finding.hint)
