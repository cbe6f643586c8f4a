"""The login that this node presents to the broker. Its file is read for every attempt: a renewed one needs no restart.

nats-py reads a credentials file without checking it: CRLF, indentation or a missing final newline corrupt the seed,
and a file without a JWT makes it loop forever (nats.py pull request 1020). So it is given a text composed here, never a
path. No message quotes a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from remaphore.config import characters
from remaphore.config.secrets import read_secret
from remaphore.config.settings import Auth, Problem
from remaphore.errors import ConfigError
from remaphore.protocol.keys import is_nats_seed

_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_WHAT = {"credentials": "credentials", "nkey": "nkey seed", "password": "password", "token": "token"}
_NEW_FILE = "get a new credentials file from the broker's administrator"
_FORM = """\
-----BEGIN NATS USER JWT-----
{jwt}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""


def form(jwt: str, seed: str) -> str:
    """Return the text of a credentials file."""
    return _FORM.format(jwt=jwt, seed=seed)


def parse(text: str, source: str) -> str:
    """Return the credentials file *text* in the one form that nats-py reads. Raise ConfigError, which names *source*.

    JWT and seed are the first lines that are not empty after their markers, without white space at both ends.
    """
    lines = [line.strip() for line in text.splitlines()]
    found = []
    for marker in ("BEGIN NATS USER JWT", "BEGIN USER NKEY SEED"):
        start = next((number for number, line in enumerate(lines) if marker in line), None)
        if start is None:
            raise ConfigError(f"{source}: not a credentials file: no line {marker}", hint=_NEW_FILE)
        found.append(next((line for line in lines[start + 1 :] if line), ""))
    jwt, seed = found
    if not _JWT.fullmatch(jwt):
        raise ConfigError(f"{source}: not a JWT after the line BEGIN NATS USER JWT", hint=_NEW_FILE)
    return form(jwt, _seed(seed, source))


def _seed(text: str, source: str) -> str:
    if not is_nats_seed(text):
        what = f"{source}: not the seed of a NATS user (one line that begins with SU)"
        raise ConfigError(what, hint="copy the whole file again")
    return text


def login(auth: Auth, *, warn: Callable[[Problem], None]) -> Mapping[str, str]:
    """Read the file that *auth* names; return the login under the names of nats-py's options.

    warn: called with the problem if others can read the file, and the configuration is a legacy one. Raise ConfigError.
    """
    if auth.kind == "none" or auth.file is None:
        return {}
    text = read_secret(auth.file, what=_WHAT[auth.kind], lenient=auth.lenient, warn=warn)
    try:
        if auth.kind == "credentials":
            return {"user_credentials": parse(text, str(auth.file))}
        if auth.kind == "nkey":
            return {"nkeys_seed_str": _seed(text, str(auth.file))}
    except ConfigError as error:
        deceptive = characters.describe(text)
        raise ConfigError(str(error), hint=f"delete {deceptive}" if deceptive else error.hint) from None
    return {"token": text} if auth.kind == "token" else {"user": auth.user, "password": text}


def source(auth: Auth) -> str:
    """Return where the login comes from, for messages: its file, or the setting."""
    return str(auth.file) if auth.file else 'auth = "none"'
