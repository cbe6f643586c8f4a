"""Addresses of servers, and why one of them could not be used.

A failure is *final* when trying again cannot help: the server, TLS or the name service said no. Everything else, from
a rejected connection to silence, may be a broker that is just starting. No text here holds a password of a URL.
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
# Characters: four times the longest host name (RFC 1035). A broker may tell of servers, and the codec of
# internationalized names takes a hundred times as long for a character as anything else here.
MAX_ADDRESS = 1024
SCHEMES = ("nats", "tls")

# What servers write when they know us and say no; other -ERR texts (too many connections) may pass.
_AUTHORIZATION = r"(?i)authoriz|authentic|revoked|account .*expired"


class Server(NamedTuple):
    """One server. url: for nats-py, may hold a password; shown: the same for people.

    tls_name: the name that its certificate must carry, if not the host's. problem: what is wrong with the address.
    """

    url: str
    shown: str
    tls_name: str = ""
    problem: str = ""

    def __repr__(self) -> str:
        return f"<Server {self.shown}>"

    @property
    def tls(self) -> bool:
        """Whether the address itself asks for TLS."""
        return self.url.startswith("tls://")


class Failure(NamedTuple):
    """Why a server could not be used, for people. final: trying again will not help."""

    text: str
    final: bool = False


class DialError(Exception):
    """A server could not be used; never leaves this package."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


def parse(text: str) -> Server:
    """Read an address as it stands in a configuration; `problem` says what is wrong with it, if anything is."""
    full = text if "://" in text else f"nats://{text}"
    scheme, _, rest = full.partition("://")
    shown = f"{scheme}://{rest.rpartition('@')[2]}"[:MAX_ADDRESS]
    if len(full) > MAX_ADDRESS:
        return Server("", shown, problem=f"the address has more than {MAX_ADDRESS} characters")
    try:
        parts = urlsplit(full)
        host, port = parts.hostname or "", parts.port or DEFAULT_PORT
        if not _is_plain(host):
            host.encode("idna")
    except ValueError as error:  # UnicodeError, of a host name with an empty or overlong part, is one
        return Server(full, shown, problem=f"not an address: {str(error).splitlines()[0]}")
    if parts.scheme not in SCHEMES:
        return Server(full, shown, problem=f"{parts.scheme}:// is not spoken here; use nats:// or tls://")
    if not host:
        return Server(full, shown, problem="the address has no host; write nats://host:4222")
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    login = parts.netloc.rpartition("@")[0]
    return Server(f"{parts.scheme}://{login}{'@' if login else ''}{place}", f"{parts.scheme}://{place}")


def _is_plain(host: str) -> bool:
    # What the codec takes as it is; to load it costs more than to connect.
    return host.isascii() and all(0 < len(label) < 64 for label in host.split("."))


def discovered(url: str, via: Server) -> Server:
    """Return the server that *via* told of. An IP address must show the certificate of the name we know it by."""
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
    """Return what *error*, raised while connecting, means. source: what decided our login; timeout: seconds."""
    if isinstance(error, DialError):
        return error.failure
    if isinstance(error, TimeoutError) and error.errno is None:
        return Failure(f"no answer within {timeout:g} s")
    if isinstance(error, OSError):
        return _explain_os(error)
    if isinstance(error, MemoryError):
        return Failure("not enough memory on this machine")
    return _explain_words(error, source)


def _explain_words(error: BaseException, source: str) -> Failure:
    text = " ".join(str(error).split())[:200]
    if not text.startswith("nats: "):
        return Failure(f"what it says makes no sense ({type(error).__name__}: {text})")
    text = text.removeprefix("nats: ").strip("' ")
    if re.search(_AUTHORIZATION, text):
        return Failure(f"{text}: wrong, expired or revoked; check {source}", final=True)
    if "expecting INFO" in text:
        return Failure("the connection was closed, or what answers is no NATS server")
    return Failure(text)


def _explain_os(error: OSError) -> Failure:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failure(f"certificate refused ({error.verify_message}); check tls.ca_file and the name", final=True)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return Failure("the connection was closed during the TLS handshake")
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or error
        return Failure(f"TLS failed ({reason}); check the tls table and the server's", final=True)
    if isinstance(error, socket.gaierror):
        again = error.errno == socket.EAI_AGAIN  # the name service is away, the name may be right
        return Failure(f"unknown host ({error.strerror})" + ("" if again else "; check servers"), final=not again)
    # asyncio joins the errors of several addresses (::1 and 127.0.0.1) into one without a number.
    numbers = [error.errno] if error.errno else [int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))]
    texts = dict.fromkeys(os.strerror(number).lower() for number in numbers if number > 0)
    return Failure(", ".join(texts) or str(error).lower() or type(error).__name__)


def summary(failures: Mapping[str, Failure]) -> str:
    """Return one line with each cause and the servers that it holds for."""
    servers: dict[str, list[str]] = {}
    for shown, failure in failures.items():
        servers.setdefault(failure.text, []).append(shown)
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in servers.items()) or "no answer yet"


def all_final(failures: Iterable[Failure]) -> bool:
    """Tell whether every server said no, so that trying again will not help."""
    return all(failure.final for failure in failures)
