"""`connect`, the beginning of the Python API: a node with a connection of its own, or through the local agent."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from remaphore.errors import UsageError
from remaphore.node import CONNECT_SECONDS, Node
from remaphore.node import connect as connect_directly

if TYPE_CHECKING:
    from remaphore.config.settings import Config


@asynccontextmanager
async def connect(
    config: Config | str | os.PathLike[str] | None = None,
    *,
    agent: str | os.PathLike[str] | None = None,
    timeout: float | None = CONNECT_SECONDS,
    on_notice: Callable[[str], None] = lambda _line: None,
    on_reconnect: Callable[[str], None] | None = None,
    on_protocol_error: Callable[[str], None] | None = None,
) -> AsyncIterator[Node]:
    """Connect to the broker of *config*, and yield a node; the connection is closed at the end of the block.

    config: a `Config`, the path of a file, or None for the file that the command line would use. agent: the path of the
    socket of a local agent, which then has the keys and the connection; there is no *config* then, and of the callbacks
    only *on_notice* is called. None: no agent, even if there is one. timeout: seconds to try while no server answers,
    None for no limit.

    The callbacks get one line for people. on_notice: after a second without a broker, then every 30 seconds, and when
    it is back. on_reconnect: at every reconnect, however short the interruption; on_notice is then not called
    when the broker is back. on_protocol_error: when a broker violates the NATS protocol, at most every 15 seconds;
    without it, on_notice is.

    Raise ConfigError, BrokerRefusedError (credentials or TLS, at once), BrokerUnavailableError (after *timeout*), or
    AgentError.
    """
    if agent is not None:
        if config is not None:
            raise UsageError("connect() takes a configuration or an agent, not both", hint="omit one of them")
        from remaphore.agent.client import AgentNode, read_config

        path = os.fspath(agent)
        yield AgentNode(path, await read_config(path), on_notice)
        return
    async with connect_directly(
        config,
        timeout=timeout,
        on_notice=on_notice,
        on_reconnect=on_reconnect,
        on_protocol_error=on_protocol_error,
    ) as connected:
        yield connected
