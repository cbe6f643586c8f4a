"""One message through the plugins: they act, what came of it is told, and who asked is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from remaphore.config.settings import Config
from remaphore.errors import RemaphoreError
from remaphore.hooks.dispatch import Outcome, emit
from remaphore.protocol.message import Message, Reply
from remaphore.runtime.replier import send_reply
from remaphore.runtime.signer import Signer
from remaphore.transport.bus import Bus

if TYPE_CHECKING:
    import pluggy

# How long a plugin may take to note that something was handled.
NOTE_SECONDS = 5.0

_log = structlog.get_logger()


class Handling:
    """Knows where messages are acted on and where replies go. *nothing*: the reply if no plugin had one."""

    def __init__(self, bus: Bus, config: Config, plugins: pluggy.PluginManager, signer: Signer, nothing: Reply) -> None:
        self.config = config
        self._bus = bus
        self._hook = plugins.hook
        self._signer = signer
        self._nothing = nothing

    async def act(self, message: Message, *, timeout: float | None) -> Reply:
        """Hand *message* to the plugins, *timeout* seconds at most; return the reply that it comes to."""
        outcomes = await emit(self._hook.remaphore_message, timeout=timeout, message=message)
        for outcome in outcomes:
            await emit(self._hook.remaphore_handled, timeout=NOTE_SECONDS, message=message, outcome=outcome)
        return choose_reply(outcomes, self._nothing)

    async def answer(self, message: Message, reply: Reply) -> bool:
        """Send *reply* if the sender of *message* waits for one; return whether it was sent. Failures are logged."""
        if not message.wants_reply:
            return False
        try:
            await send_reply(self._bus, self.config, self._signer, message, reply)
        except RemaphoreError as error:
            _log.error("reply_failed", verb=message.verb, peer=message.peer, error=str(error))
            return False
        return True


def choose_reply(outcomes: list[Outcome], nothing: Reply) -> Reply:
    """Return the first reply that a plugin gave; -1 if there are errors only; else *nothing*."""
    replies = [outcome.result for outcome in outcomes if isinstance(outcome.result, Reply)]
    if len(replies) > 1:
        _log.warning("replies_dropped", kept=replies[0].exit_code, dropped=[reply.exit_code for reply in replies[1:]])
    if replies:
        return replies[0]
    return Reply(-1) if any(outcome.error is not None for outcome in outcomes) else nothing
