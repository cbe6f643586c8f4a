"""One message through the plugins: they act, what came of it is told, and who asked is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from remaphore.config.settings import Config
from remaphore.errors import RemaphoreError
from remaphore.hooks.dispatch import Outcome, emit, emit_detached
from remaphore.messaging.replier import send_reply
from remaphore.messaging.signer import Signer
from remaphore.protocol.message import Message, Reply
from remaphore.receiving.plugin_errors import Faults
from remaphore.transport.bus import Bus

if TYPE_CHECKING:
    import pluggy

# How long a plugin may take to note that something was handled.
NOTE_SECONDS = 5.0
# Beyond it `Reply.parse` would not read it as an exit code, and far beyond it no ledger could record it.
EXIT_CODE_LIMIT = 10**10

_log = structlog.get_logger()


class Handling:
    """Knows where messages are acted on and where replies go. *nothing*: the reply if no plugin had one."""

    def __init__(self, bus: Bus, config: Config, plugins: pluggy.PluginManager, signer: Signer, nothing: Reply) -> None:
        self.config = config
        self._bus = bus
        self._hook = plugins.hook
        self._signer = signer
        self._nothing = nothing
        self._faults = Faults()

    async def act(self, message: Message, *, timeout: float | None) -> tuple[tuple[Outcome, ...], Reply | None]:
        """Hand *message* to the plugins, *timeout* seconds at most; return what each did, and the reply.

        That is None only if no reply is wanted and no plugin gave one.
        """
        called = await emit(self._hook.remaphore_message, timeout=timeout, message=message)
        outcomes = tuple(judge(outcome) for outcome in called)
        return outcomes, choose_reply(outcomes) or (self._nothing if message.wants_reply else None)

    def note_handled(
        self, message: Message, outcomes: tuple[Outcome, ...], reply: Reply | None, *, sent: bool
    ) -> asyncio.Task[None] | None:
        """Report to the plugins that *message* was handled; return the task that does it, None if it is done.

        Called after the reply was sent, which no plugin may delay by what it notes.
        """
        return emit_detached(
            self._hook.remaphore_handled,
            timeout=NOTE_SECONDS,
            report=self._faults.note,
            message=message,
            outcomes=outcomes,
            reply=reply,
            sent=sent,
        )

    async def answer(self, message: Message, reply: Reply | None) -> bool:
        """Send *reply* if the sender of *message* waits for one; return whether it was sent. Failures are logged."""
        if not message.wants_reply or reply is None:
            return False
        try:
            await send_reply(self._bus, self.config, self._signer, message, reply)
        except RemaphoreError as error:
            _log.error("reply_failed", verb=message.verb, peer=message.sender_name, error=str(error))
            return False
        return True


def judge(outcome: Outcome) -> Outcome:
    """Return *outcome* of `remaphore_message`, or as an error if its result is neither None nor a sound Reply."""
    problem = _problem(outcome.result)
    return replace(outcome, result=None, error=TypeError(problem)) if problem else outcome


def _problem(result: object) -> str | None:
    if result is None:
        return None
    if not isinstance(result, Reply):
        return f"remaphore_message returned {type(result).__name__}, not a Reply or None"
    # Whatever the annotations promise: a plugin need not have been checked against them.
    exit_code: object = result.exit_code
    output: object = result.output
    if not isinstance(exit_code, int | None):
        return f"the reply's exit_code is {type(exit_code).__name__}, not int"
    if exit_code is not None and abs(exit_code) >= EXIT_CODE_LIMIT:
        return "the reply's exit_code has more than ten digits"
    return None if isinstance(output, bytes) else f"the reply's output is {type(output).__name__}, not bytes"


def choose_reply(outcomes: Sequence[Outcome]) -> Reply | None:
    """Return the first reply that a plugin gave; -1 if there are errors only; else None."""
    replies = [outcome.result for outcome in outcomes if isinstance(outcome.result, Reply)]
    if len(replies) > 1:
        _log.warning("replies_dropped", kept=replies[0].exit_code, dropped=[reply.exit_code for reply in replies[1:]])
    if replies:
        return replies[0]
    return Reply(-1) if any(outcome.error is not None for outcome in outcomes) else None
