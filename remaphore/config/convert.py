"""Conversion of a legacy .conf to TOML: the same meaning, with each private key in its own file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from remaphore.config import files, render, search, toml
from remaphore.config.creation import SECRET_MODE
from remaphore.config.settings import Config, Problem
from remaphore.errors import ConfigError

_CONFIG_MODE = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """The result of a conversion: the new files, and the warnings about the old one."""

    config: Path
    key_files: tuple[Path, ...]
    warnings: tuple[Problem, ...]


def convert(path: str, output: Path) -> Converted:
    """Create *output*, and the key files next to it, from the legacy .conf *path*, which is not changed.

    A relative path in it is relative to the current directory, as for the Go implementation; the new file has absolute
    paths. Raise ConfigError, and then no file was created.
    """
    if path.endswith(".toml"):
        raise ConfigError(f"{path}: the name is that of a TOML file", hint="name a legacy .conf file")
    if output.suffix != ".toml":
        raise ConfigError(f"{output}: the name of a TOML configuration must end in .toml", hint="add .toml to the name")
    if output.exists():
        raise ConfigError(f"{output}: already exists", hint="name another file: --output FILE.toml")
    config = search.load(path, {})
    # The first key goes to NAME.key, further ones to NAME-2.key ...; an identity that is listed twice has one file.
    numbers = {key: number for number, key in enumerate(dict.fromkeys(each.key for each in config.identities), 1)}
    suffixes = {key: ".key" if number == 1 else f"-{number}.key" for key, number in numbers.items()}
    names = [output.with_name(output.stem + suffixes[identity.key]) for identity in config.identities]
    text = to_toml(config, [name.name for name in names])
    try:
        read = toml.parse(text, str(output), output.absolute().parent)
    except ConfigError as error:
        hint = f"correct this in {path} first"
        raise ConfigError(f"{config.source}: cannot be converted: {error}", hint=hint) from None
    if comparable(read) != comparable(config):
        hint = "nothing was created: report this as a bug"
        raise ConfigError(f"{config.source}: the conversion would change its meaning", hint=hint)
    secrets = {name: identity.load().reveal() for name, identity in zip(names, config.identities, strict=True)}
    files.create_all(
        [
            *(files.NewFile(path=name, text=f"{secret}\n", mode=SECRET_MODE) for name, secret in secrets.items()),
            files.NewFile(path=output, text=text, mode=_CONFIG_MODE),
        ]
    )
    return Converted(config=output, key_files=tuple(secrets), warnings=(*config.warnings, *config.unsafe))


def to_toml(config: Config, key_files: Sequence[str]) -> str:
    """Return *config*, read from a legacy .conf, as TOML; *key_files*: a file name for each identity."""
    assert config.auth.file is not None  # a legacy .conf always names credentials
    head = {
        "destination": render.string(config.destination),
        "servers": render.array(config.servers),
        "credentials": render.string(str(config.auth.file.absolute())),
        "subject": render.string(config.subject),
        "allow_skew": render.string(render.time(config.allow_skew_ns)),
        "default_identity": render.string(config.default_identity),
    }
    identities = (
        render.identity(key=identity.key, private_key_file=name, verbs=identity.verbs)
        for identity, name in zip(config.identities, key_files, strict=True)
    )
    lines = "".join(f"{key} = {value}\n" for key, value in head.items())
    return "\n".join([lines, *identities, *map(render.peer, config.peers)])


def comparable(config: Config) -> Config:
    """Return *config* without what differs between the formats: name, warnings, strictness, relative paths."""
    file = config.auth.file and config.auth.file.absolute()
    return replace(
        config, source="", warnings=(), unsafe=(), legacy=False, auth=replace(config.auth, lenient=False, file=file)
    )
