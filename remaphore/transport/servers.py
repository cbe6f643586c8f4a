"""Addresses of servers, and why one of them could not be used.

A failure is *final* when trying again cannot help: the server, TLS or the name service rejected us. Everything else,
from a refused connection to silence, may be a broker that is just starting. No text here contains a password of a URL.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

DEFAULT_PORT = 4222
# Characters: four times the longest host name (RFC 1035). A broker may report servers, and the codec of
# internationalized names takes a hundred times as long for a character as anything else here.
MAX_ADDRESS = 1024
SCHEMES = ("nats", "tls")

# What servers write when they reject the login; after other -ERR texts (too many connections) a retry may succeed.
_AUTHORIZATION = r"(?i)authoriz|authentic|revoked|account .*expired"
_WRITE_ADDRESS = "write nats://HOST:PORT or tls://HOST:PORT"


class Server(NamedTuple):
    """One server. url: for nats-py, may contain a password; shown: the same for people.

    tls_name: the name that its certificate must carry, if it is not the host's. problem: what is wrong with the
    address, and hint: how to fix it.
    """

    url: str
    shown: str
    tls_name: str = ""
    problem: str = ""
    hint: str = ""

    def __repr__(self) -> str:
        return f"<Server {self.shown}>"

    @property
    def tls(self) -> bool:
        """Whether the address itself requires TLS."""
        return self.url.startswith("tls://")


class Failure(NamedTuple):
    """Why a server could not be used, and how to fix it, if that is known. final: trying again will not help."""

    text: str
    hint: str = ""
    final: bool = False


class DialError(Exception):
    """A server could not be used; never leaves this package."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


def parse(text: str) -> Server:
    """Read an address of a configuration; the result's `problem` is set if the address cannot be used."""
    full = text if "://" in text else f"nats://{text}"
    scheme, _, rest = full.partition("://")
    shown = f"{scheme}://{rest.rpartition('@')[2]}"[:MAX_ADDRESS]
    if len(full) > MAX_ADDRESS:
        problem = f"address of more than {MAX_ADDRESS} characters"
        return Server("", shown, problem=problem, hint=_WRITE_ADDRESS)
    try:
        parts = urlsplit(full)
        host, port = parts.hostname or "", parts.port or DEFAULT_PORT
        # Only names that the codec would change: loading it takes longer than connecting.
        if not (host.isascii() and all(0 < len(label) < 64 for label in host.split("."))):
            host.encode("idna")
    except ValueError as error:  # UnicodeError, of a host name with an empty or overlong part, is one
        return Server(full, shown, problem=f"not an address: {str(error).splitlines()[0]}", hint=_WRITE_ADDRESS)
    if parts.scheme not in SCHEMES:
        return Server(full, shown, problem=f"unsupported scheme {parts.scheme}://", hint=_WRITE_ADDRESS)
    if not host:
        return Server(full, shown, problem="address without a host", hint=_WRITE_ADDRESS)
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    login = parts.netloc.rpartition("@")[0]
    return Server(f"{parts.scheme}://{login}{'@' if login else ''}{place}", f"{parts.scheme}://{place}")


def discovered(url: str, via: Server) -> Server:
    """Return the server *url* that *via* reported.

    A server known by its IP address alone must show the certificate of the name that we know: reported by
    tls://broker.example.com, tls://10.0.0.2 must show the certificate of broker.example.com.
    """
    server = parse(url)
    if server.problem:
        return server
    known = via.tls_name or urlsplit(via.url).hostname or ""
    host = urlsplit(server.url).hostname or ""
    return server._replace(tls_name=known) if _is_ip(host) and not _is_ip(known) else server


def _is_ip(host: str) -> bool:
    try:
        return bool(ip_address(host))
    except ValueError:
        return False


def explain(error: BaseException, *, source: str, timeout: float) -> Failure:
    """Return what *error*, raised while connecting, means. source: where the login comes from. timeout: seconds."""
    if isinstance(error, DialError):
        return error.failure
    if isinstance(error, TimeoutError) and error.errno is None:
        return Failure(f"no answer within {timeout:g} s")
    if isinstance(error, OSError):
        return _explain_os(error)
    text = " ".join(str(error).split())[:200]
    words = text.removeprefix("nats: ").strip("' ")
    if isinstance(error, MemoryError):
        failure = Failure("not enough memory on this machine", "free some memory")
    elif not text.startswith("nats: "):
        failure = Failure(f"unexpected data from the server ({type(error).__name__}: {text})")
    elif re.search(_AUTHORIZATION, words):
        hint = f"check whether the login ({source}) is wrong, expired or revoked"
        failure = Failure(f"{words} (login: {source})", hint, final=True)
    elif "expecting INFO" in words:
        failure = Failure("connection closed, or not a NATS server", "check host and port in servers")
    else:
        failure = Failure(words)
    return failure


def _explain_os(error: OSError) -> Failure:
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "check tls.ca_file, and the host name in the certificate"
        return Failure(f"certificate rejected ({error.verify_message})", hint, final=True)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return Failure("connection closed during the TLS handshake")
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or error
        return Failure(f"TLS failed ({reason})", "check the table [tls], and the server's TLS settings", final=True)
    if isinstance(error, socket.gaierror):
        if error.errno == socket.EAI_AGAIN:  # the name service is unavailable, the name may be correct
            return Failure(f"unknown host ({error.strerror})", "check the name service of this machine")
        return Failure(f"unknown host ({error.strerror})", "check the host name in servers", final=True)
    # asyncio joins the errors of several addresses (::1 and 127.0.0.1) into one without a number.
    numbers = [error.errno] if error.errno else [int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))]
    texts = dict.fromkeys(os.strerror(number).lower() for number in numbers if number > 0)
    return Failure(", ".join(texts) or str(error).lower() or type(error).__name__)


def summary(failures: Mapping[str, Failure]) -> str:
    """Return one line with each cause and the servers that it applies to: `A, C: connection refused; B: TLS failed`."""
    causes = {shown: failure.text for shown, failure in failures.items()}
    return "; ".join(_by_text(causes)) or "no answer yet"


def hints(failures: Mapping[str, Failure]) -> str:
    """Return one line with each hint, empty if there is none.

    Each hint is preceded by the servers that it applies to, unless it applies to all: of the servers A and B, where
    only B has a hint, `B: check tls.ca_file`.
    """
    known = {shown: failure.hint for shown, failure in failures.items() if failure.hint}
    if len(known) == len(failures) and len(set(known.values())) == 1:
        return next(iter(known.values()))
    return "; ".join(_by_text(known))


def _by_text(texts: Mapping[str, str]) -> list[str]:
    servers: dict[str, list[str]] = {}
    for shown, text in texts.items():
        servers.setdefault(text, []).append(shown)
    return [f"{', '.join(names)}: {text}" for text, names in servers.items()]


def all_final(failures: Iterable[Failure]) -> bool:
    """Return whether every server rejected us, so that trying again will not help."""
    return all(failure.final for failure in failures)
