"""Addresses of servers, and why one of them could not be used.

A failure is *final* if it stays until a configuration changes: ours, or the broker's. Before the first connection, such
failures of all servers end the command at once, because most of them are mistakes in what was just configured; after
it, everything is tried again. What becomes right by itself is never final: a name that is not registered yet, a broker
that is starting, a firewall or a limit of this machine, a clock that is not set yet.

No text here contains a password of a URL.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

DEFAULT_PORT = 4222
# Seconds for a server's first line where TLS is required; without one, TLS is tried before it. Together with the
# handshake it takes less than the second after which a command reports that it has no broker.
INFO_WAIT = 0.5
# Characters: four times the longest host name (RFC 1035). A broker may report servers, and the codec of
# internationalized names takes a hundred times as long for a character as anything else here.
MAX_ADDRESS = 1024
SCHEMES = ("nats", "tls")

# What servers write when they reject the login; after other -ERR texts (too many connections) a retry may succeed.
_AUTHORIZATION = r"(?i)authoriz|authentic|revoked|account .*expired"
_WRITE_ADDRESS = "write nats://HOST:PORT or tls://HOST:PORT"
MAX_LISTED = 8  # servers and addresses that one line lists for one cause
# X509_V_ERR_CERT_NOT_YET_VALID and _HAS_EXPIRED. At boot a clock may be wrong, and a renewed certificate is on its way.
_OUT_OF_TIME = (9, 10)

# What this machine may lack or forbid, and may have again or permit later: none of it is final.
_FIREWALL = "check the firewall and the sandbox of this machine (nftables, IPAddressDeny=, RestrictAddressFamilies=)"
_FILES = "raise the limit of open files (ulimit -n, LimitNOFILE=)"
_ROUTE = "check the routes and the firewall between this machine and the server"
_HINTS = {
    errno.EPERM: _FIREWALL,
    errno.EACCES: _FIREWALL,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENETUNREACH: _ROUTE,
    errno.EHOSTUNREACH: _ROUTE,
    errno.EAFNOSUPPORT: "enable IPv6 on this machine, or name an IPv4 address in servers",
    errno.EADDRNOTAVAIL: "check that this machine has an address of that family, and free local ports",
}


class Address(NamedTuple):
    """One address of a server, as the socket functions need it. zone: the interface of a link-local IPv6 address."""

    family: int
    sockaddr: tuple[Any, ...]
    zone: str = ""

    def __str__(self) -> str:
        host, port = self.sockaddr[:2]
        zone = f"%{self.zone}" if self.zone else ""
        return f"[{host}{zone}]:{port}" if ":" in host else f"{host}:{port}"


class Server(NamedTuple):
    """One server. url: for nats-py, may contain a password; shown: the same for people.

    tls_name: the name that its certificate must carry, if it is not the host's. problem: what is wrong with the
    address, and hint: how to fix it. address: the one to connect to; a name can have several, see `at`.
    """

    url: str
    shown: str
    tls_name: str = ""
    problem: str = ""
    hint: str = ""
    address: Address | None = None

    def __repr__(self) -> str:
        return f"<Server {self.shown}>"

    @property
    def host(self) -> str:
        """The host of the URL: a name, or an IP address."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port of the URL."""
        return urlsplit(self.url).port or DEFAULT_PORT

    @property
    def certificate_name(self) -> str:
        """The name that its certificate must carry: without the dot that ends a name, and the zone of an address."""
        return self.tls_name or self.host.rstrip(".").partition("%")[0]

    def at(self, address: Address) -> Server:
        """Return this server at one of its addresses, whose `shown` contains both: `localhost ([::1]:4222)`."""
        shown = self.shown if _is_ip(self.host) else f"{self.host} ({address})"
        return self._replace(shown=shown, address=address)

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


class LateInfoError(DialError):
    """A server sent its first line only after TLS had been tried before it: it must be given more time."""


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
    known = via.certificate_name
    return server._replace(tls_name=known) if _is_ip(server.host) and not _is_ip(known) else server


def ip_version(host: str) -> int:
    """Return 4 or 6 if *host* is an IP address without a zone; 0 if it is a name.

    inet_pton(3) accepts what ipaddress does, which takes 1 ms and 0.3 MiB to import.
    """
    for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        with suppress(OSError, ValueError):
            socket.inet_pton(family, host)
            return version
    return 0


def _is_ip(host: str) -> bool:
    plain, marked, zone = host.replace("%25", "%").partition("%")
    return ip_version(plain) == 6 if marked and zone and "%" not in zone else not marked and bool(ip_version(plain))


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
        text = f"certificate rejected ({error.verify_message})"
        if error.verify_code in _OUT_OF_TIME:
            return Failure(text, "renew the server's certificate, and check the clock of this machine")
        return Failure(text, "check tls.ca_file, and the host name in the certificate", final=True)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return Failure("connection closed during the TLS handshake")
    if isinstance(error, ssl.SSLError):
        hint = "check the table [tls], and the server's TLS settings"
        # By an alert the server rejects us, such as for the lack of a client certificate. Anything else is not TLS,
        # such as the text of a proxy whose server is still starting.
        return Failure(f"TLS failed ({reason(error)})", hint, final=is_alert(error))
    text = os.strerror(error.errno).lower() if error.errno else str(error).lower()
    return Failure(text or type(error).__name__, _HINTS.get(error.errno or 0, ""))


def is_alert(error: OSError) -> bool:
    """Return whether *error* is an alert of TLS, by which the other side rejects us."""
    return isinstance(error, ssl.SSLError) and "ALERT" in reason(error)


def reason(error: OSError) -> str:
    """Return the short cause of *error*: OpenSSL's name for it, or the system's text."""
    return str(getattr(error, "reason", None) or error.strerror or error or type(error).__name__)


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
    return [f"{_listed(names)}: {text}" for text, names in servers.items()]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MAX_LISTED
    return ", ".join(names[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def all_final(failures: Iterable[Failure]) -> bool:
    """Return whether every server rejected us, so that trying again will not help."""
    return all(failure.final for failure in failures)
