"""What a look at a node comes to: findings, each with its place and its hint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from remaphore.errors import RemaphoreError

MAX_QUOTED = 200  # characters of what a peer says, in a line for people: a reply may have a million


class Level(StrEnum):
    """How bad a finding is: an error keeps something from working, a warning may, a note is good to know."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


class Code(StrEnum):
    """What kind of finding it is. The values are stable: scripts may go by them."""

    # Told by `check`:
    CONFIGURATION_UNUSABLE = "configuration-unusable"
    CONFIGURATION_ODD = "configuration-odd"
    CONFIGURATION_OK = "configuration-ok"
    FILE_WRITABLE = "file-writable"
    DIRECTORY_WRITABLE = "directory-writable"
    KEY_UNUSABLE = "key-unusable"
    KEY_OK = "key-ok"
    LOGIN_NONE = "login-none"
    LOGIN_UNUSABLE = "login-unusable"
    LOGIN_EXPOSED = "login-exposed"
    LOGIN_GARBLED = "login-garbled"
    LOGIN_MISMATCH = "login-mismatch"
    LOGIN_EXPIRED = "login-expired"
    LOGIN_EXPIRES_SOON = "login-expires-soon"
    LOGIN_TOO_EARLY = "login-too-early"
    LOGIN_CLEAR_TEXT = "login-clear-text"
    LOGIN_OK = "login-ok"
    TLS_UNUSABLE = "tls-unusable"
    TLS_EXPIRED = "tls-expired"
    TLS_EXPIRES_SOON = "tls-expires-soon"
    TLS_OK = "tls-ok"
    NOBODY_KNOWN = "nobody-known"
    NOBODY_PERMITTED = "nobody-permitted"
    PEER_HAS_OUR_KEY = "peer-has-our-key"
    PEER_IS_US = "peer-is-us"
    PEER_HAS_KEYS = "peer-has-keys"
    PEERS_ORIGINAL = "peers-original"
    PEERS_OK = "peers-ok"
    PLUGIN_UNUSABLE = "plugin-unusable"
    PLUGINS_OK = "plugins-ok"
    HOOKS_MISSING = "hooks-missing"
    HANDLER_UNSAFE = "handler-unsafe"
    HANDLER_SKIPPED = "handler-skipped"
    HANDLER_MASKED = "handler-masked"
    VERB_WITHOUT_HANDLER = "verb-without-handler"
    VERB_UNHANDLED = "verb-unhandled"
    HANDLERS_OK = "handlers-ok"
    STATE_UNUSABLE = "state-unusable"
    DAEMON_RUNNING = "daemon-running"
    LEDGER_DAMAGED = "ledger-damaged"
    LEDGER_NEWER = "ledger-newer"
    LEDGER_AHEAD = "ledger-ahead"
    STATE_OK = "state-ok"
    UNIT_MASKED = "unit-masked"
    UNIT_UNREADABLE = "unit-unreadable"
    UNIT_PATH = "unit-path"
    UNIT_TYPE = "unit-type"
    UNIT_OK = "unit-ok"
    CLOCK_UNKEPT = "clock-unkept"
    CLOCK_OK = "clock-ok"
    # Told by `doctor`:
    SERVER_UNREACHABLE = "server-unreachable"
    SERVER_REFUSES = "server-rejects"
    SERVER_PAYLOAD = "server-payload"
    SERVER_OK = "server-ok"
    SUBJECT_DENIED = "subject-denied"
    SUBJECTS_OK = "subjects-ok"
    VERB_NOT_OURS = "verb-not-ours"
    PEER_OK = "peer-ok"
    PEER_SILENT = "peer-silent"
    PEER_REFUSES = "peer-rejects"
    PEER_KNOWS_OTHER_KEY = "peer-knows-other-key"
    PEER_KNOWS_US_OTHERWISE = "peer-knows-us-otherwise"
    PEER_CALLS_ITSELF_OTHERWISE = "peer-calls-itself-otherwise"
    PERMISSIONS_REFUSED = "permissions-rejected"
    PERMISSIONS_UNTOLD = "permissions-untold"
    PERMISSIONS_UNREADABLE = "permissions-unreadable"
    REPLY_UNBOUND = "reply-unbound"
    REPLY_FORGED = "reply-forged"
    KEY_UNKNOWN = "key-unknown"
    NOBODY_ANSWERS = "nobody-answers"
    CLOCK_OFF = "clock-off"
    CLOCK_REFUSED = "clock-rejected"
    OWN_CLOCK_OFF = "own-clock-off"


def _no_facts() -> Mapping[str, object]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. where: a file, a key path, a server or a peer.

    hint: the command, or in words what is to be done; empty if nothing is. facts: what was measured, for machines.
    """

    level: Level
    code: Code
    where: str
    what: str
    hint: str = ""
    facts: Mapping[str, object] = field(default_factory=_no_facts)


def from_error(code: Code, where: str, error: RemaphoreError, *, level: Level = Level.ERROR, hint: str = "") -> Finding:
    """Return *error* as a finding. Our errors tell their hint after a semicolon; *hint* is for those that do not."""
    text = str(error)
    if text.startswith(f"{where}:"):  # also with a line: FILE:3: what
        line, _, text = text.removeprefix(where).partition(": ")
        where += line
    if error.hint != error.default_hint:
        return Finding(level, code, where, text, error.hint)
    what, separator, words = text.partition("; hint: ")
    if not separator:
        what, _, words = text.partition("; ")
    own = "" if error.hint == error.default_hint else error.hint
    return Finding(level, code, where, what, words or own or hint)


def quote(text: str) -> str:
    """Return what a peer or a server says, as far as a line for people has room."""
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}... ({len(text)} characters)"


def to_line(finding: Finding) -> str:
    """Return *finding* as a line for people. It may quote files, servers and peers: escape it before it is shown."""
    hint = f"; hint: {finding.hint}" if finding.hint else ""
    return f"{finding.level:<7}  {finding.where}: {finding.what}{hint}"
