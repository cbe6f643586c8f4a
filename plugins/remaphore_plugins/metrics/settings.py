"""The table `[plugins.metrics]`: one setting, the address to listen on. Values are not quoted in errors."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from remaphore import ConfigError

_LISTEN = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<v4>[0-9.]+)):(?P<port>[0-9]{1,5})")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MEND = "write an IP address and a port, such as 127.0.0.1:9617 or [::1]:9617; a port of 0 takes any that is free"


class Listen(NamedTuple):
    """Where to listen: an IP address, never a name, since looking one up could wait for a network; and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


DEFAULT = Listen("127.0.0.1", 9617)


def read(settings: Mapping[str, Any], *, source: str) -> Listen:
    """Return the address in *settings*. Raises ConfigError, which names *source* and the key."""
    for key in settings:
        if key != "listen":
            shown = key if _BARE_KEY.fullmatch(key) else '"..."'
            raise ConfigError(f"{source}: plugins.metrics.{shown}: unknown key; known here: listen")
    if "listen" not in settings:
        return DEFAULT
    listen = _parse(settings["listen"])
    if listen is None:
        raise ConfigError(f"{source}: plugins.metrics.listen: not an address; {_MEND}")
    return listen


def _parse(value: object) -> Listen | None:
    found = _LISTEN.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found["port"]) > 65535:
        return None
    try:
        host = ipaddress.IPv6Address(found["v6"]) if found["v6"] else ipaddress.IPv4Address(found["v4"])
    except ValueError:
        return None
    return Listen(str(host), int(found["port"]))
