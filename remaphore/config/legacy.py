"""The reader of the legacy format of the Go implementation, `*.conf`.

It has `key: value` lines, then the sections `[ Identities ]` and `[ Peers ]`.

Everything that the Go implementation accepts is accepted, with the same meaning. A likely mistake that it accepts is an
error if it would fail later, else a warning. No message quotes more of a line than a short word: any part of a line may
be a private key.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

from remaphore.config import characters, checks
from remaphore.config.settings import DEFAULT_SKEW_NS, DEFAULT_SUBJECT, Auth, Config, Identity, Problem
from remaphore.errors import ConfigError, KeyFormatError
from remaphore.protocol.keys import PrivateKey
from remaphore.protocol.peers import Peer

_KEYS = ("server", "credentials", "subject", "default_identity", "destination", "allow_skew")
_LONGEST_QUOTE = 32  # far shorter than any key in base58
_IDENTITY_FORM = "PUBLICKEY PRIVATEKEY [verb,...]"
_PEER_FORM = "DESTINATION PUBLICKEY [verb,...]"


def parse(text: str, source: str) -> Config:
    """Return the configuration in *text*; *source* is the file's name, for messages.

    Paths in it are relative to the current directory. Bytes that are not UTF-8 may be represented by lone surrogates,
    which are accepted in a comment. Raise ConfigError.
    """
    reader = _Reader(source, text)
    # Only a newline ends a line, as in the Go implementation; str.splitlines also splits at other characters.
    for number, line in enumerate(text.split("\n"), 1):
        content = line.partition("#")[0].strip()
        if content:
            reader.add(number, content)
    return reader.config()


def example() -> str:
    """Return an example configuration with a new key pair, as `-C` prints it."""
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
    """Collects the settings line by line. Lines have no comments and are never empty."""

    def __init__(self, source: str, text: str) -> None:
        self._source = source
        self._text = text.split("\n")  # for the place of a character that cannot be seen
        self._add: Callable[[int, str], None] = self._add_setting  # the reader of the current section's lines
        self._settings: dict[str, tuple[int, str]] = {}
        self._servers: list[str] = []
        self._identities: list[Identity] = []
        self._peers: list[Peer] = []
        self._lines: dict[tuple[str, str], int] = {}  # (section, public key) -> the first line that has it
        self._first_lines: dict[str, int] = {}  # a section's name, or `servers` -> the first line that has it
        self._warnings: list[Problem] = []

    def add(self, number: int, content: str) -> None:
        """Read one line. Raise ConfigError."""
        if not content.isascii() and content.encode(errors="ignore").decode() != content:
            raise self._error(number, "not UTF-8", "save the file as UTF-8")
        if content[0] != "[" or content[-1] != "]":
            self._add(number, content)
            return
        name = content[1:-1].strip().lower()
        sections = {"identities": self._add_identity, "peers": self._add_peer}
        self._add = sections.get(name, self._reject_line)
        if name in sections:
            self._first_lines.setdefault(name, number)
        else:
            self._warn(number, f"unknown section{_quote(name)}", "write [ Identities ] or [ Peers ]")

    def _reject_line(self, number: int, _content: str) -> None:
        raise self._error(number, "line in an unknown section", "move it to [ Identities ] or [ Peers ]")

    def _add_setting(self, number: int, content: str) -> None:
        name, colon, value = content.partition(":")
        key, value = name.strip().lower(), value.strip()
        if not colon or not key:
            hint = "write key: value, or a section such as [ Identities ]"
            self._warn(number, "line ignored: not a setting", hint)
        elif key not in _KEYS:
            self._warn(number, f"unknown key{_quote(key)} ignored", f"known keys: {', '.join(_KEYS)}")
        elif not value:
            self._warn(number, f"{key} is empty and ignored", "write a value or delete the line")
        elif key == "server":
            self._first_lines.setdefault("servers", number)
            self._add_servers(number, value)
        else:
            if key in self._settings:
                first = self._settings[key][0]
                self._warn(number, f"{key} overrides line {first}", "delete one of the two")
            self._settings[key] = number, value

    def _add_servers(self, number: int, value: str) -> None:
        # The Go implementation joins all server lines with commas for its NATS client, which adds a missing scheme:
        # "a:1, tls://b" means nats://a:1 and tls://b.
        for item in filter(None, map(str.strip, value.split(","))):
            scheme, separator, address = item.rpartition("://")
            host = address.rpartition("@")[2]
            if host != address:
                what = "the user and password in the address are ignored, the credentials are used"
                self._warn(number, what, "remove them from the address")
            url = f"{scheme if separator else 'nats'}://{host}"
            self._check(number, checks.server_problem(url), "server: ")
            self._servers.append(url)

    def _add_identity(self, number: int, content: str) -> None:
        public, private, verbs = self._row(number, content, _IDENTITY_FORM)
        self._check_key(number, public, "identity")
        try:
            key = checks.private_key(private, public=public)
        except KeyFormatError as error:
            raise self._error(number, str(error), error.hint) from None
        self._identities.append(Identity(key=public, verbs=verbs, load=lambda: key))

    def _add_peer(self, number: int, content: str) -> None:
        destination, public, verbs = self._row(number, content, _PEER_FORM)
        self._check_key(number, public, "peer")
        self._warn_of_destination(number, destination)
        origin = self._place(number)
        self._peers.append(Peer(destination=destination, key=public, verbs=verbs, legacy=True, origin=origin))

    def _row(self, number: int, content: str, form: str) -> tuple[str, str, frozenset[str]]:
        fields = content.split(None, 2)
        if len(fields) != 3:
            raise self._error(number, f"expected 3 fields, found {len(fields)}", f"write {form}")
        first, second, verbs = fields
        if len(verbs) < 2 or verbs[0] != "[" or verbs[-1] != "]":
            raise self._error(number, "the verbs are not in brackets", f"write {form}")
        return first, second, frozenset(filter(None, map(str.strip, verbs[1:-1].lower().split(","))))

    def _check_key(self, number: int, public: str, section: str) -> None:
        self._check(number, checks.public_key_problem(public))
        first = self._lines.setdefault((section, public), number)
        if first != number:
            what = f"repeats the key of line {first}, which takes precedence"
            self._warn(number, f"this {section} {what}", "delete one of the two")

    def _warn_of_destination(self, number: int, destination: str) -> None:
        problem = checks.destination_problem(destination)
        if problem is not None:
            self._warn(number, *problem)

    def config(self) -> Config:
        """Return the configuration that all lines make. Raise ConfigError."""
        if not self._servers:
            raise ConfigError(f"{self._source}: no server", hint="add a line: server: nats://HOST:4222")
        for key, value in (("credentials", "FILE"), ("destination", "NAME")):
            if key not in self._settings:
                raise ConfigError(f"{self._source}: no {key}", hint=f"add a line: {key}: {value}")
        if not self._identities:
            hint = f"add below [ Identities ] a line: {_IDENTITY_FORM}"
            raise ConfigError(f"{self._source}: no identity", hint=hint)
        self._warn_of_destination(*self._settings["destination"])
        number, subject = self._settings.get("subject", (0, DEFAULT_SUBJECT))
        self._check(number, checks.subject_problem(subject), "subject: ")
        skew_ns = self._allow_skew_ns()
        number, default = self._settings.get("default_identity", (0, self._identities[0].key))
        self._check(number, checks.public_key_problem(default), "default_identity: ")
        if ("identity", default) not in self._lines:
            what = "default_identity: no identity has this key"
            raise self._error(number, what, "use the key of a line below [ Identities ]")
        lines = self._first_lines | {key: number for key, (number, _) in self._settings.items()}
        return Config(
            source=self._source,
            destination=self._settings["destination"][1],
            servers=tuple(self._servers),
            auth=Auth(kind="credentials", file=Path(self._settings["credentials"][1]), lenient=True),
            identities=tuple(self._identities),
            peers=tuple(self._peers),
            subject=subject,
            allow_skew_ns=skew_ns,
            default_identity=default,
            legacy=True,
            warnings=tuple(self._warnings),
            origins=MappingProxyType({key: self._place(number) for key, number in lines.items()}),
        )

    def _allow_skew_ns(self) -> int:
        number, text = self._settings.get("allow_skew", (0, "0"))
        try:
            skew = checks.read_duration(text)
        except ConfigError as error:
            raise self._error(number, f"allow_skew: {error}", error.hint) from None
        if skew < 0:
            self._warn(number, "allow_skew is negative, so every message is dropped", "use a value such as 5s")
        return skew or DEFAULT_SKEW_NS  # 0 means the default, as in the Go implementation

    def _check(self, number: int, problem: Problem | None, prefix: str = "") -> None:
        if problem is not None:
            raise self._error(number, prefix + problem.what, problem.hint)

    def _place(self, number: int) -> str:
        return f"{self._source}:{number}"

    def _error(self, number: int, what: str, hint: str) -> ConfigError:
        return ConfigError(f"{self._place(number)}: {what}", hint=self._hint(number, hint))

    def _warn(self, number: int, what: str, hint: str) -> None:
        self._warnings.append(Problem(what, self._hint(number, hint)).at(self._place(number)))

    def _hint(self, number: int, hint: str) -> str:
        deceptive = characters.describe(self._text[number - 1].partition("#")[0], line=number)
        return f"delete or replace {deceptive}" if deceptive else hint


def _quote(word: str) -> str:
    return f" {word!r}" if len(word) <= _LONGEST_QUOTE and word.replace("_", "").isalpha() else ""
