"""The plugin `permissions`: reports to a peer its own permissions here, and nothing about any other peer.

It replies to the verb `permissions`, which a peer must be permitted to send. The reply has exit code 0 and one JSON
object as output; `SCHEMA` is incremented when a key changes its meaning, and keys may be added at any time.
"""

from __future__ import annotations

import json
import time
from importlib.metadata import version

from remaphore import Action, Config, Message, PluginContext, Reply, Step, hookimpl

VERB = "permissions"
SCHEMA = 1


class Permissions:
    """Replies from the configuration that the daemon uses at the moment."""

    def __init__(self) -> None:
        self._config: Config | None = None
        self._version = version("remaphore")
        self._invocation = self._instance = ""  # until the daemon has started

    @hookimpl
    def remaphore_configure(self, config: Config) -> None:
        """Reply from *config*."""
        self._config = config

    @hookimpl
    async def remaphore_startup(self, context: PluginContext) -> None:
        """Report the invocation of *context*: two machines with one key are told apart by it."""
        self._invocation, self._instance = context.invocation, context.instance

    @hookimpl
    def remaphore_reloaded(self, config: Config) -> None:
        """Reply from *config* from now on."""
        self._config = config

    @hookimpl
    def remaphore_plan(self, message: Message) -> list[Step] | None:
        """Return a step for the verb `permissions`; no program runs for it."""
        return [Step(action=Action.RUN, name="plugin permissions")] if message.verb == VERB else None

    @hookimpl
    def remaphore_acts(self, verb: str) -> bool:
        """Return whether *verb* is `permissions`."""
        return verb == VERB

    @hookimpl
    def remaphore_message(self, message: Message) -> Reply | None:
        """Reply to the verb `permissions`; leave all others to other plugins."""
        config = self._config
        if message.verb != VERB or config is None:
            return None
        # The first table of a key counts, as it does at the gate.
        peer = next((peer for peer in config.peers if peer.key == message.sender), None)
        answer = {
            "schema": SCHEMA,
            "destination": config.destination,
            "known_as": peer.destination if peer else "",
            "verbs": sorted(peer.verbs) if peer else [],
            "only": {verb: rule.settings() for verb, rule in peer.only.items()} if peer else {},
            "allow_skew_ns": config.allow_skew_ns,
            "version": self._version,
            "invocation": self._invocation,
            "instance": self._instance,
            "time_ns": time.time_ns(),
        }
        return Reply(0, json.dumps(answer).encode())
