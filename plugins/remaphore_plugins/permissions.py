"""The plugin `permissions`: tells a peer who asks what that very peer may do here, and nothing about any other.

It answers the verb `permissions`, so a peer must be permitted that verb to ask. The reply's exit code is 0, its output
one JSON object; `SCHEMA` counts up when a key changes its meaning, and new keys may come at any time.
"""

from __future__ import annotations

import json
import time
from importlib.metadata import version

from remaphore import Action, Config, Message, Reply, Step, hookimpl

VERB = "permissions"
SCHEMA = 1


class Permissions:
    """Answers from the configuration as the daemon has it now."""

    def __init__(self) -> None:
        self._config: Config | None = None
        self._version = version("remaphore")

    @hookimpl
    def remaphore_configure(self, config: Config) -> None:
        """Answer from *config*."""
        self._config = config

    @hookimpl
    def remaphore_reloaded(self, config: Config) -> None:
        """Answer from *config* from now on."""
        self._config = config

    @hookimpl
    def remaphore_plan(self, message: Message) -> list[Step] | None:
        """Say that the verb is answered, and that no program runs for it."""
        return [Step(action=Action.RUN, name="plugin permissions")] if message.verb == VERB else None

    @hookimpl
    def remaphore_message(self, message: Message) -> Reply | None:
        """Answer the verb `permissions`; leave all others."""
        if message.verb != VERB or self._config is None:
            return None
        return Reply(0, json.dumps(_answer(self._config, message, self._version)).encode())


def _answer(config: Config, message: Message, program: str) -> dict[str, object]:
    # The first table of a key counts, as it does where messages are judged.
    peer = next((peer for peer in config.peers if peer.key == message.sender), None)
    return {
        "schema": SCHEMA,
        "destination": config.destination,
        "known_as": peer.destination if peer else "",
        "verbs": sorted(peer.verbs) if peer else [],
        "allow_skew_ns": config.allow_skew_ns,
        "version": program,
        "time_ns": time.time_ns(),
    }
