"""The peer line: what people paste into a chat so that one node knows another.

    remaphore-peer:1 com.example.us.left 3v96... c0ffee12

A word with the format's version, the destination, the public key, and the first 8 hexadecimal digits of the SHA-256 of
all that precedes them (with single spaces): a line that was cut or mangled is told from a whole one. It is no secret,
and no proof: who may change the chat may change the line. No error quotes any of it, as it may be a private key.
"""

from __future__ import annotations

import hashlib
import re

from remaphore.config import checks
from remaphore.errors import KeyFormatError, UsageError
from remaphore.protocol import keys

_WORD = "remaphore-peer:"
_VERSION = "1"
_CHECK_DIGITS = 8
_FIELDS = 4

_HOW = "copy all of the line that `remaphore peer show` prints on that node"
_LEGACY = "(one that runs the Go implementation has none: --compatibility legacy DESTINATION PUBLICKEY)"
# The seeds of NATS, for operators, accounts, users and servers.
_NATS_SEED = re.compile(r"S[A-Z][A-Z2-7]{56}")


def write(*, destination: str, key: str) -> str:
    """Return the peer line of the node with this *destination* and public *key*, without a newline."""
    words = f"{_WORD}{_VERSION} {destination} {key}"
    return f"{words} {_check(words)}"


def read_all(text: str, source: str, *, bare: bool = False) -> tuple[tuple[str, str], ...]:
    """Return destination and public key of each peer line in *text*; empty lines and comments (`#`) may be between.

    *source* says where it comes from, for messages. *bare*: `DESTINATION PUBLICKEY` will do, as the original has no
    peer lines. Raises UsageError, which quotes nothing of the text.
    """
    rows = [(number, row) for number, row in enumerate(text.splitlines(), 1) if row.strip() and row.strip()[0] != "#"]
    if not rows:
        raise UsageError(f"no peer line in {source}; {_HOW}")
    found = []
    for number, row in rows:
        problem = _problem(row.split(), bare=bare)
        if problem is not None:
            raise UsageError(f"{source}{f', line {number}' if len(rows) > 1 else ''}: {problem}")
        found.append(_fields(row.split()))
    return tuple(found)


def secret_problem(word: str) -> str | None:
    """Tell whether *word*, which was given for something public, is the private key of a node or a seed of NATS."""
    if _NATS_SEED.fullmatch(word):
        return "this is a secret seed of NATS and no public key; whoever has seen it can log in with it, so replace it"
    try:
        keys.decode_exact(word.encode("ascii", "replace"), keys.PRIVATE_KEY_BYTES)
    except KeyFormatError:
        return None
    return "this is a private key, which must never leave its node; make a new one there: remaphore keygen FILE"


def _problem(words: list[str], *, bare: bool) -> str | None:
    for word in words:
        problem = secret_problem(word)
        if problem is not None:
            return problem
    return _form_problem(words, bare=bare) or _value_problem(*_fields(words))


def _form_problem(words: list[str], *, bare: bool) -> str | None:
    if bare and not words[0].startswith(_WORD):
        return None if len(words) == 2 else "neither a peer line nor DESTINATION PUBLICKEY; write one of the two"
    if not words[0].startswith(_WORD):
        return f"no peer line, which begins with {_WORD}{_VERSION}; {_HOW} {_LEGACY}"
    if words[0] != f"{_WORD}{_VERSION}":
        return f"a peer line of another version, this remaphore reads {_WORD}{_VERSION}; update the older of the two"
    if len(words) != _FIELDS:
        return f"the peer line has {len(words)} words instead of {_FIELDS}, so it was cut or joined; {_HOW}"
    if words[-1] != _check(" ".join(words[:-1])):
        return f"the peer line does not fit its check, so it was cut or changed; {_HOW}"
    return None


def _value_problem(destination: str, key: str) -> str | None:
    return checks.destination_problem(destination) or checks.public_key_problem(key)


def _fields(words: list[str]) -> tuple[str, str]:
    destination, key = words[1:3] if words[0].startswith(_WORD) else words[:2]
    return destination, key


def _check(words: str) -> str:
    return hashlib.sha256(words.encode(errors="surrogatepass")).hexdigest()[:_CHECK_DIGITS]
