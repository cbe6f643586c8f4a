"""The daemon's reply to a request that no plugin replied to."""

from __future__ import annotations

import time
from importlib.metadata import version

from remaphore.protocol import ping
from remaphore.protocol.message import Message, Reply

# The exit code in a reply when no plugin had one: the shell's "command not found".
NO_HANDLER = 127


class DefaultReply:
    """Makes the built-in reply to `ping`, and for every other verb that there is no handler."""

    def __init__(self, invocation: ping.Invocation) -> None:
        self._invocation = invocation
        self._started = time.monotonic()
        self._version = version("remaphore")

    def __call__(self, message: Message) -> Reply:
        """Return the reply to *message*."""
        if message.verb != ping.VERB:
            return Reply(NO_HANDLER, b"no handler\n")
        uptime = time.monotonic() - self._started
        return Reply(0, ping.format_reply(self._invocation, version=self._version, uptime_seconds=uptime))
