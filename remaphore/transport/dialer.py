"""From a list of servers to a connection: each server is tried once a round, and the login is read for each attempt.

A round with the configured servers A and B, where B was the last connection and has reported a cluster of 50 others:
four of the 50 are drawn, shuffled together with A, and tried one after the other; then B. If none of these six accepts
us, the round returns None, and the caller waits before the next round, which draws four others.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence

from remaphore.config.settings import Auth, Problem, Tls
from remaphore.errors import ConfigError
from remaphore.transport import credentials, tls
from remaphore.transport.nats_connection import Connection
from remaphore.transport.servers import DialError, Failure, Server, parse

# Servers reported by a broker that one round tries: a list of silent ones must not delay the configured ones.
DISCOVERED_A_ROUND = 4

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
        self._auth = auth
        self._tls = tls_files
        self._warn = warn
        self._warned = False
        self._report = report

    async def round(self, prepare: Prepare, failures: dict[str, Failure]) -> Connection | None:
        """Return a connection to the first server, in random order, that accepts us and that *prepare* succeeds with.

        Return None if there is none; *failures* then contains the reasons, by server. *prepare* may raise DialError.
        """
        order = self.order()
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

    def order(self) -> list[Server]:
        """Return the servers of one round in the order in which they are tried."""
        # Random, so that nodes spread over a cluster; the one just lost last, because it is the likeliest to be away.
        discovered = random.sample(self._discovered, min(DISCOVERED_A_ROUND, len(self._discovered)))
        servers = [*self._configured, *discovered]
        random.shuffle(servers)
        return sorted(servers, key=lambda server: server == self._latest)

    async def _dial(self, server: Server, prepare: Prepare) -> Connection:
        warnings: list[Problem] = []
        require_tls = tls.wanted(self._tls)
        try:
            login = credentials.login(self._auth, warn=warnings.append)
            # Only where it is needed: loading the system's CAs takes 45 ms.
            context = tls.context(self._tls) if server.tls or require_tls else None
        except ConfigError as error:
            raise DialError(Failure(str(error), error.hint, final=True)) from None
        finally:
            if warnings and not self._warned:
                self._warned = True
                self._warn(f"warning: {warnings[0].what}")
                self._warn(f"hint: {warnings[0].hint}")
        connection = await Connection.dial(
            server,
            login=login,
            source=credentials.source(self._auth),
            context=context,
            require_tls=require_tls,
            report=self._report,
        )
        try:
            await prepare(connection)
        except BaseException:
            await connection.close()
            raise
        return connection
