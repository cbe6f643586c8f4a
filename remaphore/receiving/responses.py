"""Responses: all that the daemon sends, within limits: replies, receipts, rejections, resent and interrupted ones."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any

import structlog

from remaphore.config.settings import Config
from remaphore.errors import LedgerError, describe
from remaphore.messaging.replier import try_send_reply
from remaphore.messaging.signer import Clock, Signer
from remaphore.protocol import wire
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.message import REJECTED, Message, Reply
from remaphore.protocol.peers import by_key
from remaphore.protocol.rejection import RejectionPolicy
from remaphore.receiving.activity import Activity
from remaphore.receiving.batches import Arrival
from remaphore.receiving.counters import DaemonCounters
from remaphore.receiving.ledger.ledger import Ledger
from remaphore.receiving.ledger.rows import STARTED, Row
from remaphore.receiving.receipts import ReceiptSender
from remaphore.receiving.rejections import Rejections
from remaphore.receiving.throttle import DropThrottle
from remaphore.tasks import spawn
from remaphore.transport.bus import Bus

# Exit codes in replies: EX_TEMPFAIL and EX_NOPERM of sysexits.h, and 128 + SIGTERM.
BUSY = 75
NOT_PERMITTED = 77
INTERRUPTED = 143

# Rejections and resent replies that may be sent at the same time. Beyond it a flood gets no answer.
MAX_PENDING = 100

# Rejections that a flood of a permitted peer causes: these keep to the limits of `RejectionPolicy`.
_LIMITED = frozenset({"busy", "evicted"})

_INTERRUPTED = Reply(INTERRUPTED, b"remaphore: interrupted: the daemon ended while this ran\n")
_WHY_ABANDONED = "the daemon ended before it started"

_log = structlog.get_logger()


class Responses:
    """Sends the daemon's answers to the senders of messages, and counts them.

    signer: signs all that the daemon sends, that of its plugins too, so that no nanosecond is signed twice.
    Nothing is sent before the ledger has it: a rejection is final, and a reply may be resent after a restart.
    """

    def __init__(
        self,
        bus: Bus,
        config: Config,
        ledger: Ledger,
        counters: DaemonCounters,
        activity: Activity,
        *,
        drops: DropThrottle,
        rejections: Rejections,
        clock: Clock = time.time_ns,
    ) -> None:
        """*drops* and *rejections*: get every drop and every rejected message, to show them to the plugins."""
        self._bus = bus
        self._config = config
        self._ledger = ledger
        self._counters = counters
        self._activity = activity
        self._drops = drops
        self._rejections = rejections
        self._clock = clock
        self.signer = Signer(config, clock)
        self.receipts = ReceiptSender(bus, config.subject, self.signer, counters)
        self._policy = RejectionPolicy()
        self._pending: set[asyncio.Task[None]] = set()

    @property
    def pending(self) -> int:
        """The number of rejections and resent replies that are being sent."""
        return len(self._pending)

    def apply_config(self, config: Config) -> None:
        """Sign with the identities of *config* from now on."""
        self._config = self.signer.config = config

    async def send(self, message: Message, reply: Reply) -> bool:
        """Send *reply* if the sender of *message* waits for one; return whether it was sent. Failures are logged."""
        if not message.wants_reply:
            return False
        self.receipts.end(message.digest)
        sent = await try_send_reply(self._bus, self._config, self.signer, message, reply)
        self._counters.replies["sent" if sent else "failed"] += 1
        return sent

    def reject(self, message: Message, code: int, why: str, detail: str, *, admitted: bool = True) -> None:
        """Reject a verified *message*, for good, and notify its sender if it waits for a reply and there is room.

        *admitted*: whether it was queued before.
        """
        limited = why in _LIMITED and not self._policy.try_acquire(message.sender, self._clock())
        if admitted:
            self._activity.rejected(message, why)
        self._reject(message, code, why, detail, notify=not limited)
        self._rejections.add(message, why, detail, admitted=admitted)

    def _reject(self, message: Message, code: int, why: str, detail: str, *, notify: bool = True) -> None:
        self._counters.rejected[why] += 1
        if message.destination == self._config.destination:
            self._counters.rejected_exact[why] += 1
        try:
            if notify and message.wants_reply and len(self._pending) < MAX_PENDING:
                reply = Reply(code, REJECTED + f"{why}: {detail}".encode())
                # Without the payload: many may be in progress, and none needs it.
                self._start(self._send_rejection(replace(message, payload=b""), reply))
            else:
                self._ledger.note_rejected(message.digest)
        except Exception as error:  # noqa: BLE001 - it is counted, and costs this answer only
            _log.error("reply_failed", **message.log_fields, error=describe(error))

    def may_reject(self, drop: Drop, arrival: Arrival) -> bool:
        """Return whether *arrival*, which is dropped, gets a rejection if its signature is valid."""
        return self._config.notify_rejections and self._policy.may_reject(
            arrival.gate, arrival.frame, drop, arrival.now
        )

    def drop(self, drop: Drop, arrival: Arrival | None, *, verified: bool = False) -> None:
        """Count *drop*. It becomes a rejection if the sender is to be notified, or repeats a recorded reply.

        *arrival*: what was dropped, None if its fields are not needed, or cannot be read; then *drop* may stand for
        several. *verified*: whether its signature was found valid.
        """
        rejected = None
        try:
            if verified and arrival is not None and self._config.notify_rejections:
                rejected = self._policy.consider(arrival.gate, arrival.frame, drop, arrival.now)
        except Exception as error:  # noqa: BLE001 - it is counted, and costs this answer only
            _log.error("rejection_failed", error=describe(error))
        if rejected is not None:
            self._reject(rejected, NOT_PERMITTED, str(drop.reason), drop.detail)
        else:
            self._counters.dropped[drop.reason] += drop.count
            if drop.exact:
                self._counters.dropped_exact[drop.reason] += drop.count
            if drop.reason is DropReason.DUPLICATE and arrival is not None and arrival.frame.wants_reply:
                self._repeat(arrival)
        self._drops.add(drop)  # after it is counted: a hook may read the numbers while the drop is shown to it

    def _repeat(self, arrival: Arrival) -> None:
        """Send the recorded reply of a repeated request again, if it has one and there is room."""
        if len(self._pending) < MAX_PENDING:
            digest = wire.digest(arrival.frame.raw)
            if self._ledger.may_resend(digest):
                # A duplicate has the bytes of a message whose signature was valid.
                self._start(self._resend(arrival.frame.message(digest)))

    def report_unfinished(self) -> None:
        """Start to report, once, what the last daemon left behind: that a message ran, or that it never starts.

        The newest first, because their requesters are the most likely to wait still. Last those that get no reply.
        """
        left = [*self._ledger.interrupted, *self._ledger.abandoned]
        self._ledger.interrupted, self._ledger.abandoned = [], []
        if left:
            left.sort(key=lambda row: (row.state == STARTED or row.wants_reply, row.time_ns), reverse=True)
            self._start(self._report_unfinished(left))

    async def _report_unfinished(self, rows: Sequence[Row]) -> None:
        peers = by_key(self._config.peers)
        names = {key: peer.destination for key, peer in peers.items()}
        for first in range(0, len(rows), MAX_PENDING):
            reports = (self._report(row, names.get(row.sender, "")) for row in rows[first : first + MAX_PENDING])
            for error in await asyncio.gather(*reports, return_exceptions=True):
                if isinstance(error, Exception):
                    _log.error("report_lost", error=describe(error))

    async def _report(self, row: Row, sender_name: str) -> None:
        message = Message(
            sender=row.sender,
            destination="",
            verb=row.verb,
            uuid=row.uuid,
            time_ns=row.time_ns,
            wants_reply=row.wants_reply,
            digest=row.digest,
            sender_name=sender_name,
        )
        if row.state == STARTED:
            _log.warning("message_interrupted", **message.log_fields)
            self._activity.interrupted(message)
            with contextlib.suppress(LedgerError):
                await self._ledger.done(row.digest, _INTERRUPTED)
                await self.send(message, _INTERRUPTED)
            return
        self._activity.rejected(message, "abandoned")
        self._rejections.add(message, "abandoned", _WHY_ABANDONED, admitted=True)
        # An older one's requester has given up.
        if row.wants_reply and abs(self._clock() - row.time_ns) <= self._config.allow_skew_ns:
            await self._send_rejection(message, Reply(BUSY, REJECTED + f"abandoned: {_WHY_ABANDONED}".encode()))

    async def join(self) -> None:
        """Return when no rejection or resent reply is being sent."""
        while self._pending:
            await asyncio.wait(self._pending)

    def _start(self, sending: Coroutine[Any, Any, None]) -> None:
        task = spawn(sending, name="response")
        task.add_done_callback(self._pending.discard)
        self._pending.add(task)  # last, as what is never removed would be waited for at the end

    async def _send_rejection(self, message: Message, reply: Reply) -> None:
        # While the ledger cannot be written nothing is started, so the message cannot run later either.
        with contextlib.suppress(LedgerError):
            await self._ledger.rejected(message.digest)
        await self.send(message, reply)

    async def _resend(self, message: Message) -> None:
        reply = await self._ledger.recorded(message.digest)
        if reply is not None:
            await self.send(message, reply)
