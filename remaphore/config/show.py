"""The effective configuration: each value and where it comes from. Secrets are hidden."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from remaphore.config import render
from remaphore.config.settings import Config, VerbSettings
from remaphore.protocol import duration

HIDDEN = "(hidden)"

# Only a plugin knows which of its settings are secret, so these parts of a name hide a value, unless it names a file:
# `api_token` is hidden, `token_file` is not.
_SECRETS = ("pass", "secret", "token", "key", "seed", "credential", "auth")
_PLACES = ("file", "dir", "path")


class Setting(NamedTuple):
    """A value of the configuration. key: its path. origin: file and line, file and key path, or the default."""

    key: str
    value: object
    origin: str


def settings(config: Config, *, state_dir: Path, hooks: tuple[Path, ...]) -> Iterator[Setting]:
    """Yield every setting; *state_dir* and *hooks* are the defaults for a file that does not set them."""
    yield Setting("destination", config.destination, config.origin("destination"))
    yield Setting("servers", list(config.servers), config.origin("servers"))
    yield from _login(config)
    yield Setting("subject", config.subject, config.origin("subject"))
    yield Setting("allow_skew", render.time(config.allow_skew_ns), config.origin("allow_skew"))
    yield Setting("default_identity", config.default_identity, config.origin("default_identity"))
    yield Setting("state_dir", str(config.state_dir or state_dir), config.origin("state_dir"))
    yield Setting("hooks", [str(folder) for folder in config.hooks or hooks], config.origin("hooks"))
    origin = f"{config.source}: legacy .conf format" if config.legacy else config.origin("notify_rejections")
    yield Setting("notify_rejections", config.notify_rejections and not config.legacy, origin)
    for number, identity in enumerate(config.identities):
        path = f"identities[{number}]"
        secret = {"private_key_file": str(identity.file)} if identity.file else {"private_key": HIDDEN}
        value = {"key": identity.key, **secret, "verbs": sorted(identity.verbs)}
        yield Setting(path, value, config.origin("identities") if config.legacy else f"{config.source}: {path}")
    for number, peer in enumerate(config.peers):
        only = {"only": {verb: rule.settings() for verb, rule in peer.only.items()}} if peer.only else {}
        entry = {**render.peer_strings(peer), "verbs": sorted(peer.verbs), **only}
        yield Setting(f"peers[{number}]", entry, peer.origin)
    for verb in config.verbs:
        for field in dataclasses.fields(VerbSettings):
            key = f"verbs.{verb}.{field.name.removesuffix('_seconds')}"
            value = getattr(config.verb(verb), field.name)
            in_seconds = field.name.endswith("_seconds")
            yield Setting(key, render.time(round(value * duration.SECOND)) if in_seconds else value, config.origin(key))
    if config.agent.socket:
        yield Setting("agent.socket", str(config.agent.socket), config.origin("agent"))
    if config.agent.metrics:
        yield Setting("agent.metrics", config.agent.metrics, config.origin("agent"))
    for rule in config.agent.allow:
        yield Setting(rule.path, render.agent_rule(rule), f"{config.source}: {rule.path}")
    yield Setting("plugins.enable", list(config.enabled_plugins), config.origin("plugins"))
    for name, table in config.plugins.items():
        yield Setting(f"plugins.{name}", _without_secrets(table), config.origin("plugins"))


def _login(config: Config) -> Iterator[Setting]:
    auth, tls = config.auth, config.tls
    key = "credentials" if auth.kind == "credentials" else "auth"
    yield Setting("auth", auth.kind, config.origin(key))
    if auth.user:
        yield Setting("auth.user", auth.user, config.origin(key))
    if auth.file:
        yield Setting("auth.file", str(auth.file), config.origin(key))
    for name in ("ca_file", "cert_file", "key_file"):
        file = getattr(tls, name)
        if file:
            yield Setting(f"tls.{name}", str(file), config.origin("tls"))
    if tls.handshake_first:
        yield Setting("tls.handshake_first", value=True, origin=config.origin("tls"))


def _without_secrets(value: Any, name: str = "") -> Any:
    if isinstance(value, Mapping):
        return {key: _without_secrets(each, key) for key, each in value.items()}
    # Where the last such word ends: 9 for "api_token", 5 for "token_file", whose rest "_file" names a place.
    lower = name.lower()
    end = max((lower.rfind(word) + len(word) for word in _SECRETS if word in lower), default=0)
    if end and not lower[end:].endswith(_PLACES):
        return HIDDEN
    return [_without_secrets(each) for each in value] if isinstance(value, list) else value
