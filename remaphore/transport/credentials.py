"""What we show the broker: files read anew for every attempt, so that renewed ones are used without a restart.

nats-py reads a creds file without looking: CRLF, indentation or a missing final newline spoil the seed, and a file
without a JWT makes it loop for ever (nats.py pull request 1020). So it gets a text made here, never a path. No message
quotes a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from remaphore.config.secrets import read_secret
from remaphore.config.settings import Auth, Problem
from remaphore.errors import ConfigError
from remaphore.protocol.keys import is_nats_seed

_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_WHAT = {"credentials": "credentials", "nkey": "nkey seed", "password": "password", "token": "token"}
_FORM = """\
-----BEGIN NATS USER JWT-----
{jwt}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""


def form(jwt: str, seed: str) -> str:
    """Return the text of a creds file."""
    return _FORM.format(jwt=jwt, seed=seed)


def parse(text: str, source: str) -> str:
    """Return the creds file *text* in the one form that nats-py reads. Raises ConfigError, which names *source*."""
    lines = [line.strip() for line in text.splitlines()]
    jwt = _after(lines, "BEGIN NATS USER JWT", source)
    seed = _after(lines, "BEGIN USER NKEY SEED", source)
    if not _JWT.fullmatch(jwt):
        raise ConfigError(f"{source}: what follows BEGIN NATS USER JWT is no JWT; get one from the broker")
    return form(jwt, _seed(seed, source))


def _after(lines: list[str], marker: str, source: str) -> str:
    start = next((number for number, line in enumerate(lines) if marker in line), None)
    if start is None:
        raise ConfigError(f"{source}: no creds file, it has no line {marker}; get one from the broker")
    return next((line for line in lines[start + 1 :] if line), "")


def _seed(text: str, source: str) -> str:
    if not is_nats_seed(text):
        raise ConfigError(f"{source}: not the seed of a NATS user (one line that begins with SU); copy the file again")
    return text


def login(auth: Auth, *, warn: Callable[[Problem], None]) -> Mapping[str, str]:
    """Read what *auth* names; return it under the names of nats-py's options.

    warn: called with a problem of the file that is only a warning in a legacy .conf. Raises ConfigError.
    """
    if auth.kind == "none" or auth.file is None:
        return {}
    text = read_secret(auth.file, what=_WHAT[auth.kind], lenient=auth.lenient, warn=warn)
    if auth.kind == "credentials":
        return {"user_credentials": parse(text, str(auth.file))}
    if auth.kind == "nkey":
        return {"nkeys_seed_str": _seed(text, str(auth.file))}
    return {"token": text} if auth.kind == "token" else {"user": auth.user, "password": text}


def source(auth: Auth) -> str:
    """Return what decides the login, for error messages."""
    return str(auth.file) if auth.file else 'auth = "none"'
