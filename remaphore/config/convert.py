"""From the original's `.conf` to our TOML: the same meaning, with the private keys in files of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from remaphore.config import files, render, search, toml
from remaphore.config.creation import SECRET_MODE
from remaphore.config.settings import Config
from remaphore.errors import ConfigError

_CONFIG_MODE = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What a conversion has made: the files, and what was odd in the old one."""

    config: Path
    key_files: tuple[Path, ...]
    warnings: tuple[str, ...]


def convert(path: str, output: Path) -> Converted:
    """Make *output*, and the key files beside it, of the original's configuration *path*, which stays as it is.

    A relative path in it counts from the current directory, as for the original; the new file has absolute ones. Raises
    ConfigError, and then nothing was made.
    """
    if path.endswith(".toml"):
        raise ConfigError(f"{path}: TOML already, by its name; name the original's configuration")
    if output.suffix != ".toml":
        raise ConfigError(f"{output}: the name of a configuration in TOML ends in .toml; name it so")
    if output.exists():
        raise ConfigError(f"{output}: exists, and nothing is overwritten; name another file: --output FILE.toml")
    config = search.load(path, {})
    names = _key_files(config, output)
    text = to_toml(config, [name.name for name in names])
    _check(config, text, output)
    secrets = {name: identity.load().reveal() for name, identity in zip(names, config.identities, strict=True)}
    files.create_all(
        [
            *(files.NewFile(path=name, text=f"{secret}\n", mode=SECRET_MODE) for name, secret in secrets.items()),
            files.NewFile(path=output, text=text, mode=_CONFIG_MODE),
        ]
    )
    return Converted(config=output, key_files=tuple(secrets), warnings=config.warnings)


def to_toml(config: Config, key_files: Sequence[str]) -> str:
    """Return *config*, which was read from the original's format, in TOML; *key_files*: one name for each identity."""
    assert config.auth.file is not None  # the original knows credentials only
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


def _key_files(config: Config, output: Path) -> list[Path]:
    """Return where the private key of each identity goes; one that is listed twice has one file."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(each.key for each in config.identities), 1)}
    suffixes = {key: ".key" if number == 1 else f"-{number}.key" for key, number in numbers.items()}
    return [output.with_name(output.stem + suffixes[identity.key]) for identity in config.identities]


def _check(config: Config, text: str, output: Path) -> None:
    """Raise unless *text* means what *config* does."""
    try:
        read = toml.parse(text, str(output), output.absolute().parent)
    except ConfigError as error:
        raise ConfigError(f"{config.source}: cannot be TOML as it is: {error} (correct it there first)") from None
    if comparable(read) != comparable(config):
        raise ConfigError(f"{config.source}: the conversion would change its meaning, so nothing was made; report this")


def comparable(config: Config) -> Config:
    """Return *config* without what tells the formats apart: names, warnings, strictness, relative paths."""
    file = config.auth.file and config.auth.file.absolute()
    return replace(config, source="", warnings=(), legacy=False, auth=replace(config.auth, lenient=False, file=file))
