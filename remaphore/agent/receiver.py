"""The one-shot receiver through the agent: its messages are passed to the plugins here, their replies signed there.

It does what `remaphore.receiving.receiver` does with a connection and keys of its own. The agent filters, verifies, and
sends the receipts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

import structlog

from remaphore.agent.client import AgentNode
from remaphore.hooks.dispatch import emit, emit_plain
from remaphore.protocol.message import NO_DATA, Message, Reply
from remaphore.receiving.plugin_errors import PluginErrorReporter
from remaphore.receiving.processor import MessageProcessor
from remaphore.receiving.receiver import STOP_SECONDS
from remaphore.tasks import seconds_until, spawn

if TYPE_CHECKING:
    import pluggy

    from remaphore.protocol.gate import Filters

_log = structlog.get_logger()


class AgentReceiver:
    """Receives through *node*, one message at a time, until it is stopped, the deadline, or the first one (*once*)."""

    def __init__(
        self,
        node: AgentNode,
        *,
        id: str,  # noqa: A002 - as the option is called
        filters: Filters,
        plugins: pluggy.PluginManager,
        subject_name: str = "",
        once: bool = False,
    ) -> None:
        """*id*: the text that the filters have as bytes, which the agent turns into them itself."""
        self.handled = 0
        self._node = node
        self._id = id
        self._filters = filters
        self._hook = plugins.hook
        self._subject_name = subject_name
        self._once = once
        self._processor = MessageProcessor(plugins, PluginErrorReporter(), default_reply=lambda _: Reply(None, NO_DATA))
        self._stopped = asyncio.Event()
        self._ending = False
        self._busy = False
        self._reason = "done"

    def stop(self, reason: str) -> None:
        """End `run` soon: what is being handled is ended, and replied to."""
        self._reason = reason
        self._stopped.set()

    async def run(self, *, deadline: float | None, ready: Callable[[], None]) -> int:
        """Receive; call *ready* once the broker has confirmed. Return the number of messages that were handled.

        *deadline*: by the loop's clock, None for none. Raise AgentError, or ConnectionLostError if the agent goes.
        """
        worker = spawn(self._receive(ready), name="receiver")
        stopped = spawn(self._stopped.wait(), name="receiver stop")
        left = seconds_until(deadline)
        try:
            done, _ = await asyncio.wait({worker, stopped}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                self._reason = "timeout"
        finally:
            stopped.cancel()
            self._ending = True  # what is being handled now is the last
            if not self._busy:
                worker.cancel()
            await self._shut_down(worker)
        if not worker.cancelled():
            worker.result()
        return self.handled

    async def _shut_down(self, worker: asyncio.Task[None]) -> None:
        """Tell the plugins to end what runs, and return when *worker* has ended, after STOP_SECONDS at the latest."""
        await self._processor.join(timeout=STOP_SECONDS)
        ends = time.monotonic() + STOP_SECONDS
        await emit(self._hook.remaphore_shutdown, timeout=STOP_SECONDS, reason=self._reason)
        if self._busy:
            await asyncio.wait({worker}, timeout=max(0.0, ends - time.monotonic()))
        worker.cancel()
        await asyncio.wait({worker})
        await self._processor.join(timeout=max(0.0, ends - time.monotonic()))

    async def _receive(self, ready: Callable[[], None]) -> None:
        filters = self._filters
        messages = self._node.receive(
            verbs=filters.verbs,
            id=self._id,
            sender=filters.sender,
            subject_name=self._subject_name,
            pattern=filters.pattern or "",
            any_destination=filters.any_destination,
            count=int(self._once),
            on_ready=ready,
        )
        async with aclosing(messages) as arriving:  # type: ignore[type-var]
            async for message in arriving:
                await self._handle(message)
                if self._ending:
                    return

    async def _handle(self, message: Message) -> None:
        self._busy = True
        self.handled += 1
        emit_plain(self._hook.remaphore_admitted, message=message)
        try:
            result = await self._processor.run(message, timeout=None)
        except asyncio.CancelledError:  # what runs did not end within STOP_SECONDS
            _log.warning("message_interrupted", **message.log_fields)
            raise
        sent = result.reply is not None and message.wants_reply
        if sent:
            assert result.reply is not None
            await self._node.reply(message, result.reply.exit_code, result.reply.output)
        pending = self._processor.notify_handled(message, result, sent=sent)
        if pending is not None:
            await asyncio.wait({pending})
        if self._once:
            await self._processor.join()
        self._busy = False
