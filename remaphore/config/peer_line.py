"""The peer line: one line that introduces a node to another, for example pasted into a chat.

    remaphore-peer:1 com.example.us.left 3v96... c0ffee12

The format's name and version, the destination, the public key, and the first 8 hexadecimal digits of the SHA-256 of
everything before them (with single spaces), so that a line that was cut or changed by accident is detected. It is not a
secret, and not a proof: anyone who can change the chat can change the line. No error quotes any of it, as it may be a
private key.
"""

from __future__ import annotations

import hashlib
import re

from remaphore.config import characters, checks
from remaphore.config.settings import Problem
from remaphore.errors import KeyFormatError, UsageError
from remaphore.protocol import keys

_WORD = "remaphore-peer:"
_VERSION = "1"
_CHECK_DIGITS = 8
_FIELDS = 4

_HINT = "copy the whole line that `remaphore peer show` prints on that node"
_LEGACY = "(the Go implementation has none: use --compatibility legacy DESTINATION PUBLICKEY)"
# The seeds of NATS, for operators, accounts, users and servers.
_NATS_SEED = re.compile(r"S[A-Z][A-Z2-7]{56}")


def write(*, destination: str, key: str) -> str:
    """Return the peer line of the node with this *destination* and public *key*, without a newline."""
    words = f"{_WORD}{_VERSION} {destination} {key}"
    return f"{words} {_check(words)}"


def read_all(text: str, source: str, *, bare: bool = False) -> tuple[tuple[str, str], ...]:
    """Return destination and public key of each peer line in *text*; empty lines and comments (`#`) are skipped.

    source: its origin, for messages. bare: accept `DESTINATION PUBLICKEY` too, as the Go implementation has no peer
    lines. Raise UsageError, which quotes nothing of the text.
    """
    # Only a new line ends a line: with str.splitlines() a comment could hide a peer behind a character like U+2028.
    rows = [(number, row) for number, row in enumerate(text.split("\n"), 1) if row.strip() and row.strip()[0] != "#"]
    if not rows:
        raise UsageError(f"no peer line in {source}", hint=_HINT)
    found = []
    for number, row in rows:
        words = row.split()
        secret = next(filter(None, map(secret_problem, words)), None)
        problem = secret or _form_problem(words, bare=bare)
        if problem is None:
            destination, key = words[1:3] if words[0].startswith(_WORD) else words
            found.append((destination, key))
            problem = checks.destination_problem(destination) or checks.public_key_problem(key)
        if problem is not None:
            place = f"{source}, line {number}" if len(rows) > 1 else source
            deceptive = "" if problem is secret else characters.describe(row, line=number)
            raise UsageError(f"{place}: {problem.what}", hint=f"delete {deceptive}" if deceptive else problem.hint)
    return tuple(found)


def secret_problem(word: str) -> Problem | None:
    """Return the problem if *word*, given in place of something public, is a node's private key or a NATS seed."""
    if _NATS_SEED.fullmatch(word):
        hint = "revoke this login: anyone who has seen the seed can use it"
        return Problem("this is a secret NATS seed, not a public key", hint)
    try:
        keys.decode_exact(word.encode("ascii", "replace"), keys.PRIVATE_KEY_BYTES)
    except KeyFormatError:
        return None
    hint = "create a new key with remaphore keygen FILE on its own node; a private key must never leave it"
    return Problem("this is a private key", hint)


def _form_problem(words: list[str], *, bare: bool) -> Problem | None:
    if not words[0].startswith(_WORD):
        if not bare:
            return Problem(f"not a peer line, which begins with {_WORD}{_VERSION}", f"{_HINT} {_LEGACY}")
        return (
            None
            if len(words) == 2
            else Problem("neither a peer line nor DESTINATION PUBLICKEY", "write one of the two")
        )
    if words[0] != f"{_WORD}{_VERSION}":
        what = f"the version of the peer line is not the one that this remaphore reads, {_WORD}{_VERSION}"
        return Problem(what, "update the older of the two nodes")
    if len(words) != _FIELDS:
        return Problem(f"the peer line has {len(words)} words instead of {_FIELDS}: it was cut or joined", _HINT)
    if words[-1] != _check(" ".join(words[:-1])):
        return Problem("the peer line does not match its checksum: it was cut or changed", _HINT)
    return None


def _check(words: str) -> str:
    return hashlib.sha256(words.encode(errors="surrogatepass")).hexdigest()[:_CHECK_DIGITS]
