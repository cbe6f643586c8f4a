"""How this node authenticates to the broker: the file with its credentials, and the claims of its JWT."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from remaphore.config.settings import Config, Problem
from remaphore.diagnostics.files import check_expiry, format_time
from remaphore.diagnostics.findings import Code, Finding, Level, from_error
from remaphore.errors import ConfigError
from remaphore.protocol import duration
from remaphore.protocol.keys import nats_user
from remaphore.transport import credentials, tls

_LATEST = 2**63  # Unix seconds: nats-server reads a time as an int64


def check_credentials(config: Config, *, now: int) -> Iterator[Finding]:
    """Read the credentials as a connection does, and yield the problems found. now: Unix nanoseconds."""
    auth = config.auth
    if auth.file is None:
        what = "no broker credentials: anyone who can reach the broker can read and withhold messages"
        hint = 'create logins on the broker, and write credentials = "FILE" instead of auth = "none"'
        yield Finding(Level.NOTE, Code.CREDENTIALS_NONE, config.source, what, hint)
        return
    warnings: list[Problem] = []
    try:
        login = credentials.login(auth, warn=warnings.append)
    except ConfigError as error:
        yield from_error(Code.CREDENTIALS_UNUSABLE, str(auth.file), error)
        return
    for warning in warnings:
        exposed = ConfigError(warning.what, hint=warning.hint)
        yield from_error(Code.CREDENTIALS_EXPOSED, str(auth.file), exposed, level=Level.WARNING)
    if auth.kind == "credentials":
        yield from check_jwt(str(auth.file), login["user_credentials"], now=now)
    if auth.kind in ("password", "token") and not tls.wanted(config.tls):
        for server in config.servers:
            parts = urlsplit(server)
            if parts.scheme != "tls" and not is_loopback(parts.hostname or ""):
                what = f"{auth.kind} may be sent in clear text"
                hint = f"write tls:// in servers of {config.source}"
                yield Finding(Level.WARNING, Code.CREDENTIALS_CLEAR_TEXT, server, what, hint)
    yield Finding(Level.OK, Code.CREDENTIALS_OK, str(auth.file), f"authenticates by {auth.kind}")


def check_jwt(where: str, text: str, *, now: int) -> Iterator[Finding]:
    """Yield the problems of the JWT of the creds file *text*, in the form that `transport.credentials` returns."""
    lines = text.splitlines()
    claims = decode_claims(lines[1])
    hint = f"get new credentials from the broker's administrator and write them to {where}"
    if claims is None:
        yield Finding(Level.ERROR, Code.CREDENTIALS_MALFORMED, where, "JWT cannot be decoded", hint)
        return
    if claims.get("sub") != nats_user(lines[5]):
        what = "JWT and seed belong to different users"
        yield Finding(Level.ERROR, Code.CREDENTIALS_MISMATCH, where, what, hint)
    codes = Code.CREDENTIALS_EXPIRED, Code.CREDENTIALS_EXPIRE_SOON
    for name in ("exp", "nbf"):
        seconds = 0 if claims.get(name) is None else claims[name]
        if type(seconds) is not int or not 0 <= seconds < _LATEST:
            what = f"the claim {name} of the JWT is not a time that the broker reads"
            yield Finding(Level.WARNING, Code.CREDENTIALS_MALFORMED, where, what, hint)
        elif name == "exp" and seconds:  # 0 means never, for nats-server
            yield from check_expiry(codes, where, "login", seconds, now=now, hint=hint)
        elif seconds > now // duration.SECOND:
            what = f"login is not valid before {format_time(seconds)}"
            fix = "wait, or set this machine's clock"
            yield Finding(Level.ERROR, Code.CREDENTIALS_NOT_YET_VALID, where, what, fix)


def decode_claims(token: str) -> Mapping[str, Any] | None:
    """Return the claims of the JWT *token*, unverified: the broker verifies them. None if it has none."""
    body = token.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def is_loopback(host: str) -> bool:
    """Return whether *host*, a name or an address, is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
