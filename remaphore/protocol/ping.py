"""The daemon's built-in reply to the verb `ping`: one line for people, from which programs read the invocation.

    remaphore 0.1.0, up 3d 4h, invocation 1f2e3d4c5b6a7988, instance main

An invocation is one run of a daemon, as in systemd: a random number that is made when it starts and exists only in its
memory. So two machines with the same key, such as a virtual machine and its clone, have different ones. It says nothing
about the machine, and a peer that may only send `ping` learns no host name from it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

VERB = "ping"
INVOCATION_BYTES = 8  # enough that no two daemons of a fleet have the same one by chance

_NUMBER = re.compile(r"[0-9a-f]{16}")
_INSTANCE = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_LINE = re.compile(r"remaphore [^ ,]{1,64}, up [^,]{1,64}, invocation ([^,]{1,64}), instance ([^,\n]{1,64})\n?")


class Invocation(NamedTuple):
    """One run of a daemon. number: in hexadecimal; instance: the name given by `run --instance`."""

    number: str
    instance: str

    @classmethod
    def of(cls, number: object, instance: object) -> Invocation | None:
        """Return the invocation that a peer reports, None if it reports none or not in this form."""
        if not (isinstance(number, str) and isinstance(instance, str)):
            return None
        return cls(number, instance) if _NUMBER.fullmatch(number) and _INSTANCE.fullmatch(instance) else None


def format_reply(invocation: Invocation, *, version: str, uptime_seconds: float) -> bytes:
    """Return the output of the built-in reply."""
    line = f"remaphore {version}, up {format_uptime(uptime_seconds)}"
    return f"{line}, invocation {invocation.number}, instance {invocation.instance}\n".encode()


def parse_reply(output: bytes) -> Invocation | None:
    """Return the invocation in *output*, None if it is not that of a built-in reply."""
    found = _LINE.fullmatch(output.decode(errors="replace"))
    return Invocation.of(*found.groups()) if found else None


def format_uptime(seconds: float) -> str:
    """Return *seconds* for people, as the two largest units: `3d 4h`, `4h 0m`, `7s`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")]
    while len(units) > 1 and not units[0][0]:
        del units[0]
    return " ".join(f"{number}{unit}" for number, unit in units[:2])
