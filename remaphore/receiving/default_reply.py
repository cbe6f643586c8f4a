"""The daemon's reply to a request that no plugin replied to."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import version
from types import MappingProxyType

from remaphore.protocol import ping, status
from remaphore.protocol.message import Message, Reply
from remaphore.text import to_json

# The exit code in a reply when no plugin had one: the shell's "command not found".
NO_HANDLER = 127
# The verbs that need no handler, and what the daemon replies.
BUILT_IN = MappingProxyType({ping.VERB: "version and uptime", status.VERB: "status"})


class DefaultReply:
    """Makes the built-in replies to `ping` and `remaphore-status`, and for other verbs that there is no handler."""

    def __init__(self, invocation: ping.Invocation, current: Callable[[bytes], status.Status] | None = None) -> None:
        """*current*: returns the status of the daemon, in which the message with a digest is left out."""
        self._current = current
        self._invocation = invocation
        self._started = time.monotonic()
        self._version = version("remaphore")

    def __call__(self, message: Message) -> Reply:
        """Return the reply to *message*."""
        if message.verb == status.VERB and self._current is not None:
            return Reply(0, to_json(status.to_document(status.cut(self._current(message.digest)))).encode())
        if message.verb != ping.VERB:
            return Reply(NO_HANDLER, b"no handler\n")
        uptime = time.monotonic() - self._started
        return Reply(0, ping.format_reply(self._invocation, version=self._version, uptime_seconds=uptime))
