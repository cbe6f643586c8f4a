"""The certificate of a broker, checked before its server starts: the nodes would report only that TLS has failed.

The check is a TLS handshake in memory, in which the certificate is presented to ourselves. So it is judged by what
judges it later, OpenSSL, and no parser of certificates is needed.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from remaphore import trust
from remaphore.config.secrets import read_file, read_secret
from remaphore.errors import ConfigError
from remaphore.transport.servers import reason

_FLIGHTS = 6  # of a handshake, at most: more would mean that it does not end
_OUT_OF_TIME = {9: "not valid yet", 10: "expired"}  # X509_V_ERR_CERT_NOT_YET_VALID and _HAS_EXPIRED
_PURPOSE = 26  # X509_V_ERR_INVALID_PURPOSE


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """A server's certificate, with the intermediate ones after it, its private key, and the CAs of its cluster."""

    cert: Path
    key: Path
    ca: Path | None = None


class Certificate(NamedTuple):
    """What a server's certificate contains. names: host names and IP addresses; expires: Unix time, in seconds."""

    names: tuple[str, ...]
    expires: float


def check(tls: TlsFiles, *, routes: bool) -> Certificate:
    """Return what the certificate contains. Raise ConfigError if a file cannot be used.

    routes: the servers of the cluster will use the certificate with each other, in both roles.
    """
    read_file(tls.cert, what="--tls-cert")
    encrypted = "ENCRYPTED" in read_secret(tls.key, what="--tls-key")
    if tls.ca is not None:
        _, info = read_file(tls.ca, what="--tls-ca")
        _check_trust(tls.ca, info)
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=_usable(tls.cert))
    theirs.check_hostname = False  # which of its names a node uses is not known here
    if tls.ca is None:
        theirs.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate itself is trusted
    else:
        theirs = ssl.create_default_context(cafile=_usable(tls.ca))
        theirs.check_hostname = False
    for context in (ours, theirs) if routes else (ours,):
        _load(context, tls, encrypted=encrypted)
    if routes:
        ours.verify_mode = ssl.CERT_REQUIRED
        ours.load_verify_locations(tls.ca)
    contents = _handshake(ours, theirs, tls).getpeercert() or {}
    return Certificate(_names(contents, tls, routes=routes), ssl.cert_time_to_seconds(str(contents["notAfter"])))


def check_name(host: str, names: Sequence[str], tls: TlsFiles) -> None:
    """Raise ConfigError if the certificate, which is for *names*, is not for *host*; `*.b` is for `a.b` (RFC 6125)."""
    if not {host.lower(), f"*.{host.lower().partition('.')[2]}"} & {name.lower() for name in names}:
        hint = "listen on an IP address or *, and let nodes use a name of the certificate; or request one for this name"
        raise ConfigError(f"{tls.cert}: the certificate is for {', '.join(names)}, not for {host}", hint=hint)


def _check_trust(path: Path, info: os.stat_result) -> None:
    """Raise ConfigError if another user can change the file of CAs, which decides who joins the cluster."""
    try:
        trust.check_owner(str(path), info, user=os.geteuid())
        trust.check_writers(str(path), info)
    except trust.UnsafeError as error:
        raise ConfigError(f"{path}: --tls-ca: {error.reason}", hint=error.hint) from None


def _usable(path: Path) -> Path:
    """Return *path* if it contains certificates. Raise ConfigError."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:
        hint = f"name a file of certificates in PEM format; look at it: openssl x509 -in {shlex.quote(str(path))} -text"
        raise ConfigError(f"{path}: not a certificate: {reason(error).lower()}", hint=hint) from None
    return path


def _load(context: ssl.SSLContext, tls: TlsFiles, *, encrypted: bool) -> None:
    try:
        context.load_cert_chain(tls.cert, tls.key, password="")  # empty: OpenSSL would ask for one on the terminal
    except OSError as error:
        why = reason(error)
        key = shlex.quote(str(tls.key))
        if why == "KEY_VALUES_MISMATCH":
            text, hint = f"not the private key of {tls.cert}", "name the two files that were made together"
        elif encrypted:
            text, hint = "encrypted with a passphrase", f"decrypt it: openssl pkey -in {key} -out NEW (mode 0600)"
        else:
            text = f"cannot be used with {tls.cert}: {why.lower()}"
            hint = f"name an unencrypted private key in PEM format; look at it: openssl pkey -in {key} -noout"
        raise ConfigError(f"{tls.key}: {text}", hint=hint) from None


def _handshake(ours: ssl.SSLContext, theirs: ssl.SSLContext, tls: TlsFiles) -> ssl.SSLObject:
    """Return the client's side of a finished handshake. Raise ConfigError if a side rejects the certificate."""
    to_us, to_them = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = ours.wrap_bio(to_us, to_them, server_side=True)
    client = theirs.wrap_bio(to_them, to_us)
    try:
        for _ in range(_FLIGHTS):
            role = "a server"
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
            role = "a client, which a server is for the other servers of its cluster"
            with contextlib.suppress(ssl.SSLWantReadError):
                server.do_handshake()
    except ssl.SSLCertVerificationError as error:
        name = shlex.quote(str(tls.cert))
        if error.verify_code in _OUT_OF_TIME:
            text = _OUT_OF_TIME[error.verify_code]
            hint = f"renew it, and check the clock of this machine; look at it: openssl x509 -in {name} -noout -dates"
        elif error.verify_code == _PURPOSE:
            text = f"not a certificate for {role}"
            hint = "request one with extendedKeyUsage = serverAuth, clientAuth"
        else:
            text = f"rejected ({error.verify_message})"
            hint = f"append the intermediate certificates to {name}, or name the CA that has signed it"
        raise ConfigError(f"{tls.cert}: {text}", hint=hint) from None
    except ssl.SSLError as error:
        hint = "request a new certificate and key"
        raise ConfigError(f"{tls.cert}: cannot be used for TLS: {reason(error).lower()}", hint=hint) from None
    return client


def _names(contents: Mapping[str, Any], tls: TlsFiles, *, routes: bool) -> tuple[str, ...]:
    found = [(str(kind), str(value)) for kind, value in contents.get("subjectAltName", ())]
    names = tuple(value for kind, value in found if kind == "DNS" or (kind == "IP Address" and not routes))
    if not names:
        what = "no name of a server" if routes else "neither a name nor an address of a server"
        hint = "request one with subjectAltName = DNS:NAME, the NAME in tls://NAME:PORT (a CN alone does not count)"
        raise ConfigError(f"{tls.cert}: the certificate has {what}", hint=hint)
    return names
