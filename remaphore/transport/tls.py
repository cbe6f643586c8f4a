"""The TLS context of a connection: always our own, and always verifying."""

from __future__ import annotations

import ssl

from remaphore.config.secrets import read_secret
from remaphore.config.settings import Tls
from remaphore.errors import ConfigError
from remaphore.transport.servers import reason


def wanted(tls: Tls) -> bool:
    """Return whether the configuration has a table `tls` with a setting; every connection then requires TLS."""
    return any((tls.ca_file, tls.cert_file, tls.key_file, tls.handshake_first))


def context(tls: Tls) -> ssl.SSLContext:
    """Return a context that checks certificate and host name against `ca_file`, or against the system's CAs.

    Raise ConfigError if a file cannot be used; its message names the files.
    """
    try:
        made = ssl.create_default_context(cafile=tls.ca_file)
    except OSError as error:  # ssl.SSLError is one
        text = f"tls.ca_file {tls.ca_file} cannot be used: {reason(error).lower()}"
        raise ConfigError(text, hint="name a readable file of CA certificates in PEM format") from None
    if tls.cert_file:
        read_secret(tls.key_file or tls.cert_file, what="tls.key_file")  # for its mode: ssl reads the file itself
        try:
            # An empty password: OpenSSL would ask for that of an encrypted key on the terminal.
            made.load_cert_chain(tls.cert_file, tls.key_file, password="")
        except OSError as error:
            names = f"tls.cert_file {tls.cert_file}, tls.key_file {tls.key_file or tls.cert_file}"
            hint = "name a certificate and its unencrypted private key, both in PEM format"
            raise ConfigError(f"{names} cannot be used: {reason(error).lower()}", hint=hint) from None
    return made
