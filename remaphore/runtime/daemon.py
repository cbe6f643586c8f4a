"""The daemon: the receive loop as a service that stays up for months."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from remaphore.config.settings import Config, VerbSettings
from remaphore.errors import ConfigError
from remaphore.hooks.dispatch import emit, emit_plain
from remaphore.hooks.status import Status, Tally
from remaphore.protocol import subject
from remaphore.protocol.gate import Filters
from remaphore.protocol.message import REFUSED, Message, Reply
from remaphore.protocol.rejection import Reason, Rejection
from remaphore.runtime.faults import Faults
from remaphore.runtime.handling import Handling
from remaphore.runtime.intake import Intake, make_gate
from remaphore.runtime.queues import VerbQueues
from remaphore.runtime.rejections import RejectionGroups
from remaphore.runtime.signer import Clock, Signer
from remaphore.tasks import spawn
from remaphore.transport.bus import Bus

if TYPE_CHECKING:
    import pluggy

# Exit codes in replies: sysexits.h EX_TEMPFAIL and EX_NOPERM, and the shell's "command not found".
BUSY = 75
NOT_PERMITTED = 77
NO_HANDLER = 127

# What runs at SIGTERM may finish within this time, and is then ended, for which there is STOP_SECONDS.
DRAIN_SECONDS = 5.0
STOP_SECONDS = 5.0
# On top of a verb's own limit, for a plugin that keeps to it to say so itself.
GRACE_SECONDS = 5.0
HOOK_SECONDS = 5.0
# Refusals that are on their way at one time; who floods us is refused without a word.
MAX_REFUSALS = 100

_NEED_RESTART = ("servers", "auth", "tls", "subject", "state_dir", "enabled_plugins", "plugins")

_log = structlog.get_logger()


class Daemon:
    """Receives, queues by verb, acts, replies, until it is stopped; can take a new configuration while it runs."""

    def __init__(self, bus: Bus, config: Config, *, plugins: pluggy.PluginManager, clock: Clock = time.time_ns) -> None:
        self.tally = Tally()
        self._bus = bus
        self._config = config
        self._hook = plugins.hook
        self._signer = Signer(config, clock)
        self._handling = Handling(bus, config, plugins, self._signer, nothing=Reply(NO_HANDLER, b"no handler\n"))
        self._faults = Faults()
        self._groups = RejectionGroups(self._emit_rejected)
        self._queues = VerbQueues(self._settings, handle=self._handle, expired=self._expire)
        self._subject = subject.for_messages(config.subject)
        self._intake = Intake(
            make_gate(config, Filters(), subject=self._subject), taken=self._take, rejected=self._reject, clock=clock
        )
        self._refusals: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End `run`: take nothing more, finish or end what runs, answer the rest."""
        self._stopping.set()

    async def run(self, *, ready: Callable[[], None]) -> None:
        """Receive until `stop`; call *ready* once the broker has confirmed. Raises TransportError at the start only."""
        status = Status(
            self.tally,
            queues=self._queues.state,
            connected=lambda: self._bus.connected,
            reconnects=lambda: self._bus.reconnects,
        )
        await self._bus.subscribe(self._subject, self._deliver)
        self._faults.note(await emit(self._hook.remaphore_startup, timeout=HOOK_SECONDS, status=status))
        ready()
        try:
            await self._stopping.wait()
        finally:
            await self._end()

    def reload(self, load: Callable[[], Config]) -> bool:
        """Take the configuration that *load* gives, or keep the old one if that raises ConfigError; tell which.

        Peers, identities, verbs and hook directories change at once, for what waits too; what runs goes on. Nothing
        is run again: the replay window is kept.
        """
        try:
            config = load()
        except ConfigError as error:
            _log.error("reload_refused", error=str(error), mend="the old configuration stays; mend the file, reload")
            return False
        for name in _NEED_RESTART:
            if getattr(config, name) != getattr(self._config, name):
                _log.warning("restart_needed", setting=name)
        self._config = replace(config, **{name: getattr(self._config, name) for name in _NEED_RESTART})
        self._signer.config = self._handling.config = self._config
        window = self._intake.gate.window
        window.allow(self._config.allow_skew_ns)
        self._intake.gate = make_gate(self._config, Filters(), subject=self._subject, window=window)
        self._faults.note(emit_plain(self._hook.remaphore_reloaded, config=self._config))
        _log.info("reloaded", peers=len(self._config.peers), source=self._config.source)
        return True

    def _settings(self, verb: str) -> VerbSettings:
        return self._config.verb(verb)

    def _deliver(self, raw: bytes) -> None:
        self.tally.received += 1
        self._intake.deliver(raw)

    def _take(self, message: Message) -> None:
        if self._stopping.is_set():
            self._refuse(message, BUSY, "stopping", "shutting down")
            return
        full = self._queues.put(message)
        if full is None:
            self._faults.note(emit_plain(self._hook.remaphore_admitted, message=message), blocking=True)
        else:
            self._groups.add(Rejection(Reason.BUSY, full, len(message.payload), self._subject))
            self._refuse(message, BUSY, "busy", full)

    def _reject(self, rejection: Rejection) -> None:
        self.tally.rejected[rejection.reason] += 1
        self._groups.add(rejection)

    def _emit_rejected(self, rejection: Rejection) -> None:
        self._faults.note(emit_plain(self._hook.remaphore_rejected, rejection=rejection), blocking=True)

    async def _handle(self, message: Message) -> None:
        # The configuration may have changed while it waited.
        peer = self._intake.gate.policy.peers.get(message.sender)
        if peer is None or not peer.may_send(message.verb):
            self._refuse(message, NOT_PERMITTED, "not-permitted", "no longer among the verbs of this peer")
            return
        limit = self._config.verb(message.verb).timeout_seconds
        try:
            reply = await self._handling.act(message, timeout=limit + GRACE_SECONDS)
            await self._answer(message, reply)
        except Exception as error:  # noqa: BLE001 - a worker that ends would leave its verb's queue without one
            _log.error("message_lost", verb=message.verb, peer=message.peer, error=repr(error))
        self.tally.handled[message.verb] += 1

    async def _expire(self, message: Message) -> None:
        waited = self._config.verb(message.verb).max_wait_seconds
        self._refuse(message, BUSY, "expired", f"it waited longer than {waited:g} s")

    async def _answer(self, message: Message, reply: Reply) -> None:
        if message.wants_reply:
            sent = await self._handling.answer(message, reply)
            self.tally.replies["sent" if sent else "failed"] += 1

    def _refuse(self, message: Message, code: int, why: str, detail: str) -> None:
        self.tally.refused[why] += 1
        if message.wants_reply and len(self._refusals) < MAX_REFUSALS:
            reply = Reply(code, REFUSED + f"{why}: {detail}".encode())
            sending = spawn(self._answer(message, reply), name="refusal")
            self._refusals.add(sending)
            sending.add_done_callback(self._refusals.discard)

    async def _end(self) -> None:
        await self._bus.unsubscribe(self._subject)
        for message in self._queues.take_all():
            self._refuse(message, BUSY, "stopping", "shutting down")
        await self._drained(DRAIN_SECONDS)
        self._faults.note(await emit(self._hook.remaphore_shutdown, timeout=STOP_SECONDS, reason="stopped"))
        await self._drained(STOP_SECONDS)
        self._groups.close()

    async def _drained(self, seconds: float) -> None:
        waiting = spawn(self._all_done(), name="drain")
        await asyncio.wait({waiting}, timeout=seconds)
        waiting.cancel()

    async def _all_done(self) -> None:
        await self._queues.join()
        if self._refusals:
            await asyncio.wait(self._refusals)
