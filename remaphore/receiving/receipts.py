"""Receipts: they confirm to a requester that its request, which runs longer than a second, has started.

A request costs one entry in a dictionary, which its reply removes again, and no task or timer of its own: one timer
waits for the oldest entry. Example, with quick handlers and one slow request at 0.5 s: at 1.0 s the timer finds that
the oldest entry is the slow one, and sleeps until 1.5 s; then it sends one receipt.
"""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from remaphore.errors import describe
from remaphore.messaging.signer import Signer
from remaphore.protocol import subject
from remaphore.protocol.message import Message
from remaphore.receiving.counters import DaemonCounters
from remaphore.tasks import spawn
from remaphore.transport.bus import Bus

# A request that is replied to within this time gets no receipt: most are quick, and must cost nothing.
RECEIPT_SECONDS = 1.0
# Receipts that are being sent at the same time; the next ones wait for their turn, unless the reply comes first.
MAX_SENDING = 100
# A receipt that the connection does not accept within this time is dropped: a late one is of no use.
SEND_SECONDS = 1.0

_log = structlog.get_logger()


class ReceiptSender:
    """Sends one receipt for each request that has been started and is not replied to within RECEIPT_SECONDS.

    A receipt that cannot be sent is dropped: without a connection it waits for none, and it is not repeated.
    """

    def __init__(self, bus: Bus, root: str, signer: Signer, counters: DaemonCounters | None = None) -> None:
        """*root*: of the subjects. *signer*: the one that signs the replies, so that no time is signed twice."""
        self._bus = bus
        self._root = root
        self._signer = signer
        self._counters = counters or DaemonCounters()
        self._running: dict[bytes, tuple[float, Message]] = {}  # by digest, the oldest first
        self._timer: asyncio.TimerHandle | None = None
        self._sending: dict[bytes, asyncio.Task[None]] = {}  # by digest
        self._closed = False

    def begin(self, message: Message, *, legacy: bool) -> None:
        """Confirm later that *message* has started, if its sender wants a reply and does not run the Go program.

        This never raises: the message has started, and is to be handled.
        """
        if not message.wants_reply or legacy or self._closed:
            return
        try:
            due = asyncio.get_running_loop().time() + RECEIPT_SECONDS
            self._running[message.digest] = due, message
            if self._timer is None:
                self._wake_at(due)
        except Exception as error:  # noqa: BLE001 - such as no memory: it costs the receipt
            self._failed(message, describe(error))

    def end(self, digest: bytes) -> None:
        """Send no receipt for this message from now on: it is replied to, or never will be."""
        self._running.pop(digest, None)
        if sending := self._sending.get(digest):  # what is still queued on the bus is not sent then
            sending.cancel()

    def close(self) -> None:
        """Send no more receipts: what runs is replied to soon."""
        self._closed = True
        self._running.clear()
        for sending in self._sending.values():
            sending.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake_at(self, due: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(due, self._send_due)

    def _send_due(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._running and len(self._sending) < MAX_SENDING:
            digest, (due, message) = next(iter(self._running.items()))
            if due > now:
                self._wake_at(due)
                return
            del self._running[digest]
            if not self._bus.connected:
                self._failed(message, "no connection to the broker")
                continue
            self._sending[digest] = task = spawn(self._send(message), name="receipt")
            task.add_done_callback(partial(self._sent, digest))

    def _sent(self, digest: bytes, _task: asyncio.Task[None]) -> None:
        del self._sending[digest]
        if self._timer is None:  # more than MAX_SENDING were due
            self._send_due()

    async def _send(self, message: Message) -> None:
        try:
            raw = self._signer.receipt(message).raw
            where = subject.for_receipts(subject.for_replies(self._root, message.digest))
            await self._bus.publish(where, raw, timeout=SEND_SECONDS)
        except Exception as error:  # noqa: BLE001 - it costs this receipt; the reply needs none
            self._failed(message, describe(error))
        else:
            self._counters.receipts["sent"] += 1
            _log.debug("receipt_sent", **message.log_fields)

    def _failed(self, message: Message, error: str) -> None:
        self._counters.receipts["failed"] += 1
        _log.debug("receipt_failed", **message.log_fields, error=error)
