"""The receive loop: what the gate takes goes to the plugins, and their answer to who asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from remaphore.config.settings import Config
from remaphore.hooks.dispatch import emit, emit_plain
from remaphore.messaging.signer import Clock, Signer
from remaphore.protocol import subject
from remaphore.protocol.drop import Drop
from remaphore.protocol.gate import Filters
from remaphore.protocol.message import NO_DATA, Message, Reply
from remaphore.receiving.inline import Inbox, Intake, make_gate
from remaphore.receiving.processor import Handling
from remaphore.receiving.throttle import DropThrottle
from remaphore.tasks import spawn
from remaphore.transport.bus import Bus

if TYPE_CHECKING:
    import pluggy

# How long what runs at the end may take to be ended and answered: longer than a script's grace after TERM.
STOP_SECONDS = 5.0


class Receiver:
    """Receives on one subject, one message at a time, until it is stopped, the deadline, or the first one (*once*)."""

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
        """*filters*: what it waits for. *subject_name*: the part after the root, `all` if empty."""
        self.handled = 0
        self._bus = bus
        self._hook = plugins.hook
        self._once = once
        self._handling = Handling(bus, config, plugins, Signer(config, clock), nothing=Reply(None, NO_DATA))
        self._subject = subject.for_messages(config.subject, subject_name)
        self._groups = DropThrottle(self._emit_dropped)
        self._inbox = Inbox(self._groups.add, self._emit_admitted)
        gate = make_gate(config, filters, subject=self._subject)
        self._intake = Intake(gate, taken=self._inbox.put, dropped=self._groups.add, clock=clock)
        self._stopped = asyncio.Event()
        self._reason = "done"
        self._busy = False

    def stop(self, reason: str) -> None:
        """End `run` soon: what is being handled is ended, and answered."""
        self._reason = reason
        self._stopped.set()

    async def run(self, *, deadline: float | None, ready: Callable[[], None]) -> int:
        """Receive; call *ready* once the broker has confirmed. Return the number of messages that were handled.

        *deadline*: by the loop's clock, None for none. Both it and `stop` also end the wait for a broker that never
        confirms. Raises TransportError if it could not subscribe.
        """
        worker = spawn(self._receive(ready), name="receiver")
        stopped = spawn(self._stopped.wait(), name="receiver stop")
        try:
            await self._wait_for(worker, stopped, deadline)
        finally:
            stopped.cancel()
            await self._end(worker)
        return self.handled

    async def _wait_for(self, worker: asyncio.Task[None], stopped: asyncio.Task[bool], deadline: float | None) -> None:
        left = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
        done, _ = await asyncio.wait({worker, stopped}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            self._reason = "timeout"

    async def _receive(self, ready: Callable[[], None]) -> None:
        await self._bus.subscribe(self._subject, self._intake.deliver)
        ready()
        await self._work()

    async def _end(self, worker: asyncio.Task[None]) -> None:
        self._once = True  # what is being handled now is the last
        await emit(self._hook.remaphore_shutdown, timeout=STOP_SECONDS, reason=self._reason)
        if self._busy:
            await asyncio.wait({worker}, timeout=STOP_SECONDS)
        worker.cancel()
        await asyncio.wait({worker})
        self._groups.close()
        if not worker.cancelled():
            worker.result()

    async def _work(self) -> None:
        while True:
            message = await self._inbox.get()
            self._busy = True
            self.handled += 1
            outcomes, reply = await self._handling.act(message, timeout=None)
            sent = await self._handling.answer(message, reply)
            noting = self._handling.note_handled(message, outcomes, reply, sent=sent)
            if noting is not None:
                await noting
            self._busy = False
            if self._once:
                return

    def _emit_admitted(self, message: Message) -> None:
        emit_plain(self._hook.remaphore_admitted, message=message)

    def _emit_dropped(self, drop: Drop) -> None:
        emit_plain(self._hook.remaphore_dropped, drop=drop)
