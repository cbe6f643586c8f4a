"""What both formats ask of a value: each function returns what is wrong with it and what mends that, or None.

The values themselves are never quoted: an address may hold a password, and what stands where a public key should may
be a private one. The caller says where the value stands.
"""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from remaphore.errors import KeyFormatError
from remaphore.protocol import duration, keys, subject

_SCHEMES = ("nats", "tls")
_LONGEST_PUBLIC_KEY = 44  # characters of base58; a private key has 86 to 88
_LONGEST_DURATION = 32  # more than Go itself writes, less than half a private key


def server_problem(url: str) -> str | None:
    """Tell what keeps *url* from being the address of a NATS server: `nats://HOST[:PORT]` or `tls://HOST[:PORT]`."""
    if not url.isprintable() or " " in url:
        return "the address holds white space or a control character; write nats://HOST:PORT"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "bad host or port; write nats://HOST:PORT, an IPv6 host in brackets, the port from 1 to 65535"
    if parts.scheme not in _SCHEMES:
        return "the address begins with neither nats:// nor tls://; write nats://HOST:PORT"
    if not parts.hostname:
        return "the host is missing; write nats://HOST:PORT"
    if port == 0 or parts.netloc.endswith(":"):
        return "bad port; write a number from 1 to 65535, or leave it out for 4222"
    return _surplus(parts)


def _surplus(parts: SplitResult) -> str | None:
    if "@" in parts.netloc:
        return "a user or password stands in the address; take it out and put it under [auth]"
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return "something follows the port; write nats://HOST:PORT"
    return None


def destination_problem(text: str) -> str | None:
    """Tell what keeps *text* from being a node's name: one that patterns can match and one line of output can show."""
    if "*" in text:
        return "a destination holds no *, that is for patterns; write a name such as com.crypto.us.left"
    if "," in text:
        return "a destination holds no comma; write one name such as com.crypto.us.left"
    if not text.isprintable() or " " in text:
        return "a destination holds no white space or control character; write a name such as com.crypto.us.left"
    return None


def subject_problem(text: str) -> str | None:
    """Tell what keeps *text* from being the root of our NATS subjects."""
    problem = subject.problem(text)
    return problem and f"not a NATS subject: {problem}; write words joined by dots, such as remaphore"


def public_key_problem(text: str) -> str | None:
    """Tell what keeps *text* from being the base58 text of a public key."""
    if len(text) > _LONGEST_PUBLIC_KEY:
        return "too long for a public key (is it a private one?); write the 32 bytes of the public key in base58"
    try:
        keys.decode_exact(text.encode("ascii", "replace"), keys.PUBLIC_KEY_BYTES)
    except KeyFormatError as error:
        return f"bad public key: {error}; copy all of its 32 bytes in base58"
    return None


def private_key(text: str, *, public: str) -> keys.PrivateKey:
    """Return the private key of *public*. Raises KeyFormatError, which never quotes it, if *text* is none or another's.

    The words of the error tell what mends it, too.
    """
    try:
        key = keys.PrivateKey.from_text(text)
    except KeyFormatError as error:
        raise KeyFormatError(f"{error}; copy all of its 64 bytes, seed and public key, in base58") from None
    if key.public != public:
        raise KeyFormatError(f"the private key belongs to {key.public}, not to this identity; put the two together")
    return key


def read_duration(text: str) -> int:
    """Return the nanoseconds of *text*, in Go's notation. Raises ValueError, whose words tell what mends it."""
    if len(text) > _LONGEST_DURATION:
        raise ValueError("too long for a duration; write for example 5s")
    try:
        return duration.parse(text)
    except ValueError as error:
        raise ValueError(f"{error}; durations look like 5s or 1h30m") from None
