"""Logins of a NATS server in operator mode: operator, account and user JWTs, made without nsc.

An operator signs an account, the account signs a user; the server's configuration holds the JWTs of the first two, the
credentials file that of the user and its seed. These are NATS's JWTs: ed25519 with nkeys, claims under `nats`,
version 2.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from remaphore.protocol.keys import NatsKey

UNLIMITED = -1
_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}
_ACCOUNT_LIMITS = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")


def operator(key: NatsKey, *, name: str, now: int) -> str:
    """Return the operator's JWT, signed by itself. now: seconds since 1970."""
    return _sign(key, subject=key.public, name=name, nats={"type": "operator"}, now=now)


def account(key: NatsKey, *, name: str, by: NatsKey, now: int, revoked: Mapping[str, int] | None = None) -> str:
    """Return an account's JWT, signed by the operator. It has no JetStream: a stream could answer for a receiver.

    revoked: public keys of users, each with the second (since 1970) up to which its JWTs are void.
    """
    limits = {**dict.fromkeys(_ACCOUNT_LIMITS, UNLIMITED), "wildcards": True}
    nats: dict[str, Any] = {"type": "account", "limits": limits, "default_permissions": {"pub": {}, "sub": {}}}
    if revoked:
        nats["revocations"] = dict(revoked)
    return _sign(by, subject=key.public, name=name, nats=nats, now=now)


def user(
    key: NatsKey,
    *,
    name: str,
    by: NatsKey,
    now: int,
    publish: str,
    subscribe: str,
    payload: int = UNLIMITED,
    expires: int | None = None,
) -> str:
    """Return a user's JWT, signed by its account.

    publish, subscribe: the one pattern of subjects that it may use. payload: the largest size of a message in bytes.
    expires: the second (since 1970) in which the login expires.
    """
    nats = {
        "type": "user",
        "pub": {"allow": [publish]},
        "sub": {"allow": [subscribe]},
        "subs": UNLIMITED,
        "data": UNLIMITED,
        "payload": payload,
    }
    return _sign(by, subject=key.public, name=name, nats=nats, now=now, expires=expires)


def server_config(*, operator_jwt: str, accounts: Mapping[str, str]) -> str:
    """Return the part of a server's configuration that admits the users of *accounts*: JWTs by public key."""
    preload = "\n".join(f"  {public}: {token}" for public, token in accounts.items())
    return f"operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{\n{preload}\n}}\n"


def _sign(
    issuer: NatsKey, *, subject: str, name: str, nats: Mapping[str, Any], now: int, expires: int | None = None
) -> str:
    claims: dict[str, Any] = {"iat": now, "iss": issuer.public, "name": name, "sub": subject}
    claims["nats"] = {**nats, "version": 2}
    if expires is not None:
        claims["exp"] = expires
    claims["jti"] = base64.b32hexencode(hashlib.sha256(_compact(claims)).digest()).rstrip(b"=").decode()
    text = f"{_base64(_compact(_HEADER))}.{_base64(_compact(claims))}"
    return f"{text}.{issuer.sign_claims(text)}"


def _compact(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
