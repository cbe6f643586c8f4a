"""Logins of a NATS server in operator mode: operator, account and user JWTs, made without nsc.

An operator signs an account, the account signs a user; the server's configuration holds the JWTs of the first two, the
credentials file that of the user and its seed. These are NATS's JWTs: ed25519 with nkeys, claims under `nats`,
version 2.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from remaphore.protocol.keys import NatsKey

UNLIMITED = -1
_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}
_ACCOUNT_LIMITS = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")
_JETSTREAM_LIMITS = ("mem_storage", "disk_storage", "streams", "consumer")  # without these, an account has no JetStream


def operator(key: NatsKey, *, name: str, now: int, system_account: str = "") -> str:
    """Return the operator's JWT, signed by itself. now: seconds since 1970.

    system_account: the public key of an account in which no node is. A server with JetStream does not start without.
    """
    nats = {"type": "operator", **({"system_account": system_account} if system_account else {})}
    return _sign(key, subject=key.public, name=name, nats=nats, now=now)


def account(
    key: str,
    *,
    name: str,
    by: NatsKey,
    now: int,
    jetstream: bool = False,
    revoked: Mapping[str, int] | None = None,
) -> str:
    """Return the JWT of the account with the public key *key*, signed by the operator.

    jetstream: whether it may have streams. revoked: public keys of users, each with the second (since 1970) up to which
    its JWTs are void.
    """
    names = (*_ACCOUNT_LIMITS, *(_JETSTREAM_LIMITS if jetstream else ()))
    limits = {**dict.fromkeys(names, UNLIMITED), "wildcards": True}
    nats: dict[str, Any] = {"type": "account", "limits": limits, "default_permissions": {"pub": {}, "sub": {}}}
    if revoked:
        nats["revocations"] = dict(revoked)
    return _sign(by, subject=key, name=name, nats=nats, now=now)


def user(
    key: NatsKey,
    *,
    name: str,
    by: NatsKey,
    now: int,
    publish: Sequence[str],
    subscribe: Sequence[str],
    publish_denied: Sequence[str] = (),
    payload: int = UNLIMITED,
    expires: int | None = None,
) -> str:
    """Return a user's JWT, signed by its account.

    publish, subscribe: the patterns of subjects that it may use; publish_denied: those that are excepted. payload: the
    largest size of a message in bytes. expires: the second (since 1970) in which the login expires.
    """
    nats = {
        "type": "user",
        "pub": {"allow": [*publish], **({"deny": [*publish_denied]} if publish_denied else {})},
        "sub": {"allow": [*subscribe]},
        "subs": UNLIMITED,
        "data": UNLIMITED,
        "payload": payload,
    }
    return _sign(by, subject=key.public, name=name, nats=nats, now=now, expires=expires)


def server_config(*, operator_jwt: str, accounts: Mapping[str, str]) -> str:
    """Return the part of a server's configuration that admits the users of *accounts*: JWTs by public key.

    The system account is among them.
    """
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
