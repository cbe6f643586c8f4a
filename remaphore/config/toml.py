"""The reader of our own format, `*.toml`, which contains no secret, only the names of the files that do.

A value is checked where it is read, so that its error names the place: a key path such as `peers[0].key` for what TOML
could parse, and a line for what it could not (tomli keeps no lines). `Config.origins` maps the same paths to the file:
`config show` prints `verbs.deploy.timeout = "10s"  # /etc/remaphore/remaphore.toml: verbs.deploy.timeout`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from remaphore.config import characters, checks, payload_rules
from remaphore.config.secrets import CREDENTIALS_VARIABLE, private_key_loader
from remaphore.config.settings import (
    DEFAULT_SKEW_NS,
    DEFAULT_SUBJECT,
    AgentSettings,
    Auth,
    Config,
    Identity,
    Problem,
    Tls,
    VerbSettings,
)
from remaphore.config.tables import Table
from remaphore.errors import ConfigError
from remaphore.protocol import duration
from remaphore.protocol.peers import Peer

_TOP = (
    *("destination", "servers", "credentials", "auth", "tls", "subject", "allow_skew", "default_identity"),
    *("state_dir", "hooks", "notify_rejections", "identities", "peers", "verbs", "plugins", "agent"),
)
_AUTH = ("nkey_seed_file", "user", "password_file", "token_file")
_TLS_FILES = ("ca_file", "cert_file", "key_file")
_TLS = (*_TLS_FILES, "handshake_first")
_IDENTITY = ("key", "private_key_file", "verbs")
_DROP_IN = ("peers",)
_PEER = ("destination", "key", "verbs", "only", "compatibility")

_AUTH_HINT = (
    'write credentials = "FILE", or a table [auth] with nkey_seed_file, with user and password_file, or with'
    ' token_file, or auth = "none"'
)
_IDENTITY_HINT = "a table [[identities]] with key, private_key_file and verbs"
# A verb with a table can also be the name of a directory of handlers.
_VERB_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_POSITION = re.compile(r"\(at line (\d+), column (\d+)\)$")
# A number of more digits than Python converts (4300). It is found before tomli runs, whose regular expressions need a
# hundred bytes of memory a digit.
_LONG_NUMBER = re.compile(r"[=\[,]\s*[+-]?(?:0x[0-9a-fA-F_]{4300}|[0-9][0-9_.eE+-]{4300})")


def parse(text: str, source: str, base: Path, *, drop_ins: Iterable[tuple[str, str]] = ()) -> Config:
    """Return the configuration in *text*.

    source: the file's name, for messages. base: the directory that relative paths are relative to. drop_ins: name and
    text of each file in `peers.d`, whose peers follow those of the main file. A private key is read when it is first
    used. Raise ConfigError.
    """
    root = Table(document(text, source), source=source, known=_TOP, top=_TOP, text=text)
    root.require("destination", 'destination = "com.example.host"')
    root.require("servers", 'servers = ["nats://HOST:4222"]')
    root.require("identities", _IDENTITY_HINT)
    servers = root.texts("servers")
    if not servers:
        raise root.error("servers", "empty", 'write ["nats://HOST:4222"]')
    for number, url in enumerate(servers):
        root.checked(f"servers[{number}]", url, checks.server_problem)
    warnings: list[Problem] = []
    identities = _identities(root, source, base, warnings)
    default = root.text("default_identity") or identities[0].key
    root.checked("default_identity", default, checks.public_key_problem)
    if all(identity.key != default for identity in identities):
        raise root.error("default_identity", "no identity has this key", "use the key of one of [[identities]]")
    others = [(name, Table(document(other, name), source=name, known=_DROP_IN, text=other)) for name, other in drop_ins]
    enabled, plugins = _plugins(root)
    verbs = _verbs(root)
    tables = root.raw("verbs")
    paths = [*root, *(f"verbs.{name}.{key}" for name in tables for key in tables[name])]
    return Config(
        source=source,
        destination=root.checked("destination", root.required_text("destination"), checks.destination_problem),
        servers=servers,
        auth=_auth(root, base),
        identities=identities,
        peers=_peers([(source, root), *others], warnings),
        tls=_tls(root, base),
        subject=root.checked("subject", root.text("subject") or DEFAULT_SUBJECT, checks.subject_problem),
        allow_skew_ns=root.duration("allow_skew") or DEFAULT_SKEW_NS,
        default_identity=default,
        state_dir=_file(root, "state_dir", base),
        hooks=tuple(base / name for name in root.texts("hooks")),
        verbs=verbs,
        enabled_plugins=enabled,
        plugins=plugins,
        notify_rejections=root.boolean("notify_rejections") is not False,
        agent=agent_settings(root, base, identities),
        warnings=tuple(warnings),
        origins=MappingProxyType({path: f"{source}: {path}" for path in paths}),
    )


def document(text: str, source: str) -> Mapping[str, Any]:
    """Return the values in *text*, unchecked. Raise ConfigError, with the line, if it is not TOML."""
    import tomli

    long_number = _LONG_NUMBER.search(text)
    if long_number:
        line = text.count("\n", 0, long_number.end()) + 1
        what = f"{source}:{line}: not TOML: a number of more than 4300 digits"
        raise ConfigError(what, hint="use a shorter number, or quote it")
    try:
        return tomli.loads(text)
    except RecursionError:
        raise ConfigError(f"{source}: not TOML: nested too deeply", hint="use fewer levels of [ ] and { }") from None
    except ValueError as error:  # TOMLDecodeError, and int() for a number of thousands of digits
        # The line is at the end of the text: "Invalid value (at line 3, column 7)" becomes "FILE:3: Invalid value".
        found = _POSITION.search(str(error))
        where = f"{source}:{found[1]}" if found else source
        reason = _POSITION.sub("", str(error)).strip()
        hint = 'write strings as key = "text", and arrays in [ ]'
        deceptive = _deceptive_in_line(text, int(found[1])) if found else ""
        if deceptive:
            hint = f"delete or replace {deceptive}"
        raise ConfigError(f"{where}: not TOML: {reason}", hint=hint) from None


def _tls(root: Table, base: Path) -> Tls:
    table = root.table("tls", _TLS)
    if "key_file" in table:
        table.require("cert_file", 'cert_file = "FILE", the certificate of this key')
    files = {key: _file(table, key, base) for key in _TLS_FILES}
    return Tls(**files, handshake_first=bool(table.boolean("handshake_first")))


def _deceptive_in_line(text: str, line: int) -> str:
    content = "".join(text.split("\n")[line - 1 : line])  # an error at the end of the file may be after the last line
    return characters.describe(content.partition("#")[0], line=line)


def _auth(root: Table, base: Path) -> Auth:
    if "credentials" in root and "auth" in root:
        raise root.error("auth", "set together with credentials", "keep one of the two")
    if "credentials" in root:
        return Auth(kind="credentials", file=_file(root, "credentials", base))
    if "auth" not in root:
        raise root.error("auth", "missing", _AUTH_HINT)
    if root.is_text("auth"):
        if root.text("auth") != "none":
            raise root.error("auth", "unknown value", _AUTH_HINT)
        return Auth(kind="none")
    auth = root.table("auth", _AUTH)
    match sorted(auth):
        case ["nkey_seed_file"]:
            return Auth(kind="nkey", file=_file(auth, "nkey_seed_file", base))
        case ["token_file"]:
            return Auth(kind="token", file=_file(auth, "token_file", base))
        case ["password_file", "user"]:
            return Auth(kind="password", file=_file(auth, "password_file", base), user=auth.required_text("user"))
    raise auth.error("", "expected exactly one authentication method", _AUTH_HINT)


def _identities(root: Table, source: str, base: Path, warnings: list[Problem]) -> tuple[Identity, ...]:
    identities = []
    seen: dict[str, tuple[str, str]] = {}
    for table in root.tables("identities", _IDENTITY):
        key = _public_key(table, source, seen, warnings)
        what = f"private key, named by {table.path('private_key_file')} of {source}"
        path = place(base, table.required_text("private_key_file"))
        load = private_key_loader(path, public=key, what=what)
        identities.append(Identity(key=key, verbs=_permitted(table), load=load, file=path))
    if not identities:
        raise root.error("identities", "empty", f"add {_IDENTITY_HINT}")
    return tuple(identities)


def _peers(files: Iterable[tuple[str, Table]], warnings: list[Problem]) -> tuple[Peer, ...]:
    peers = []
    seen: dict[str, tuple[str, str]] = {}
    for source, root in files:
        for table in root.tables("peers", _PEER):
            destination = table.checked("destination", table.required_text("destination"), checks.destination_problem)
            key = _public_key(table, source, seen, warnings)
            only = payload_rules.read_by_verb(table)
            verbs = _permitted(table).union(only)
            compatibility = table.text("compatibility")
            if compatibility not in (None, "legacy"):
                raise table.error("compatibility", "unknown value", 'write "legacy" or delete it')
            origin = f"{source}: {table.path('')}"
            legacy = compatibility is not None
            peer = Peer(destination=destination, key=key, verbs=verbs, only=only, legacy=legacy, origin=origin)
            peers.append(peer)
    return tuple(peers)


def _public_key(table: Table, source: str, seen: dict[str, tuple[str, str]], warnings: list[Problem]) -> str:
    """Return the key of *table*, and warn if it is a repetition. *seen*: file and path of each key so far.

    The first entry takes precedence, as in the Go implementation: `peers[3].key: repeats peers[1].key`.
    """
    key = table.checked("key", table.required_text("key"), checks.public_key_problem)
    place = source, table.path("key")
    first = seen.setdefault(key, place)
    if first != place:
        where = first[1] if first[0] == source else f"{first[1]} of {first[0]}"
        what = f"{source}: {place[1]}: repeats {where}, which takes precedence"
        warnings.append(Problem(what, "delete one of the two"))
    return key


def _permitted(table: Table) -> frozenset[str]:
    table.require("verbs", 'verbs = ["..."]')
    verbs = table.texts("verbs")
    for number, verb in enumerate(verbs):
        table.checked(f"verbs[{number}]", verb, checks.verb_problem)
    return frozenset(verb.lower() for verb in verbs)


def agent_settings(root: Table, base: Path, identities: Iterable[Identity]) -> AgentSettings:
    """Return the settings of the agent, whose reader most nodes do not need. Raise ConfigError."""
    if "agent" not in root:
        return AgentSettings()
    from remaphore.config.agent import read_agent

    return read_agent(root, base, identities=[identity.key for identity in identities])


def _file(table: Table, key: str, base: Path) -> Path | None:
    name = table.text(key)
    return None if name is None else place(base, name)


def place(base: Path, name: str) -> Path:
    """Return the path of the file *name*, which is relative to *base*.

    `$CREDENTIALS_DIRECTORY/NAME` is a credential of the service, see LoadCredential in systemd.exec(5). No other
    variable is replaced. Without the variable the name stays as it is: its error says what is missing.
    """
    variable, slash, rest = name.partition("/")
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    if slash and variable == CREDENTIALS_VARIABLE and folder.startswith("/"):
        return Path(folder) / rest
    return base / name


def _payload(table: Table, key: str) -> str | None:
    value = table.text(key)
    if value not in (None, "argument", "stdin"):
        raise table.error(key, "unknown value", 'write "argument" or "stdin"')
    return value


def _seconds(table: Table, key: str) -> float | None:
    nanoseconds = table.duration(key)
    return None if nanoseconds is None else nanoseconds / duration.SECOND


# Keys of a table [verbs.NAME]: the field of VerbSettings that each sets, and its reader.
_VERB: Mapping[str, tuple[str, Callable[[Table, str], object]]] = {
    "timeout": ("timeout_seconds", _seconds),
    "concurrency": ("concurrency", Table.positive),
    "queue": ("queue", Table.positive),
    "max_wait": ("max_wait_seconds", _seconds),
    "exit_on_error": ("exit_on_error", Table.boolean),
    "cap": ("cap", Table.positive),
    "payload": ("payload", _payload),
    "user": ("user", Table.text),
}


def _verbs(root: Table) -> Mapping[str, VerbSettings]:
    tables = root.table("verbs", None)
    settings: dict[str, VerbSettings] = {}
    for name in tables:
        if not _VERB_NAME.fullmatch(name):
            hint = "use a to z, 0 to 9, _ and -, at most 64 characters"
            raise tables.error(name, "not a verb that can have handlers", hint)
        table = tables.table(name, tuple(_VERB))
        settings[name] = VerbSettings(**{_VERB[key][0]: _VERB[key][1](table, key) for key in table})  # type: ignore[arg-type]
    return MappingProxyType(settings)


def _plugins(root: Table) -> tuple[tuple[str, ...], Mapping[str, Mapping[str, Any]]]:
    """Return the names in `enable`, and each table `[plugins.NAME]`, which the plugin itself checks."""
    plugins = root.table("plugins", None)
    enabled = plugins.texts("enable")
    seen: set[str] = set()
    for number, name in enumerate(enabled):
        if name in seen:
            raise plugins.error(f"enable[{number}]", "listed twice", "delete one of the two")
        seen.add(name)
    names = [name for name in plugins if name != "enable"]
    for name in names:
        if not plugins.is_table(name):
            hint = f"write enable = [...], or a table [{plugins.path(name)}]"
            raise plugins.error(name, "neither enable nor a table", hint)
    return enabled, MappingProxyType({name: plugins.raw(name) for name in names})
