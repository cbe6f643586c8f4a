"""The table `[plugins.metrics]`: one setting, the address to listen on. Values are not quoted in errors."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import NamedTuple

from remaphore import PluginError

_LISTEN = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<v4>[0-9.]+)):(?P<port>[0-9]{1,5})")


class Listen(NamedTuple):
    """Where to listen: an IP address, never a name, since looking one up could wait for a network; and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """listen: an IP address and a port. Raise PluginError if it is anything else."""

    listen: str = "127.0.0.1:9617"

    def __post_init__(self) -> None:
        _ = self.address

    @property
    def address(self) -> Listen:
        """Return `listen` in its parts."""
        problem = PluginError(
            "listen: not an IP address and a port",
            hint="write an address such as 127.0.0.1:9617 or [::1]:9617; port 0 selects any free port",
        )
        found = _LISTEN.fullmatch(self.listen)
        if found is None or int(found["port"]) > 65535:
            raise problem
        try:
            if found["v6"]:
                host = str(ipaddress.IPv6Address(found["v6"]))
            else:  # ipaddress takes 0.3 MiB, and nothing else loads it
                host = socket.inet_ntop(socket.AF_INET, socket.inet_pton(socket.AF_INET, found["v4"]))
        except (ValueError, OSError):
            raise problem from None
        return Listen(host, int(found["port"]))
