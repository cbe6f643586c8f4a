"""The daemon: the receive loop as a service that stays up for months."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from remaphore.config.settings import Config, VerbSettings
from remaphore.errors import ConfigError, LedgerError
from remaphore.hooks.context import PluginContext
from remaphore.hooks.dispatch import Outcome, emit, emit_plain
from remaphore.hooks.stats import DaemonStats
from remaphore.messaging.signer import Clock, Signer
from remaphore.protocol import subject, wire
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.gate import Filters
from remaphore.protocol.message import REJECTED, Message, Reply
from remaphore.protocol.rejection import RejectionPolicy
from remaphore.receiving.counters import DaemonCounters
from remaphore.receiving.inline import make_gate
from remaphore.receiving.ledger.ledger import Ledger
from remaphore.receiving.plugin_errors import Faults
from remaphore.receiving.processor import Handling
from remaphore.receiving.queues import VerbQueues
from remaphore.receiving.throttle import DropThrottle
from remaphore.receiving.verifier import Arrival, Verifier
from remaphore.tasks import spawn
from remaphore.transport.bus import Bus

if TYPE_CHECKING:
    import pluggy

# Exit codes in replies: sysexits.h EX_TEMPFAIL and EX_NOPERM, the shell's "command not found", and 128 + SIGTERM.
BUSY = 75
NOT_PERMITTED = 77
NO_HANDLER = 127
INTERRUPTED = 143

# What runs at SIGTERM may finish within this time, and is then ended, for which there is STOP_SECONDS.
DRAIN_SECONDS = 5.0
STOP_SECONDS = 5.0
# On top of a verb's own limit, for a plugin that keeps to it to say so itself.
GRACE_SECONDS = 5.0
HOOK_SECONDS = 5.0
# How often what is older than the window is forgotten, of senders that are silent too.
EXPIRE_SECONDS = 60.0
# Refusals, and replies sent again, that are on their way at one time; who floods us is rejected without a word.
MAX_ANSWERS = 100

_NEED_RESTART = ("servers", "auth", "tls", "subject", "state_dir", "enabled_plugins", "plugins")

_log = structlog.get_logger()


class Daemon:
    """Receives, queues by verb, acts, replies, until it is stopped; can take a new configuration while it runs."""

    def __init__(
        self,
        bus: Bus,
        config: Config,
        *,
        plugins: pluggy.PluginManager,
        ledger: Ledger,
        instance: str = "",
        clock: Clock = time.time_ns,
    ) -> None:
        """*instance*: the name of the daemon among those of this machine, for the plugins."""
        self.tally = DaemonCounters()
        self._instance = instance
        self._bus = bus
        self._clock = clock
        self._ledger = ledger
        self._config = config
        self._hook = plugins.hook
        self._signer = Signer(config, clock)
        self._handling = Handling(bus, config, plugins, self._signer, nothing=Reply(NO_HANDLER, b"no handler\n"))
        self._faults = Faults()
        self._groups = DropThrottle(self._emit_dropped)
        self._queues = VerbQueues(self._settings, handle=self._handle, expired=self._expire, displaced=self._displace)
        self._subject = subject.for_messages(config.subject)
        self._gate = make_gate(config, Filters(), subject=self._subject, window=ledger.window)
        self._verifier = Verifier(self._settle)
        self._rejection_policy = RejectionPolicy()
        self._answers: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End `run`: take nothing more, finish or end what runs, answer the rest."""
        self._stopping.set()

    def stats(self) -> DaemonStats:
        """Return the numbers of this moment."""
        return DaemonStats(
            received=self.tally.received,
            checking=self._verifier.waiting,
            dropped=dict(self.tally.dropped),
            rejected=dict(self.tally.rejected),
            handled=dict(self.tally.handled),
            replies=dict(self.tally.replies),
            queues=self._queues.state(),
            connected=self._bus.connected,
            reconnects=self._bus.reconnects,
            problem=self._ledger.problem,
        )

    async def run(self, *, ready: Callable[[], None]) -> None:
        """Receive until `stop`; call *ready* once the broker has confirmed. Raises TransportError at the start only.

        `stop` also ends the wait for a broker that never confirms. What it has delivered by then ends as usual.
        """
        expiring = spawn(self._expire_old(), name="expire")
        try:
            if await self._subscribed():
                context = PluginContext(config=self._config, instance=self._instance)
                started = await emit(
                    self._hook.remaphore_startup, timeout=HOOK_SECONDS, stats=self.stats, context=context
                )
                self._faults.note(started)
                ready()
                await self._report_interrupted()
                await self._stopping.wait()
        finally:
            expiring.cancel()
            await self._end()

    async def _subscribed(self) -> bool:
        """Subscribe; return False if `stop` came before the broker has confirmed."""
        subscribing = spawn(self._bus.subscribe(self._subject, self._deliver), name="subscribe")
        stopping = spawn(self._stopping.wait(), name="stop")
        try:
            await asyncio.wait({subscribing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return subscribing.done() and subscribing.result() is None
        finally:
            subscribing.cancel()
            stopping.cancel()

    def reload(self, load: Callable[[], Config]) -> bool:
        """Take the configuration that *load* gives, or keep the old one if that raises ConfigError; tell which.

        Peers, identities, verbs and hook directories change at once, for what waits too; what runs goes on. Nothing
        is run again: the replay window is kept.
        """
        try:
            config = load()
        except ConfigError as error:
            _log.error("reload_rejected", error=str(error), hint="the old configuration stays; hint the file, reload")
            return False
        for name in _NEED_RESTART:
            if getattr(config, name) != getattr(self._config, name):
                _log.warning("restart_needed", setting=name)
        self._config = replace(config, **{name: getattr(self._config, name) for name in _NEED_RESTART})
        self._signer.config = self._handling.config = self._config
        window = self._ledger.window
        window.allow(self._config.allow_skew_ns)
        self._gate = make_gate(self._config, Filters(), subject=self._subject, window=window)
        self._faults.note(emit_plain(self._hook.remaphore_reloaded, config=self._config))
        _log.info("reloaded", peers=len(self._config.peers), source=self._config.source)
        return True

    def _settings(self, verb: str) -> VerbSettings:
        return self._config.verb(verb)

    def _deliver(self, raw: bytes) -> None:
        now = self._clock()
        self.tally.received += 1
        frame = self._gate.decode(raw)
        if isinstance(frame, Drop):
            self._drop(frame, raw, now)
            return
        drop = self._gate.precheck(frame, now)
        if drop is not None:
            self._drop(drop, raw, now)
        elif self._ledger.behind:
            self._drop(Drop(DropReason.BUSY, "too much waits to be recorded", len(raw), self._subject), raw, now)
        elif not self._verifier.put(Arrival(self._gate, frame, now)):
            self._drop(Drop(DropReason.BUSY, "too much waits for its check", len(raw), self._subject), raw, now)

    def _settle(self, arrival: Arrival, verified: bool) -> None:  # noqa: FBT001 - a callback's result
        verdict = arrival.gate.commit(arrival.frame, arrival.now, verified=verified)
        if isinstance(verdict, Drop):
            self._drop(verdict, arrival.frame.raw, arrival.now)
        else:
            self._take(verdict)

    def _take(self, message: Message) -> None:
        if self._stopping.is_set():
            self._reject(message, BUSY, "stopping", "shutting down")
            return
        full = self._queues.put(message)
        if full is None:
            self._faults.note(emit_plain(self._hook.remaphore_admitted, message=message), blocking=True)
        else:
            self._groups.add(Drop(DropReason.BUSY, full, len(message.payload), self._subject))
            self._reject(message, BUSY, "busy", full)

    def _drop(self, drop: Drop, raw: bytes, now: int) -> None:
        self._groups.add(drop)
        rejected = (
            self._rejection_policy.consider(self._gate, raw, drop, now) if self._config.notify_rejections else None
        )
        if rejected is not None:
            self._reject(rejected, NOT_PERMITTED, str(drop.reason), drop.detail)
            return
        self.tally.dropped[drop.reason] += 1
        if (
            drop.reason is DropReason.DUPLICATE
            and len(self._answers) < MAX_ANSWERS
            and self._ledger.may_resend(wire.digest(raw))
        ):
            # Its bytes are those of a message whose signature held.
            self._answering(self._resend(wire.decode(raw).message()))

    def _emit_dropped(self, drop: Drop) -> None:
        self._faults.note(emit_plain(self._hook.remaphore_dropped, drop=drop), blocking=True)

    async def _handle(self, message: Message) -> Awaitable[None] | None:
        """Act on *message*; return what its verb need not wait for."""
        # The configuration may have changed while it waited.
        peer = self._gate.policy.peers.get(message.sender)
        if peer is None or not peer.may_send(message.verb):
            self._reject(message, NOT_PERMITTED, "not-permitted", "no longer among the verbs of this peer")
            return None
        try:
            await self._ledger.started(message)
        except LedgerError:
            self._reject(message, BUSY, "ledger", "the ledger cannot be written, see the log of the daemon")
            return None
        limit = self._config.verb(message.verb).timeout_seconds
        try:
            outcomes, reply = await self._handling.act(message, timeout=limit + GRACE_SECONDS)
        except Exception as error:  # noqa: BLE001 - a worker that ends would leave its verb's queue without one
            _log.error("message_lost", verb=message.verb, peer=message.sender_name, error=repr(error))
            return None
        finally:
            self.tally.count_handled(message.verb)
        if reply is not None and message.wants_reply:
            # On its own, so that the end of this message and the start of the next are one write.
            return spawn(self._finish(message, outcomes, reply), name="finish")
        self._ledger.note_done(message.digest)
        return self._handling.note_handled(message, outcomes, reply, sent=False)

    async def _finish(self, message: Message, outcomes: tuple[Outcome, ...], reply: Reply) -> None:
        try:
            await self._ledger.done(message.digest, reply)
        except LedgerError as error:
            # It ran, and who asked should know. After a restart it will count as interrupted, and not run again.
            _log.error("end_not_recorded", verb=message.verb, peer=message.sender_name, error=str(error))
        sent = False
        try:
            sent = await self._answer(message, reply)
        except Exception as error:  # noqa: BLE001 - the same as above
            _log.error("message_lost", verb=message.verb, peer=message.sender_name, error=repr(error))
        noting = self._handling.note_handled(message, outcomes, reply, sent=sent)
        if noting is not None:
            await noting

    async def _expire(self, message: Message) -> None:
        waited = self._config.verb(message.verb).max_wait_seconds
        self._reject(message, BUSY, "expired", f"it waited longer than {waited:g} s")

    def _displace(self, message: Message) -> None:
        self._reject(message, BUSY, "displaced", "it made room for a peer that had less waiting")

    async def _answer(self, message: Message, reply: Reply) -> bool:
        if not message.wants_reply:
            return False
        sent = await self._handling.answer(message, reply)
        self.tally.replies["sent" if sent else "failed"] += 1
        return sent

    def _reject(self, message: Message, code: int, why: str, detail: str) -> None:
        self.tally.rejected[why] += 1
        if message.wants_reply and len(self._answers) < MAX_ANSWERS:
            reply = Reply(code, REJECTED + f"{why}: {detail}".encode())
            # Without the payload: many may be on their way, and none needs it.
            self._answering(self._send_rejection(replace(message, payload=b""), reply))
        else:
            self._ledger.note_rejected(message.digest)

    async def _send_rejection(self, message: Message, reply: Reply) -> None:
        # Without a ledger that can be written nothing runs, so nothing could run later either.
        with contextlib.suppress(LedgerError):
            await self._ledger.rejected(message.digest)
        await self._answer(message, reply)

    async def _resend(self, message: Message) -> None:
        reply = await self._ledger.recorded(message.digest) if message.wants_reply else None
        if reply is not None:
            await self._answer(message, reply)

    async def _report_interrupted(self) -> None:
        """Tell who asked, once, that what ran when the last daemon ended did not come to an end that we know of."""
        for row in self._ledger.interrupted:
            reply = Reply(INTERRUPTED, b"remaphore: interrupted: the daemon ended while this ran\n")
            message = Message(
                sender=row.sender,
                destination="",
                verb=row.verb,
                uuid=b"",
                time_ns=row.time_ns,
                wants_reply=row.wants_reply,
                digest=row.digest,
            )
            _log.warning("message_interrupted", verb=row.verb, digest=row.digest.hex()[:16])
            with contextlib.suppress(LedgerError):
                await self._ledger.done(row.digest, reply)
                await self._answer(message, reply)
        self._ledger.interrupted.clear()

    async def _expire_old(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_SECONDS)
            self._ledger.expire(self._clock())

    def _answering(self, sending: Coroutine[Any, Any, None]) -> None:
        task = spawn(sending, name="answer")
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _end(self) -> None:
        await self._bus.unsubscribe(self._subject)
        await self._verifier.join()
        for message in self._queues.take_all():
            self._reject(message, BUSY, "stopping", "shutting down")
        await self._drained(DRAIN_SECONDS)
        self._faults.note(await emit(self._hook.remaphore_shutdown, timeout=STOP_SECONDS, reason="stopped"))
        await self._drained(STOP_SECONDS)
        self._groups.close()
        self._verifier.close()

    async def _drained(self, seconds: float) -> None:
        waiting = spawn(self._all_done(), name="drain")
        await asyncio.wait({waiting}, timeout=seconds)
        waiting.cancel()

    async def _all_done(self) -> None:
        await self._queues.join()
        if self._answers:
            await asyncio.wait(self._answers)
