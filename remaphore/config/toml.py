"""Our own configuration, `*.toml`. It holds no secret itself, only the names of the files that do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from remaphore.config import checks
from remaphore.config.secrets import private_key_loader
from remaphore.config.settings import (
    DEFAULT_SKEW_NS,
    DEFAULT_SUBJECT,
    Auth,
    Config,
    Identity,
    Tls,
    VerbSettings,
)
from remaphore.config.tables import Table
from remaphore.errors import ConfigError
from remaphore.protocol import duration
from remaphore.protocol.peers import Peer

_TOP = (
    *("destination", "servers", "credentials", "auth", "tls", "subject", "allow_skew", "default_identity"),
    *("state_dir", "hooks", "notify_rejections", "identities", "peers", "verbs", "plugins"),
)
_AUTH = ("nkey_seed_file", "user", "password_file", "token_file")
_TLS = ("ca_file", "cert_file", "key_file")
_IDENTITY = ("key", "private_key_file", "verbs")
_DROP_IN = ("peers",)
_PEER = ("destination", "key", "verbs", "compatibility")

_AUTH_MEND = (
    'write credentials = "FILE", or a table [auth] with nkey_seed_file, with user and password_file, or with'
    ' token_file, or auth = "none"'
)
# A verb that can have a table is one that can name a directory of handlers.
_VERB_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_POSITION = re.compile(r"\(at line (\d+), column (\d+)\)$")
# A value of more digits than Python makes a number of; for many more, tomli's expressions need a hundred bytes a digit.
_LONG_NUMBER = re.compile(r"[=\[,]\s*[+-]?(?:0x[0-9a-fA-F_]{4300}|[0-9][0-9_.eE+-]{4300})")


def parse(text: str, source: str, base: Path, *, drop_ins: Iterable[tuple[str, str]] = ()) -> Config:
    """Read *text*; *source* is the file's name, for messages, and *base* the directory that its paths count from.

    *drop_ins*: name and text of the files in `peers.d`, whose peers come after the file's own. Private keys are read
    when first used. Raises ConfigError.
    """
    root = Table(document(text, source), source=source, known=_TOP, top=_TOP)
    _check_keys(root)
    warnings: list[str] = []
    identities = _identities(root, source, base, warnings)
    return Config(
        source=source,
        destination=root.checked("destination", root.required_text("destination"), checks.destination_problem),
        servers=_servers(root),
        auth=_auth(root, base),
        identities=identities,
        peers=_peers(((source, root), *_drop_ins(drop_ins)), warnings),
        tls=_tls(root, base),
        subject=root.checked("subject", root.text("subject") or DEFAULT_SUBJECT, checks.subject_problem),
        allow_skew_ns=root.duration("allow_skew") or DEFAULT_SKEW_NS,
        default_identity=_default_identity(root, identities),
        state_dir=_file(root, "state_dir", base),
        hooks=tuple(base / name for name in root.texts("hooks")),
        verbs=_verbs(root),
        enabled_plugins=_enabled(root),
        plugins=_plugins(root),
        notify_rejections=root.boolean("notify_rejections") is not False,
        warnings=tuple(warnings),
        origins=_origins(root, source),
    )


def document(text: str, source: str) -> Mapping[str, Any]:
    """Return what *text* holds, unjudged. Raises ConfigError if it is not TOML."""
    import tomli

    long_number = _LONG_NUMBER.search(text)
    if long_number:
        line = text.count("\n", 0, long_number.end()) + 1
        raise ConfigError(f"{source}: not TOML: line {line} has a number of more than 4300 digits; write a shorter one")
    try:
        return tomli.loads(text)
    except RecursionError:
        raise ConfigError(f"{source}: not TOML: nested too deeply; flatten it") from None
    except ValueError as error:  # TOMLDecodeError, and int() for a number of thousands of digits
        found = _POSITION.search(str(error))
        where = f"{source}:{found[1]}" if found else source
        reason = _POSITION.sub("", str(error)).strip()
        raise ConfigError(f'{where}: not TOML: {reason}; write key = "text", arrays in [ ]') from None


def _check_keys(root: Table) -> None:
    root.require("destination", 'destination = "com.example.host"')
    root.require("servers", 'servers = ["nats://HOST:4222"]')
    root.require("identities", "a table [[identities]] with key, private_key_file and verbs")


def _servers(root: Table) -> tuple[str, ...]:
    servers = root.texts("servers")
    if not servers:
        raise root.error("servers", 'empty; write ["nats://HOST:4222"]')
    for number, url in enumerate(servers):
        root.checked(f"servers[{number}]", url, checks.server_problem)
    return servers


def _auth(root: Table, base: Path) -> Auth:
    if "credentials" in root and "auth" in root:
        raise root.error("auth", "given beside credentials; keep one of the two")
    if "credentials" in root:
        return Auth(kind="credentials", file=_file(root, "credentials", base))
    if "auth" not in root:
        raise root.error("auth", f"missing; {_AUTH_MEND}")
    if root.is_text("auth"):
        if root.text("auth") != "none":
            raise root.error("auth", f"unknown; {_AUTH_MEND}")
        return Auth(kind="none")
    return _auth_table(root.table("auth", _AUTH), base)


def _auth_table(auth: Table, base: Path) -> Auth:
    match sorted(auth):
        case ["nkey_seed_file"]:
            return Auth(kind="nkey", file=_file(auth, "nkey_seed_file", base))
        case ["token_file"]:
            return Auth(kind="token", file=_file(auth, "token_file", base))
        case ["password_file", "user"]:
            return Auth(kind="password", file=_file(auth, "password_file", base), user=auth.required_text("user"))
    raise auth.error("", f"not one way to authenticate; {_AUTH_MEND}")


def _tls(root: Table, base: Path) -> Tls:
    tls = root.table("tls", _TLS)
    if "key_file" in tls:
        tls.require("cert_file", 'cert_file = "FILE", the certificate of this key')
    return Tls(**{key: _file(tls, key, base) for key in _TLS})


def _identities(root: Table, source: str, base: Path, warnings: list[str]) -> tuple[Identity, ...]:
    identities = []
    seen: dict[str, tuple[str, str]] = {}
    for table in root.tables("identities", _IDENTITY):
        key = _public_key(table, source, seen, warnings)
        what = f"private key, named by {table.path('private_key_file')} of {source}"
        path = base / table.required_text("private_key_file")
        load = private_key_loader(path, public=key, what=what)
        identities.append(Identity(key=key, verbs=_permitted(table), load=load, file=path))
    if not identities:
        raise root.error("identities", "empty; add a table [[identities]] with key, private_key_file and verbs")
    return tuple(identities)


def _drop_ins(texts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Table]]:
    for source, text in texts:
        yield source, Table(document(text, source), source=source, known=_DROP_IN)


def _peers(files: Iterable[tuple[str, Table]], warnings: list[str]) -> tuple[Peer, ...]:
    peers = []
    seen: dict[str, tuple[str, str]] = {}
    for source, root in files:
        for table in root.tables("peers", _PEER):
            destination = table.checked("destination", table.required_text("destination"), checks.destination_problem)
            key = _public_key(table, source, seen, warnings)
            peers.append(
                Peer(
                    destination=destination,
                    key=key,
                    verbs=_permitted(table),
                    legacy=_is_legacy(table),
                    origin=f"{source}: {table.path('')}",
                )
            )
    return tuple(peers)


def _public_key(table: Table, source: str, seen: dict[str, tuple[str, str]], warnings: list[str]) -> str:
    """Return the key of *table*, and note where it stands; *seen*: the file and path of each key so far."""
    key = table.checked("key", table.required_text("key"), checks.public_key_problem)
    place = source, table.path("key")
    first = seen.setdefault(key, place)
    if first != place:
        where = first[1] if first[0] == source else f"{first[1]} of {first[0]}"
        warnings.append(f"{source}: {place[1]}: the same as {where}, which counts; delete one")
    return key


def _permitted(table: Table) -> frozenset[str]:
    table.require("verbs", 'verbs = ["..."]')
    verbs = table.texts("verbs")
    for number, verb in enumerate(verbs):
        if "," in verb:
            raise table.error(f"verbs[{number}]", 'a verb holds no comma; write ["ping", "deploy"]')
    return frozenset(verb.lower() for verb in verbs)


def _is_legacy(table: Table) -> bool:
    value = table.text("compatibility")
    if value not in (None, "legacy"):
        raise table.error("compatibility", 'unknown; write "legacy" or delete it')
    return value is not None


def _default_identity(root: Table, identities: tuple[Identity, ...]) -> str:
    key = root.text("default_identity")
    if key is None:
        return identities[0].key
    root.checked("default_identity", key, checks.public_key_problem)
    if all(identity.key != key for identity in identities):
        raise root.error("default_identity", "no identity has this key; write the key of one of [[identities]]")
    return key


def _file(table: Table, key: str, base: Path) -> Path | None:
    name = table.text(key)
    return None if name is None else base / name


def _payload(table: Table, key: str) -> str | None:
    value = table.text(key)
    if value not in (None, "argument", "stdin"):
        raise table.error(key, 'unknown; write "argument" or "stdin"')
    return value


def _seconds(table: Table, key: str) -> float | None:
    nanoseconds = table.duration(key)
    return None if nanoseconds is None else nanoseconds / duration.SECOND


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
            raise tables.error(name, "no verb that can have handlers; write a to z, 0 to 9, _ and -, at most 64")
        table = tables.table(name, tuple(_VERB))
        settings[name] = VerbSettings(**{_VERB[key][0]: _VERB[key][1](table, key) for key in table})  # type: ignore[arg-type]
    return MappingProxyType(settings)


def _enabled(root: Table) -> tuple[str, ...]:
    plugins = root.table("plugins", None)
    names = plugins.texts("enable")
    seen: set[str] = set()
    for number, name in enumerate(names):
        if name in seen:
            raise plugins.error(f"enable[{number}]", "listed twice; delete one")
        seen.add(name)
    return names


def _plugins(root: Table) -> Mapping[str, Mapping[str, Any]]:
    plugins = root.table("plugins", None)
    for name in plugins:
        if name != "enable" and not plugins.is_table(name):
            raise plugins.error(name, f"neither enable nor a table; write enable = [...], or [{plugins.path(name)}]")
    return MappingProxyType({name: plugins.raw(name) for name in plugins if name != "enable"})


def _origins(root: Table, source: str) -> Mapping[str, str]:
    tables = root.raw("verbs")
    paths = [*root, *(f"verbs.{name}.{key}" for name in tables for key in tables[name])]
    return MappingProxyType({path: f"{source}: {path}" for path in paths})
