"""How this node shows the broker who it is: the file of the login, and what its JWT says."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from remaphore.config.settings import Config
from remaphore.diagnostics.files import ending
from remaphore.diagnostics.findings import Code, Finding, Level, from_error
from remaphore.errors import ConfigError
from remaphore.protocol import duration
from remaphore.protocol.keys import nats_user
from remaphore.transport import credentials, tls

_NEW_ONE = "get new credentials from the broker's administrator"


def check_login(config: Config, *, now: int) -> Iterator[Finding]:
    """Read the login as a connection does, and judge it. now: Unix nanoseconds."""
    auth = config.auth
    if auth.file is None:
        what = "the broker is used without a login, so whoever reaches it can read messages and withhold them"
        hint = 'give the broker logins, and write credentials = "FILE" instead of auth = "none"'
        yield Finding(Level.NOTE, Code.LOGIN_NONE, config.source, what, hint)
        return
    odd: list[str] = []
    try:
        login = credentials.login(auth, warn=odd.append)
    except ConfigError as error:
        yield from_error(Code.LOGIN_UNUSABLE, str(auth.file), error)
        return
    for line in odd:
        yield from_error(Code.LOGIN_EXPOSED, str(auth.file), ConfigError(line), level=Level.WARNING)
    if auth.kind == "credentials":
        yield from _check_claims(str(auth.file), login["user_credentials"], now=now)
    if auth.kind in ("password", "token"):
        yield from _check_clear_text(config)
    yield Finding(Level.OK, Code.LOGIN_OK, str(auth.file), f"a login by {auth.kind}")


def _check_claims(where: str, text: str, *, now: int) -> Iterator[Finding]:
    lines = text.splitlines()
    claims = _claims(lines[1])
    hint = f"{_NEW_ONE} and write them to {where}"
    if claims is None:
        yield Finding(Level.ERROR, Code.LOGIN_GARBLED, where, "its JWT cannot be read", hint)
        return
    if claims.get("sub") != nats_user(lines[5]):
        yield Finding(Level.ERROR, Code.LOGIN_MISMATCH, where, "its JWT is of another user than its seed", hint)
    expires, begins = claims.get("exp"), claims.get("nbf")
    if isinstance(expires, int):
        yield from ending(
            (Code.LOGIN_EXPIRED, Code.LOGIN_EXPIRES_SOON), where, "the login", expires, now=now, hint=hint
        )
    if isinstance(begins, int) and begins > now // duration.SECOND:
        what = f"the login is not valid before the Unix time {begins}"
        yield Finding(Level.ERROR, Code.LOGIN_TOO_EARLY, where, what, "wait, or set this machine's clock")


def _claims(token: str) -> Mapping[str, Any] | None:
    body = token.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def _check_clear_text(config: Config) -> Iterator[Finding]:
    for server in () if tls.wanted(config.tls) else config.servers:
        parts = urlsplit(server)
        if parts.scheme != "tls" and not _is_loopback(parts.hostname or ""):
            what = f"the {config.auth.kind} may go over the network in clear text"
            yield Finding(
                Level.WARNING, Code.LOGIN_CLEAR_TEXT, server, what, f"write tls:// in servers of {config.source}"
            )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
