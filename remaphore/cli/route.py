"""Which way send, request and receive go: through the local agent, or directly with the keys of a configuration."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser
    from remaphore.config.settings import Config
    from remaphore.node import Node


class Route(NamedTuple):
    """The way of a command. config: of this node, or what the agent tells of it. agent: its socket; empty: directly."""

    config: Config
    agent: str = ""

    def connect(self, *, timeout: float | None, on_notice: Callable[[str], None]) -> AbstractAsyncContextManager[Node]:
        """Return what `remaphore.connect` returns for this way."""
        if not self.agent:
            from remaphore.node import connect

            return connect(self.config, timeout=timeout, on_notice=on_notice)
        from contextlib import nullcontext

        from remaphore.agent.client import AgentConfig, AgentNode

        assert isinstance(self.config, AgentConfig)
        return nullcontext(AgentNode(self.agent, self.config, on_notice))


def add_route(parser: Parser) -> None:
    """Add the options that decide the way."""
    from remaphore.cli.arguments import add_config

    add_config(parser)
    parser.add_argument("--agent", metavar="PATH", help="use the agent with this socket (default: the system's)")
    parser.add_argument("--direct", action="store_true", help="use the configuration, even if there is an agent")


def choose(config: str | None, *, agent: str | None, direct: bool) -> Route:
    """Return the way that these options and the environment mean. Raise AgentError, ConfigError or UsageError.

    config, agent: a file and a socket, None if they are not given. An agent that is there and cannot be used is an
    error, see `remaphore.agent.place`.
    """
    path = None
    if agent is not None or not (direct or config is not None):
        from remaphore.agent import place

        path = place.find(os.environ, named=agent, direct=direct, config=config)
    if path is None:
        from remaphore.cli.configuration import load_config

        return Route(load_config(config))
    from remaphore import tasks
    from remaphore.agent.client import read_config

    return Route(tasks.run(read_config(path)), path)
