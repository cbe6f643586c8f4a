"""The TLS context of a connection: always ours, always verifying."""

from __future__ import annotations

import ssl

from remaphore.config.secrets import read_secret
from remaphore.config.settings import Tls
from remaphore.errors import ConfigError


def wanted(tls: Tls) -> bool:
    """Tell whether the configuration names any file for TLS: then no connection goes without."""
    return any((tls.ca_file, tls.cert_file, tls.key_file))


def context(tls: Tls) -> ssl.SSLContext:
    """Return a context that checks certificate and host name against `ca_file`, or against the system's CAs.

    Raises ConfigError when a file cannot be used; its message names the files.
    """
    try:
        made = ssl.create_default_context(cafile=tls.ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"tls.ca_file {tls.ca_file} cannot be used: {_reason(error)}") from None
    if tls.cert_file:
        read_secret(tls.key_file or tls.cert_file, what="tls.key_file")  # for its mode: ssl reads the file itself
        try:
            # An empty password: OpenSSL would ask for the one of an encrypted key on the terminal.
            made.load_cert_chain(tls.cert_file, tls.key_file, password="")
        except OSError as error:
            names = f"tls.cert_file {tls.cert_file}, tls.key_file {tls.key_file or tls.cert_file}"
            raise ConfigError(f"{names} cannot be used: {_reason(error)}") from None
    return made


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None) if isinstance(error, ssl.SSLError) else error.strerror
    return str(reason or error).lower()
