"""The original's configuration, `*.conf`: `key: value` lines, then the sections `[ Identities ]` and `[ Peers ]`.

Everything that the original accepts is accepted, with the same meaning. What it accepts but cannot have been meant is
an error where it would fail later, else a warning. No message quotes more of a line than a short word: any part of it
may turn out to be a private key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from remaphore.config import checks
from remaphore.config.settings import DEFAULT_SKEW_NS, DEFAULT_SUBJECT, Auth, Config, Identity
from remaphore.errors import ConfigError, KeyFormatError
from remaphore.protocol.keys import PrivateKey
from remaphore.protocol.peers import Peer

_KEYS = ("server", "credentials", "subject", "default_identity", "destination", "allow_skew")
_LONGEST_QUOTE = 32  # far shorter than any key in base58
_IDENTITY_FORM = "PUBLICKEY PRIVATEKEY [verb,...]"
_PEER_FORM = "DESTINATION PUBLICKEY [verb,...]"


def parse(text: str, source: str) -> Config:
    """Read *text*; *source* is the file's name, for messages. Paths in it count from the current directory.

    Bytes that are not UTF-8 may come as lone surrogates: they do no harm in a comment. Raises ConfigError.
    """
    reader = _Reader(source)
    # Only a newline ends a line, as in the original; str.splitlines knows more.
    for number, line in enumerate(text.split("\n"), 1):
        content = line.partition("#")[0].strip()
        if content:
            reader.take(number, content)
    return reader.config()


def example() -> str:
    """Return a configuration to start from, as `-C` prints it, with a new key pair."""
    key = PrivateKey.generate()
    return (
        "server: nats://natsserver:4222\n"
        "credentials: /path/to/credentials/file\n"
        "subject: remaphore\n"
        f"default_identity: {key.public}\n"
        "destination: all\n"
        "allow_skew: 5s\n"
        "\n"
        "[ Identities ]\n"
        f"{key.public} {key.reveal()} [ping]\n"
        "\n"
        "[ Peers ]\n"
    )


class _Reader:
    """What has been read so far; `take` gets one line after the other, without comments and never empty."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._read: Callable[[int, str], None] = self._setting
        self._settings: dict[str, tuple[int, str]] = {}
        self._servers: list[str] = []
        self._identities: list[Identity] = []
        self._peers: list[Peer] = []
        self._lines: dict[tuple[str, str], int] = {}  # (section, public key) -> the first line that has it
        self._first_lines: dict[str, int] = {}  # a section's name, or `servers` -> the first line that has it
        self._warnings: list[str] = []

    def take(self, number: int, content: str) -> None:
        if not content.isascii() and content.encode(errors="ignore").decode() != content:
            raise self._error(number, "not UTF-8; save the file as UTF-8")
        if content[0] == "[" and content[-1] == "]":
            self._enter(number, content[1:-1].strip().lower())
        else:
            self._read(number, content)

    def _enter(self, number: int, name: str) -> None:
        sections = {"identities": self._identity, "peers": self._peer}
        self._read = sections.get(name, self._stray)
        if name in sections:
            self._first_lines.setdefault(name, number)
        else:
            self._warn(number, f"unknown section{_quote(name)}; write [ Identities ] or [ Peers ]")

    def _stray(self, number: int, _content: str) -> None:
        raise self._error(number, "a line in an unknown section; put it under [ Identities ] or [ Peers ]")

    def _setting(self, number: int, content: str) -> None:
        name, colon, value = content.partition(":")
        key, value = name.strip().lower(), value.strip()
        if not colon or not key:
            self._warn(number, "the line is ignored; write key: value, or a section such as [ Identities ]")
        elif key not in _KEYS:
            self._warn(number, f"unknown key{_quote(key)} is ignored; known are {', '.join(_KEYS)}")
        elif not value:
            self._warn(number, f"{key} is empty and ignored; write a value or delete the line")
        elif key == "server":
            self._first_lines.setdefault("servers", number)
            self._server(number, value)
        else:
            if key in self._settings:
                first = self._settings[key][0]
                self._warn(number, f"{key} stands in line {first} too; this one counts, delete the other")
            self._settings[key] = number, value

    def _server(self, number: int, value: str) -> None:
        # The original hands all lines to its client as one list with commas, and that client adds a missing scheme.
        for item in filter(None, map(str.strip, value.split(","))):
            scheme, separator, address = item.rpartition("://")
            host = address.rpartition("@")[2]
            if host != address:
                self._warn(number, "the user and password in the address are ignored; the credentials count, delete it")
            url = f"{scheme if separator else 'nats'}://{host}"
            problem = checks.server_problem(url)
            if problem is not None:
                raise self._error(number, f"server: {problem}")
            self._servers.append(url)

    def _identity(self, number: int, content: str) -> None:
        public, private, verbs = self._row(number, content, _IDENTITY_FORM)
        self._check_key(number, public, "identity")
        try:
            key = checks.private_key(private, public=public)
        except KeyFormatError as error:
            raise self._error(number, str(error)) from None
        self._identities.append(Identity(key=public, verbs=verbs, load=lambda: key))

    def _peer(self, number: int, content: str) -> None:
        destination, public, verbs = self._row(number, content, _PEER_FORM)
        self._check_key(number, public, "peer")
        self._check_destination(number, destination)
        self._peers.append(
            Peer(destination=destination, key=public, verbs=verbs, legacy=True, origin=self._place(number))
        )

    def _row(self, number: int, content: str, form: str) -> tuple[str, str, frozenset[str]]:
        fields = content.split(None, 2)
        if len(fields) != 3:
            raise self._error(number, f"{len(fields)} of 3 fields; write {form}")
        first, second, verbs = fields
        if len(verbs) < 2 or verbs[0] != "[" or verbs[-1] != "]":
            raise self._error(number, f"the verbs do not stand in brackets; write {form}")
        return first, second, frozenset(filter(None, map(str.strip, verbs[1:-1].lower().split(","))))

    def _check_key(self, number: int, public: str, section: str) -> None:
        problem = checks.public_key_problem(public)
        if problem is not None:
            raise self._error(number, problem)
        first = self._lines.setdefault((section, public), number)
        if first != number:
            self._warn(number, f"the key of this {section} stands in line {first} too, which counts; delete one")

    def _check_destination(self, number: int, destination: str) -> None:
        problem = checks.destination_problem(destination)
        if problem is not None:
            self._warn(number, problem)

    def config(self) -> Config:
        self._check_complete()
        self._check_destination(*self._settings["destination"])
        return Config(
            source=self._source,
            destination=self._settings["destination"][1],
            servers=tuple(self._servers),
            auth=Auth(kind="credentials", file=Path(self._settings["credentials"][1]), lenient=True),
            identities=tuple(self._identities),
            peers=tuple(self._peers),
            subject=self._subject(),
            allow_skew_ns=self._allow_skew_ns(),
            default_identity=self._default_identity(),
            legacy=True,
            warnings=tuple(self._warnings),
            origins=self._origins(),
        )

    def _check_complete(self) -> None:
        if not self._servers:
            raise ConfigError(f"{self._source}: no server; add a line server: nats://HOST:4222")
        for key, value in (("credentials", "FILE"), ("destination", "NAME")):
            if key not in self._settings:
                raise ConfigError(f"{self._source}: no {key}; add a line {key}: {value}")
        if not self._identities:
            raise ConfigError(f"{self._source}: no identity; add under [ Identities ] a line {_IDENTITY_FORM}")

    def _subject(self) -> str:
        number, text = self._settings.get("subject", (0, DEFAULT_SUBJECT))
        problem = checks.subject_problem(text)
        if problem is not None:
            raise self._error(number, f"subject: {problem}")
        return text

    def _allow_skew_ns(self) -> int:
        number, text = self._settings.get("allow_skew", (0, "0"))
        try:
            skew = checks.read_duration(text)
        except ValueError as error:
            raise self._error(number, f"allow_skew: {error}") from None
        if skew < 0:
            self._warn(number, "allow_skew is negative, so nothing is ever taken; write for example 5s")
        return skew or DEFAULT_SKEW_NS  # 0 means the default to the original

    def _default_identity(self) -> str:
        number, key = self._settings.get("default_identity", (0, self._identities[0].key))
        problem = checks.public_key_problem(key)
        if problem is not None:
            raise self._error(number, f"default_identity: {problem}")
        if ("identity", key) not in self._lines:
            raise self._error(number, "default_identity: no identity has this key; write one of [ Identities ]")
        return key

    def _origins(self) -> Mapping[str, str]:
        lines = self._first_lines | {key: number for key, (number, _) in self._settings.items()}
        return MappingProxyType({key: self._place(number) for key, number in lines.items()})

    def _place(self, number: int) -> str:
        return f"{self._source}:{number}"

    def _error(self, number: int, text: str) -> ConfigError:
        return ConfigError(f"{self._place(number)}: {text}")

    def _warn(self, number: int, text: str) -> None:
        self._warnings.append(f"{self._place(number)}: {text}")


def _quote(word: str) -> str:
    return f" {word!r}" if len(word) <= _LONGEST_QUOTE and word.replace("_", "").isalpha() else ""
