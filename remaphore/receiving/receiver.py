"""The one-shot receiver: accepted messages are passed to the plugins, and their reply is sent to the requester."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import structlog

from remaphore.config.settings import Config
from remaphore.hooks.dispatch import PreparedHook, emit, emit_plain
from remaphore.messaging.replier import try_send_reply
from remaphore.messaging.signer import Clock, Signer
from remaphore.protocol import subject
from remaphore.protocol.gate import Filters
from remaphore.protocol.message import NO_DATA, Message, Reply
from remaphore.protocol.peers import by_key
from remaphore.receiving.gates import make_gate
from remaphore.receiving.inline import FULL, Inbox, InlineAdmission
from remaphore.receiving.plugin_errors import BLOCKED_SECONDS, PluginErrorReporter
from remaphore.receiving.processor import PASSED, MessageProcessor
from remaphore.receiving.receipts import ReceiptSender
from remaphore.receiving.rejections import Rejections
from remaphore.receiving.throttle import DropThrottle
from remaphore.tasks import seconds_until, spawn
from remaphore.transport.bus import Bus

if TYPE_CHECKING:
    import pluggy

# At the end, `remaphore_handled` hooks of earlier messages may take STOP_SECONDS; then the plugins are told to end what
# runs. That may take STOP_SECONDS to be ended and replied to: longer than a script's grace period after SIGTERM.
STOP_SECONDS = 5.0

# Rejected at the end before the event loop does something else: it must not seem to be blocked.
MAX_REJECTIONS = 100
_ENDING = "the receiver ends"

_log = structlog.get_logger()


class Receiver:
    """Receives on one subject, one message at a time, until it is stopped, the deadline, or the first one (*once*).

    What no plugin acts on ends where it is accepted, in its turn: it needs no queue and no task.
    """

    def __init__(
        self,
        bus: Bus,
        config: Config,
        *,
        filters: Filters,
        plugins: pluggy.PluginManager,
        subject_name: str = "",
        once: bool = False,
        clock: Clock = time.time_ns,
    ) -> None:
        """*filters*: which messages to accept. *subject_name*: the part after the root, `all` if empty."""
        self.handled = 0
        self._bus = bus
        self._config = config
        self._hook = hook = plugins.hook
        self._admitted = PreparedHook(hook.remaphore_admitted)
        self._once = once
        self._signer = Signer(config, clock)
        self._legacy = frozenset(key for key, peer in by_key(config.peers).items() if peer.legacy)
        self._receipts = ReceiptSender(bus, config.subject, self._signer)
        self._errors = errors = PluginErrorReporter()
        self._processor = MessageProcessor(plugins, errors, default_reply=lambda _: Reply(None, NO_DATA))
        self._subject = subject.for_messages(config.subject, subject_name)
        self._drops = DropThrottle(lambda drop: emit_plain(hook.remaphore_dropped, drop=drop))
        self._rejections = Rejections(
            lambda rejected, count: emit_plain(hook.remaphore_rejected, **rejected._asdict(), count=count)
        )
        self._inbox = Inbox(
            on_admit=self._notify_admitted,
            on_full=lambda message: self._rejections.add(message, "busy", FULL, admitted=False),
        )
        gate = make_gate(config, filters, subject=self._subject)
        self._admission = InlineAdmission(gate, on_accept=self._accept, on_drop=self._drops.add, clock=clock)
        self._stopped = asyncio.Event()
        self._ending = False
        self._reason = "done"
        self._busy = False

    def stop(self, reason: str) -> None:
        """End `run` soon: what is being handled is ended, and replied to."""
        self._reason = reason
        self._stopped.set()

    async def run(self, *, deadline: float | None, ready: Callable[[], None]) -> int:
        """Receive; call *ready* once the broker has confirmed. Return the number of messages that were handled.

        *deadline*: by the loop's clock, None for none. Both it and `stop` also end the wait for a broker that never
        confirms. Raise TransportError if it could not subscribe.
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
            self._once = True  # what is being handled now is the last
            self._ending = True
            self._receipts.close()
            if not self._busy:
                worker.cancel()
            for number, message in enumerate(self._inbox.pop_all(), 1):
                self._rejections.add(message, "stopping", _ENDING, admitted=True)
                if not number % MAX_REJECTIONS:
                    await asyncio.sleep(0)
            try:
                await self._processor.join(timeout=STOP_SECONDS)
                await self._shut_down(worker)
            finally:
                self._admission.close()
        if not worker.cancelled():
            worker.result()
        return self.handled

    async def _shut_down(self, worker: asyncio.Task[None]) -> None:
        """Tell the plugins to end what runs, and return when *worker* has ended, after STOP_SECONDS at the latest."""
        ends = time.monotonic() + STOP_SECONDS
        await emit(self._hook.remaphore_shutdown, timeout=STOP_SECONDS, reason=self._reason)
        if self._busy:
            await asyncio.wait({worker}, timeout=max(0.0, ends - time.monotonic()))
        worker.cancel()
        await asyncio.wait({worker})
        await self._processor.join(timeout=max(0.0, ends - time.monotonic()))
        self._drops.close()
        self._rejections.close()

    def _accept(self, messages: Iterable[Message]) -> None:
        """Queue *messages*, or end those at once on which nothing acts, while nothing is before them."""
        acts = functools.cache(self._processor.acts)
        in_task = asyncio.current_task() is not None
        # In this iteration of the loop, only this method changes it.
        may_pass = not (self._once or self._busy or self._processor.notifying_too_much) and self._inbox.empty
        for message in messages:
            if self._ending:
                self._rejections.add(message, "stopping", _ENDING, admitted=False)
            elif may_pass and not message.wants_reply and not acts(message.verb):
                self.handled += 1
                self._notify_admitted(message, in_task=in_task)
                wait_for = self._processor.notify_handled(message, PASSED, sent=False, in_task=in_task)
                may_pass = wait_for is None
            else:
                may_pass = False
                self._inbox.put(message)

    def _notify_admitted(self, message: Message, *, in_task: bool = True) -> None:
        admitted = self._admitted.call((message,), slow=BLOCKED_SECONDS, in_task=in_task)
        if admitted:
            self._errors.report(admitted, blocking=True)

    async def _receive(self, ready: Callable[[], None]) -> None:
        await self._bus.subscribe_batches(self._subject, self._admission.deliver)
        ready()
        while True:
            message = await self._inbox.get()
            self._busy = True
            self.handled += 1
            self._receipts.begin(message, legacy=message.sender in self._legacy)
            try:
                result = await self._processor.run(message, timeout=None)
                self._receipts.end(message.digest)
                sent = result.reply is not None and await try_send_reply(
                    self._bus, self._config, self._signer, message, result.reply
                )
            except asyncio.CancelledError:  # what runs did not end within STOP_SECONDS
                _log.warning("message_interrupted", **message.log_fields)
                raise
            pending = self._processor.notify_handled(message, result, sent=sent)
            if pending is not None:
                await asyncio.wait({pending})
            if self._once:
                await self._processor.join()
                return
            self._busy = False
