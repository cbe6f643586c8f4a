"""Addresses that a broker listens on, and those of the other servers of its cluster.

Which of them are loopback decides whether a server may do without TLS. So only what certainly is loopback counts as
such: IP addresses, and `localhost`, which is replaced by 127.0.0.1, whatever the name service makes of it. A short form
such as 127.1, which some programs accept, is a name here.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import NamedTuple

from remaphore.errors import UsageError

LOOPBACK = "127.0.0.1"
ALL = "0.0.0.0"  # noqa: S104 - what `*` means; all addresses need TLS
CLIENT_PORT = 4222
ROUTE_PORT = 6222
FREE_PORT = 0
LARGEST_PORT = 65535

_HINT = "write ADDR:PORT, such as 0.0.0.0:4222 or [::]:4222"
_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*"
)
_ZONE = re.compile(r"[A-Za-z0-9_.-]+")


class Address(NamedTuple):
    """A host, which is a name or an IP address without brackets, and a TCP port; FREE_PORT for a free one."""

    host: str = LOOPBACK
    port: int = CLIENT_PORT

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_ip(self) -> bool:
        """Whether the host is an IP address."""
        try:
            return bool(ip_address(self.host))
        except ValueError:
            return False

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect to it. A name is not known to be loopback."""
        if not self.is_ip:
            return False
        address = ip_address(self.host)
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback  # Python 3.11: ::ffff:127.0.0.1 is not

    @property
    def is_unspecified(self) -> bool:
        """Whether it stands for all addresses of this machine."""
        return self.is_ip and ip_address(self.host).is_unspecified


def listen_address(text: str, *, default_port: int = CLIENT_PORT) -> Address:
    """Return the address to listen on that *text* names. `*:PORT` and `:PORT` are all IPv4 addresses.

    Raise UsageError.
    """
    host, port = _split(text, default_port=default_port)
    if host in ("", "*"):
        host = ALL
    return Address(LOOPBACK if host.lower().removesuffix(".") == "localhost" else host, port)


def route_address(text: str) -> Address:
    """Return the address of another server of the cluster. Raise UsageError if it cannot be the name in a certificate.

    nats-server compares the names of routes with those in certificates, and not IP addresses.
    """
    host, port = _split(text.removeprefix("nats://").removeprefix("tls://"), default_port=ROUTE_PORT)
    address = Address(host.removesuffix("."), port)
    if address.is_ip or not address.host or host == "*":
        hint = (
            "write HOST:PORT with the name in that server's certificate; nats-server compares no IP addresses with it"
        )
        raise UsageError(f"not the name of a server: {text!r}", hint=hint)
    if port == FREE_PORT:
        raise UsageError(f"not a port to connect to: {text!r}", hint=f"write its port, usually {ROUTE_PORT}")
    return address


def port_number(text: str) -> int:
    """Return the TCP port *text*, 0 to 65535. Raise UsageError."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > LARGEST_PORT:
        raise UsageError(f"not a port: {text!r}", hint=f"write a number from 1 to {LARGEST_PORT}, or 0 for a free port")
    return int(text)


def _split(text: str, *, default_port: int) -> tuple[str, int]:
    """Return host and port of *text*, which may have no port. Raise UsageError."""
    wrong = UsageError(f"not an address: {text!r}", hint=_HINT)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in host or rest[:1] not in ("", ":") or not Address(host).is_ip:
            raise wrong
        port = rest[1:] if rest else str(default_port)
    elif text.count(":") > 1:
        raise UsageError(f"not an address: {text!r}", hint="write an IPv6 address in brackets, such as [::1]:4222")
    else:
        host, colon, port = text.partition(":")
        port = port if colon else str(default_port)
        # Digits and dots that are no IP address are one all the same for some resolvers: 4222 is 0.0.16.126.
        number = re.fullmatch(r"[0-9.]+", host) and not Address(host).is_ip
        if (
            number
            or (not host and not colon)
            or (host not in ("", "*") and not _NAME.fullmatch(host.removesuffix(".")))
        ):
            raise wrong
    zone = host.partition("%")
    if zone[1] and not _ZONE.fullmatch(zone[2]):
        raise wrong
    return host, port_number(port)
