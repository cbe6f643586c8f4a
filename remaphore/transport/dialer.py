"""From a list of servers to a connection: each address of each server is tried once a round.

A round with the configured servers A and B, where B was the last connection and has reported a cluster of 50 others: A
is a name with two addresses. Four of the 50 are drawn, and the names among these six servers are looked up. All
addresses are shuffled, B's last. The first one is dialled; if it has not accepted us after HEAD_START seconds, the next
one is dialled as well, and so on; as soon as one has failed, the next one takes its place. The first connection wins.
If none of them accepts us, the round returns None, and the caller waits before the next round, which draws others.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from remaphore.config.settings import Auth, Problem, Tls
from remaphore.errors import ConfigError
from remaphore.tasks import spawn
from remaphore.transport import credentials, tls
from remaphore.transport.addresses import Resolver
from remaphore.transport.nats_connection import CLOSE_LIMIT, Connection
from remaphore.transport.servers import DialError, Failure, LateInfoError, Server, parse

# Servers reported by a broker that one round tries, with one address each: a list of silent ones must not delay the
# configured ones.
DISCOVERED_A_ROUND = 4
# Addresses of a configured name that one round tries; the next rounds try the others.
ADDRESSES_A_ROUND = 8
# Seconds after which the next address is tried in parallel. A silent address costs this, and not its whole limit, so
# that a command that waits for 10 s gets through if any of 19 works. Longer than a login usually takes, even to a busy
# broker, because each attempt in parallel is a connection more for it.
HEAD_START = 0.5
# What stands in the place of a cause, so that a command that gives up names each server and address.
_UNRESOLVED = Failure("host name not resolved yet", "check the name service of this machine")
_UNTRIED = Failure("not tried yet")
_UNANSWERED = Failure("no answer yet")

_Files = tuple[Mapping[str, str], ssl.SSLContext | None]
Prepare = Callable[[Connection], Awaitable[None]]


class Dialer:
    """The configured servers, those that they have reported, and the login."""

    def __init__(
        self,
        servers: Sequence[str],
        *,
        auth: Auth,
        tls_files: Tls,
        warn: Callable[[str], None],
        report: Callable[[str], None],
    ) -> None:
        """warn: called at most once, with a line about the login file. report: with each protocol error of a server."""
        self._configured = tuple(parse(text) for text in servers)
        self._discovered: tuple[Server, ...] = ()
        self._latest: Server | None = None
        self._tried: set[Server] = set()
        self._resolved: set[Server] = set()  # in any round
        self._sends_info: set[Server] = set()  # before TLS, and slowly
        self._resolver = Resolver()
        self._auth = auth
        self._tls = tls_files
        self._warn = warn
        self._warned = False
        self._report = report

    async def round(self, prepare: Prepare, failures: dict[str, Failure]) -> Connection | None:
        """Return a connection to the first address that accepts us and that *prepare* succeeds with.

        Return None if there is none; *failures* then contains the reasons, by server or address. *prepare* may raise
        DialError.
        """
        servers = self.servers()
        try:
            files = self._read_files(servers)
        except ConfigError as error:
            failures.clear()
            failures.update({server.shown: Failure(str(error), error.hint, final=True) for server in servers})
            return None
        valid: set[str] = set()  # what the failures may be about
        connection = await self._race(servers, files, prepare, failures, valid)
        if connection is None:
            for shown in failures.keys() - valid:
                del failures[shown]
        return connection

    async def _race(
        self, servers: Sequence[Server], files: _Files, prepare: Prepare, failures: dict[str, Failure], valid: set[str]
    ) -> Connection | None:
        """Look up the names of *servers*, and dial their addresses, a next one every HEAD_START seconds."""
        for server in servers:
            if server not in self._resolved:  # else the failures of its addresses are there, from the last round
                failures.setdefault(server.shown, _UNRESOLVED)
        lookups = {spawn(self._addresses(server), name="nats-resolve"): server for server in servers}
        dials: dict[asyncio.Task[Connection], Server] = {}
        waiting: list[Server] = []
        connection: Connection | None = None
        try:
            await asyncio.wait(lookups, timeout=HEAD_START)  # to shuffle all together, unless a name service is slow
            while connection is None:
                for lookup in [task for task in lookups if task.done()]:
                    waiting += self._draw(lookup, lookups.pop(lookup), failures, valid)
                    self._arrange(waiting)
                if waiting:
                    server = waiting.pop(0)
                    if failures.get(server.shown, _UNTRIED) is _UNTRIED:
                        failures[server.shown] = _UNANSWERED
                    dials[spawn(self._dial(server, *files), name="nats-dial")] = server
                if not (lookups or dials):
                    break
                limit = HEAD_START if waiting else None
                await asyncio.wait({*lookups, *dials}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
                for dial in [task for task in dials if task.done()]:
                    connection = await self._accepted(dial, dials.pop(dial), prepare, failures)
                    if connection is not None:
                        break
        finally:
            await _end_others(connection, lookups, dials)
        return connection

    async def unusable_addresses(self) -> dict[str, str]:
        """Dial the addresses of each configured server that has several; return those that fail, with the cause."""
        causes: dict[str, str] = {}
        files = self._read_files(self._configured)

        async def visit(server: Server) -> None:
            try:
                connection = await self._dial(server, *files)
            except DialError as error:
                causes[server.shown] = error.failure.text
            else:
                await connection.close()

        several: list[Server] = []
        for server in self._configured:
            with suppress(DialError):
                addresses = await self._addresses(server)
                several += addresses[:ADDRESSES_A_ROUND] if len(addresses) > 1 else []
        await asyncio.gather(*map(visit, several))
        return causes

    def servers(self) -> list[Server]:
        """Return the servers of one round: the configured ones, and some that were discovered."""
        number = min(DISCOVERED_A_ROUND, len(self._discovered))
        return [*self._configured, *random.sample(self._discovered, number)]

    def learn(self, connection: Connection) -> None:
        """Remember the cluster servers that *connection* reports. Called while it lives, and when it has ended."""
        known = {server.shown for server in self._configured}
        self._discovered = tuple(server for server in connection.discovered() if server.shown not in known)
        self._latest = connection.server
        self._tried.clear()

    def _read_files(self, servers: Sequence[Server]) -> _Files:
        """Return the options of the login, and the TLS context where TLS is required. Raise ConfigError."""
        warnings: list[Problem] = []
        try:
            login = credentials.login(self._auth, warn=warnings.append)
        finally:
            if warnings and not self._warned:
                self._warned = True
                self._warn(f"warning: {warnings[0].what}")
                self._warn(f"hint: {warnings[0].hint}")
        # Only where it is needed: loading the system's CAs takes 45 ms.
        needed = tls.wanted(self._tls) or any(server.tls for server in servers)
        return login, tls.context(self._tls) if needed else None

    async def _addresses(self, server: Server) -> list[Server]:
        if server.problem:
            raise DialError(Failure(server.problem, server.hint, final=True))
        return [server.at(address) for address in await self._resolver.resolve(server.host, server.port)]

    def _draw(
        self, lookup: asyncio.Task[list[Server]], server: Server, failures: dict[str, Failure], valid: set[str]
    ) -> list[Server]:
        """Return the addresses of *server* that this round tries, other ones than the rounds before if there are more.

        Those that were never tried get a failure that says so. Without it, the failures of all others could be final,
        and end the search.
        """
        try:
            addresses = lookup.result()
        except DialError as error:
            failures[server.shown] = error.failure
            valid.add(server.shown)
            return []
        self._resolved.add(server)
        if failures.get(server.shown) is _UNRESOLVED:
            del failures[server.shown]
        number = ADDRESSES_A_ROUND if server in self._configured else 1
        random.shuffle(addresses)
        if self._tried.issuperset(addresses):
            self._tried.difference_update(addresses)
        addresses.sort(key=self._tried.__contains__)
        self._tried.update(addresses[:number])
        for address in addresses if server in self._configured else addresses[:number]:
            valid.add(address.shown)
            failures.setdefault(address.shown, _UNTRIED)
        return addresses[:number]

    def _arrange(self, servers: list[Server]) -> None:
        # Random, so that nodes spread over a cluster; the one just lost last, because it is the likeliest to be away.
        random.shuffle(servers)
        servers.sort(key=lambda server: server == self._latest)

    async def _dial(self, server: Server, login: Mapping[str, str], context: ssl.SSLContext | None) -> Connection:
        require_tls = tls.wanted(self._tls)
        return await Connection.dial(
            server,
            login=login,
            source=credentials.source(self._auth),
            context=context if server.tls or require_tls else None,
            require_tls=require_tls,
            handshake_first=self._tls.handshake_first or (False if server in self._sends_info else None),
            report=self._report,
        )

    async def _accepted(
        self, dial: asyncio.Task[Connection], server: Server, prepare: Prepare, failures: dict[str, Failure]
    ) -> Connection | None:
        try:
            connection = dial.result()
            try:
                await prepare(connection)
            except BaseException:
                await connection.close()
                raise
        except DialError as error:
            failures[server.shown] = error.failure
            if isinstance(error, LateInfoError):
                self._sends_info.add(server)
            return None
        return connection


async def _end_others(made: Connection | None, *attempts: Iterable[asyncio.Task[Any]]) -> None:
    """Return once *attempts* have ended. If this is cancelled meanwhile, close *made*, which then reaches no caller."""
    try:
        # Not awaited itself: a cancellation of this task must not end it before it has closed what is open.
        await asyncio.wait({spawn(_abandon(*attempts), name="nats-abandon")})
    except asyncio.CancelledError:
        if made is not None:
            await made.close()
        raise


async def _abandon(*attempts: Iterable[asyncio.Task[Any]]) -> None:
    """End the attempts of a round that has its connection, or was cancelled itself."""
    tasks = {task for some in attempts for task in some}
    running = tasks
    while running:
        for task in running:
            task.cancel()
        # More than once: wait_for() of Python 3.11 can swallow a cancellation.
        _, running = await asyncio.wait(running, timeout=CLOSE_LIMIT)
    for task in tasks:
        if not task.cancelled() and task.exception() is None and isinstance(task.result(), Connection):
            await task.result().close()
