"""From a list of servers to a connection: each is tried once a round, with the files of the login read anew."""

from __future__ import annotations

import random
import ssl
from collections.abc import Awaitable, Callable, Sequence

from remaphore.config.settings import Auth, Tls
from remaphore.errors import ConfigError
from remaphore.transport import credentials, tls
from remaphore.transport.nats_connection import Connection
from remaphore.transport.servers import DialError, Failure, Server, parse

# Servers that a broker told of which one round tries: a list of silent ones must not keep us from those that we know.
DISCOVERED_A_ROUND = 4

Prepare = Callable[[Connection], Awaitable[None]]


class Dialer:
    """Knows the servers, the configured ones and those that they have told of, and how to log in."""

    def __init__(
        self,
        servers: Sequence[str],
        *,
        auth: Auth,
        tls_files: Tls,
        warn: Callable[[str], None],
        report: Callable[[str], None],
    ) -> None:
        """report: called with a line for each thing of a server that is not the NATS protocol."""
        self._configured = tuple(parse(text) for text in servers)
        self._discovered: tuple[Server, ...] = ()
        self._latest: Server | None = None
        self._auth = auth
        self._tls = tls_files
        self._warn: Callable[[str], None] | None = warn
        self._report = report

    async def round(self, prepare: Prepare, failures: dict[str, Failure]) -> Connection | None:
        """Return a connection to the first server, in random order, that lets us in and that *prepare* has worked with.

        None if there is none; *failures* then holds why, for each. *prepare* may raise DialError.
        """
        order = self._order()
        for shown in failures.keys() - {server.shown for server in order}:
            del failures[shown]
        for server in order:
            try:
                return await self._dial(server, prepare)
            except DialError as error:
                failures[server.shown] = error.failure
        return None

    def learn(self, connection: Connection) -> None:
        """Remember the cluster servers that *connection* reports. Called while it lives, and when it has ended."""
        known = {server.shown for server in self._configured}
        self._discovered = tuple(server for server in connection.discovered() if server.shown not in known)
        self._latest = connection.server

    def _order(self) -> list[Server]:
        # Random, so that nodes spread over a cluster; the one just lost last, because it is the likeliest to be away.
        discovered = random.sample(self._discovered, min(DISCOVERED_A_ROUND, len(self._discovered)))
        servers = [*self._configured, *discovered]
        random.shuffle(servers)
        return sorted(servers, key=lambda server: server == self._latest)

    async def _dial(self, server: Server, prepare: Prepare) -> Connection:
        try:
            login = credentials.login(self._auth, warn=self._warn_once)
            context = self._context(server)
        except ConfigError as error:
            raise DialError(Failure(str(error), final=True)) from None
        connection = await Connection.dial(
            server,
            login=login,
            source=credentials.source(self._auth),
            context=context,
            require_tls=tls.wanted(self._tls),
            report=self._report,
        )
        try:
            await prepare(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    def _context(self, server: Server) -> ssl.SSLContext | None:
        # The system's CAs take 45 ms to load: only where they are needed.
        return tls.context(self._tls) if server.tls or tls.wanted(self._tls) else None

    def _warn_once(self, line: str) -> None:
        if self._warn is not None:
            self._warn(line)
        self._warn = None
