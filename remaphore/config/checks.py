"""Checks that both formats make of a value: each returns the problem and its fix, or None.

No value is quoted: an address may contain a password, and a private key may be in the place of a public one. The caller
adds the place, a file with a line or a key path.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from remaphore.config import characters
from remaphore.config.settings import Problem
from remaphore.errors import ConfigError, DurationError, KeyFormatError
from remaphore.protocol import duration, keys, subject
from remaphore.protocol.match import ALL
from remaphore.text import describe_character

_SCHEMES = ("nats", "tls")
_LONGEST_PUBLIC_KEY = 44  # characters of base58; a private key has 86 to 88
_LONGEST_DURATION = 32  # more than Go itself writes, less than half a private key

_WRITE_ADDRESS = "write nats://HOST:PORT"
_WRITE_PATTERN = "use a pattern such as com.example.web.* or com.example.**"
_WRITE_NAME = "use a name such as com.example.us.left"


def server_problem(url: str) -> Problem | None:
    """Return why *url* is not the address of a NATS server, `nats://HOST[:PORT]` or `tls://HOST[:PORT]`, or None."""
    if url.count("://") > 1 or "," in url:
        return Problem("several addresses in one string", 'write each as a string of its own: ["nats://A", "nats://B"]')
    problem = _character_problem(url, "the address")
    if problem is not None:
        return problem
    if "%25" in url:
        return Problem("the zone of the IPv6 address is escaped", "write % instead of %25, as in [fe80::1%eth0]")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        hint = f"{_WRITE_ADDRESS}, an IPv6 host in brackets, a port from 1 to 65535"
        return Problem("invalid host or port in the address", hint)
    bad_port = port == 0 or parts.netloc.endswith(":")
    surplus = parts.path not in ("", "/") or parts.query or parts.fragment
    found = (
        (parts.scheme not in _SCHEMES, "the address begins with neither nats:// nor tls://", _WRITE_ADDRESS),
        (not parts.hostname, "the address has no host", _WRITE_ADDRESS),
        (bad_port, "invalid port in the address", "use a number from 1 to 65535, or omit it for 4222"),
        ("@" in parts.netloc, "the address contains a user or password", "remove it from the address and use [auth]"),
        (surplus, "the address continues after the port", _WRITE_ADDRESS),
    )
    return next((Problem(what, hint) for wrong, what, hint in found if wrong), None)


def destination_problem(text: str) -> Problem | None:
    """Return why *text* cannot be a node's name, or None: patterns must match it, and one line of output show it."""
    if "*" in text:
        return Problem("a destination cannot contain *; only patterns can", _WRITE_NAME)
    if "," in text:
        return Problem("a destination cannot contain a comma", _WRITE_NAME)
    return _character_problem(text, "a destination", _WRITE_NAME)


def pattern_problem(text: str) -> Problem | None:
    """Return why *text* cannot be a pattern of destinations that a rule permits, or None."""
    if "," in text:
        return Problem("a pattern cannot contain a comma", 'write ["com.example.a", "com.example.b"]')
    for number, part in enumerate(parts := text.split("."), start=1):
        if part.count("*") > 1 and not (part == ALL and number == len(parts)):
            hint = "use one * in a part, or ** alone as the last part, such as com.example.**"
            return Problem("it matches no destination: ** or several * in one part", hint)
    return _character_problem(text, "a pattern", _WRITE_PATTERN)


def verb_problem(text: str) -> Problem | None:
    """Return why *text* cannot be a verb in a list of permitted verbs, or None."""
    if "," in text:
        return Problem("a verb cannot contain a comma", 'write ["ping", "deploy"]')
    return _character_problem(text, "a verb", inner_spaces=True)  # as the Go implementation permits


def _character_problem(text: str, what: str, hint: str = "", *, inner_spaces: bool = False) -> Problem | None:
    """Return the problem if *text* contains white space, or a character that is invisible or resembles another."""
    found = characters.find(text)
    if found is None and " " in text and not inner_spaces:
        found = text.index(" ")
    if found is None:
        return None
    name = describe_character(text[found])
    return Problem(f"{what} cannot contain {name}, its character {found + 1}", hint or f"delete or replace {name}")


def subject_problem(text: str) -> Problem | None:
    """Return why *text* cannot be the root of our NATS subjects, or None."""
    problem = subject.problem(text)
    return Problem(f"not a NATS subject: {problem}", "use words joined by dots, such as remaphore") if problem else None


def public_key_problem(text: str) -> Problem | None:
    """Return why *text* is not the base58 text of a public key, or None."""
    if len(text) > _LONGEST_PUBLIC_KEY:
        what = "too long for a public key (is it a private key?)"
        return Problem(what, "use the 32 bytes of the public key in base58")
    try:
        keys.decode_public(text)
    except KeyFormatError as error:
        return Problem(f"invalid public key: {error}", "copy all 32 bytes of the public key in base58")
    return None


def private_key(text: str, *, public: str) -> keys.PrivateKey:
    """Return the private key of *public*.

    Raise KeyFormatError, which never quotes *text*, if it is not a private key, or that of another public key.
    """
    try:
        key = keys.PrivateKey.from_text(text)
    except KeyFormatError as error:
        raise KeyFormatError(str(error), hint="copy all 64 bytes, seed and public key, in base58") from None
    if key.public != public:
        hint = "pair each public key with its own private key"
        raise KeyFormatError(f"the private key belongs to {key.public}, not to this identity", hint=hint)
    return key


def read_duration(text: str) -> int:
    """Return the nanoseconds of *text*, in Go's notation. Raise ConfigError, without a place."""
    if len(text) > _LONGEST_DURATION:
        raise ConfigError("too long for a duration", hint=DurationError.default_hint)
    try:
        return duration.parse(text)
    except DurationError as error:
        raise ConfigError(str(error), hint=error.hint) from None
