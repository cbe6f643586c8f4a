"""From a server's name to its addresses, without blocking the event loop.

asyncio looks names up in its pool of threads, waits for them without a limit, and uses the first address that accepts.
One address that accepts and then closes or is silent, such as docker-proxy's on ::1, would hide the others forever.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from typing import Any

from remaphore.transport.servers import Address, DialError, Failure, ip_version

RESOLVE_LIMIT = 2.0  # seconds that one round waits for a name; a later round gets what is found after that
FRESH = 5.0  # seconds for which such a late result is used: longer than the longest pause between two rounds
MAX_LOOKUPS = 16  # threads: a broker may report a hundred names that a name service never answers
_NO_INTERFACE = "correct the zone in servers, or bring that interface up"
_NO_THREAD = "raise the limit of processes and threads (ulimit -u, TasksMax=), or write an IP address in servers"
_NAME_SERVICE = "check the host name in servers, and the name service of this machine"


def literal(host: str, port: int) -> Address | None:
    """Return the address if *host* is one, such as `127.0.0.1` or `fe80::1%eth0`; None if it is a name.

    Raise DialError if there is no such network interface.
    """
    plain, _, zone = host.replace("%25", "%").partition("%")  # RFC 6874 writes %25 in a URL
    version = ip_version(plain)
    if not version:
        return None
    if version == 4:
        return Address(socket.AF_INET, (plain, port))
    try:
        scope = int(zone) if zone.isascii() and zone.isdigit() else socket.if_nametoindex(zone) if zone else 0
    except (OSError, ValueError):
        raise DialError(Failure(f"no network interface {zone!r}", _NO_INTERFACE)) from None
    return Address(socket.AF_INET6, (plain, port, 0, scope), zone)


class Resolver:
    """Looks names up, each in a thread of its own, and never the same name in two threads at the same time.

    Example: the name service answers after 3 s. The first round waits for 2 s and reports a failure. The second one,
    0.2 s later, starts no other thread: it waits for the first one, which has its result after another 0.8 s.
    """

    def __init__(self) -> None:
        self._lookups: dict[tuple[str, int], _Lookup] = {}

    async def resolve(self, host: str, port: int) -> list[Address]:
        """Return the addresses of *host*, each once. Raise DialError, which is never final: a name may appear later.

        An IP address needs no thread.
        """
        address = literal(host, port)
        if address is not None:
            return [address]
        lookup = self._lookups.get((host, port))
        if lookup is None and len(self._lookups) >= MAX_LOOKUPS:
            raise DialError(Failure(f"host name not looked up: {MAX_LOOKUPS} others are not answered", _NAME_SERVICE))
        if lookup is None or lookup.stale:
            try:
                lookup = self._lookups[host, port] = _Lookup(host, port)
            except RuntimeError as error:
                raise DialError(Failure(f"host name not looked up ({error})", _NO_THREAD)) from None
        await asyncio.wait({lookup.done}, timeout=RESOLVE_LIMIT)
        if not lookup.done.done():
            raise DialError(Failure(f"host name not resolved within {RESOLVE_LIMIT:g} s", _NAME_SERVICE))
        self._lookups.pop((host, port), None)
        found = lookup.done.result()
        if isinstance(found, list):
            return found
        reason = found.strerror if isinstance(found, socket.gaierror) else str(found)
        raise DialError(Failure(f"unknown host ({reason})", _NAME_SERVICE))


class _Lookup:
    """A thread that looks up one name. *done* gets the addresses, or the error as a value: it may go unread.

    The thread is a daemon thread: one that hangs must not delay the end of the process.
    """

    def __init__(self, host: str, port: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = 0.0
        self.done: asyncio.Future[list[Address] | Exception] = self._loop.create_future()

        def look_up() -> None:
            found: list[Address] | Exception
            try:
                infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                found = list(dict.fromkeys(_address(family, sockaddr) for family, _, _, _, sockaddr in infos))
            except Exception as error:  # noqa: BLE001 - such as UnicodeError; it is reported as the cause
                found = error
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._end, found)

        threading.Thread(target=look_up, name=f"resolve {host}", daemon=True).start()

    @property
    def stale(self) -> bool:
        """Whether the result is older than FRESH."""
        return self.done.done() and self._loop.time() - self._ended > FRESH

    def _end(self, found: list[Address] | Exception) -> None:
        self._ended = self._loop.time()
        self.done.set_result(found)


def _address(family: int, sockaddr: tuple[Any, ...]) -> Address:
    scope = sockaddr[3] if len(sockaddr) > 3 else 0
    if not scope:
        return Address(family, sockaddr)
    host = str(sockaddr[0]).partition("%")[0]
    return Address(family, (host, *sockaddr[1:]), str(scope))
