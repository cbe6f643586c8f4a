"""The bus over NATS: one connection at a time, made anew whenever it ends.

nats-py's own reconnecting is not used: it ends for good at any error of the server, such as an expired login
(nats.py issues 193, 1019), sends what it has buffered before the subscriptions are back, and has no jitter (issue 370).
Here a single task dials, subscribes again, and then serves what callers have queued. A caller waits for a future of its
own, so that cancelling it never touches the connection. Restart, expiry, revocation, a silent or a lame-duck server:
all end the connection, and the next one is dialled with files read anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from remaphore.config.settings import Auth, Tls
from remaphore.errors import (
    BrokerRefusedError,
    BrokerUnavailableError,
    ConnectionLostError,
    PayloadTooLargeError,
    SubjectDeniedError,
    TransportError,
)
from remaphore.tasks import spawn
from remaphore.transport.bus import Deliver
from remaphore.transport.dialer import Dialer
from remaphore.transport.nats_connection import CLOSE_LIMIT, Connection
from remaphore.transport.nats_reader import Handle
from remaphore.transport.outage import STABLE_AFTER, OutageReporter, ReconnectThrottle, delays
from remaphore.transport.pending import PendingOperation
from remaphore.transport.servers import DialError, Failure, all_final, summary

CONFIRM_TIMEOUT = 5.0  # seconds for the broker to confirm
SLOWEST_LINK = 50_000  # bytes a second; what is being confirmed gets the time it takes at this rate on top
BATCH_BYTES = 256 * 1024  # confirmed by one round trip; with more, the first would wait for the last
_CLOSED = "the connection to the broker has been closed"
DEFAULT_MAX_PAYLOAD = 1024 * 1024  # of a server that nobody has configured, until one tells its own


class NatsBus:
    """A `Bus` over NATS. `reconnects` counts connections after the first; `connected`: whether there is one now."""

    def __init__(self, dialer: Dialer, outage: OutageReporter, flaws: ReconnectThrottle) -> None:
        self.reconnects = 0
        self._dialer = dialer
        self._outage = outage
        self._flaws = flaws
        self._connection: Connection | None = None
        self._max_payload = DEFAULT_MAX_PAYLOAD
        self._queue: deque[PendingOperation] = deque()
        self._sending: Sequence[PendingOperation] = ()
        self._subscriptions: list[PendingOperation] = []
        self._leaving: list[Handle] = []
        self._wake = asyncio.Event()
        self._closed = False
        self._tries = 0  # connections that did not last
        self._first: asyncio.Future[None] = self._future()
        self._task = spawn(self._run(), name="nats-bus")

    @classmethod
    async def connect(
        cls,
        servers: Sequence[str],
        *,
        auth: Auth,
        tls: Tls | None = None,
        limit: float | None = None,
        on_notice: Callable[[str], None],
        on_reconnect: Callable[[str], None] | None = None,
        on_protocol_error: Callable[[str], None] | None = None,
    ) -> NatsBus:
        """Connect to any of *servers* (`nats://host:4222`, `tls://host`); the bus then mends itself until closed.

        limit: seconds to go on trying, None for ever. notice: called with a line for people while there is no broker,
        first after a second, then every 30 s, also later on. returned: called with a line for each connection after the
        first, however short the time without one was; without it, notice tells the end of what it told. protocol_error:
        called with a line when a broker sends what is not the NATS protocol, at most every 15 s; without it, notice is.
        Raises BrokerRefusedError as soon as every server has said no, BrokerUnavailableError at the limit; both name
        each server and its cause.
        """
        flaws = ReconnectThrottle(on_protocol_error or on_notice, more="{number} times since the last line")
        dialer = Dialer(servers, auth=auth, tls_files=tls or Tls(), warn=on_notice, report=flaws.add)
        bus = cls(dialer, OutageReporter(on_notice, on_reconnect), flaws)
        try:
            await bus._connected(limit)
        except BaseException:
            await bus.close()
            raise
        return bus

    @property
    def connected(self) -> bool:
        """Whether there is a connection at the moment."""
        return self._connection is not None and not self._connection.ended.done()

    @property
    def max_payload(self) -> int:
        """The most bytes that one message may have, as the latest server told it."""
        return self._max_payload

    @property
    def about(self) -> Mapping[str, str]:
        """What the server says of itself, see `Connection.about`; nothing while there is none."""
        return {} if self._connection is None else self._connection.about

    async def publish(self, subject: str, data: bytes, *, timeout: float | None = None) -> None:
        """Return once the broker has *data*; see `Bus`."""
        operation = PendingOperation(subject, self._future(), data=data)
        self._add(operation)
        if timeout is not None:
            await asyncio.wait({operation.done}, timeout=timeout)
            if not operation.done.done() and operation in self._queue:
                self._queue.remove(operation)
                cause = "others wait before it" if self.connected else summary(self._outage.failures)
                raise BrokerUnavailableError(f"no broker within {timeout:.3g} s: {cause}; the message was not sent")
        await operation.done  # once it is written, the time for the confirmation is limited

    async def subscribe(self, subject: str, deliver: Deliver) -> None:
        """Call *deliver* with every message on *subject* from now on; see `Bus`."""
        operation = PendingOperation(subject, self._future(), deliver=deliver)
        try:
            self._add(operation)
            await operation.done
        except asyncio.CancelledError:
            self._leave(operation)  # it may be confirmed already, and nobody would ever end it
            raise

    async def unsubscribe(self, subject: str) -> None:
        """End all subscriptions to *subject*; see `Bus`."""
        for operation in [operation for operation in self._subscriptions if operation.subject == subject]:
            self._leave(operation)

    async def close(self) -> None:
        """End the connection; see `Bus`. Who still waits gets a ConnectionLostError. Never raises, never hangs."""
        self._closed = True
        while not self._task.done():
            # More than once: nats-py and wait_for() of Python 3.11 can swallow a cancellation.
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=2 * CLOSE_LIMIT + 1)
        self._stop(ConnectionLostError(_CLOSED))

    async def _connected(self, limit: float | None) -> None:
        await asyncio.wait({self._first}, timeout=limit)
        if not self._first.done():
            raise BrokerUnavailableError(f"no broker within {limit:g} s: {summary(self._outage.failures)}")
        self._first.result()

    def _future(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    def _add(self, operation: PendingOperation) -> None:
        if self._closed:
            raise ConnectionLostError(_CLOSED)
        self._queue.append(operation)
        self._wake.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._outage.begin()
                started = loop.time()
                try:
                    connection = await self._dial()
                    started = loop.time()
                    await self._serve(connection)
                except (OSError, MemoryError) as error:  # whatever this machine has run out of may come back
                    if not self._first.done():
                        raise
                    self._interrupted(error)
                self._tries = 0 if loop.time() - started > STABLE_AFTER else self._tries + 1
        except BrokerRefusedError as error:
            self._stop(error)
        except Exception as error:
            self._stop(TransportError(f"the connection's task failed: {error!r}; please report this bug"))
            raise

    def _interrupted(self, error: Exception) -> None:
        self._outage.failures["this machine"] = Failure(f"{error or type(error).__name__}")
        sending, self._sending = self._sending, ()
        text = f"{error!r} on this machine: the message may or may not have been delivered"
        for operation in sending:
            operation.settle(ConnectionLostError(text))

    def _stop(self, error: TransportError) -> None:
        self._closed = True
        if not self._first.done():
            self._first.set_exception(error)
            self._first.exception()  # nobody may be waiting for it any more
        for operation in (*self._sending, *self._queue):
            operation.settle(error)
        self._outage.close()
        self._flaws.close()

    async def _dial(self) -> Connection:
        waits = delays(self._tries)
        if self._first.done():
            await asyncio.sleep(next(waits))
        while (connection := await self._dialer.round(self._restore, self._outage.failures)) is None:
            failures = self._outage.failures
            if not self._first.done() and all_final(failures.values()):
                raise BrokerRefusedError(f"no connection: {summary(failures)}")
            await asyncio.sleep(next(waits))
        return connection

    async def _restore(self, connection: Connection) -> None:
        self._leaving.clear()  # handles of an earlier connection
        operations = tuple(self._subscriptions)
        if not operations:
            return
        for operation in operations:
            operation.handle = None
        denied = await self._exchange(connection, operations)
        if denied is None:
            raise DialError(Failure(f"subscribing again was not confirmed ({connection.reason})"))
        if denied:
            subjects = ", ".join(sorted(subject for _, subject in denied))
            raise DialError(Failure(f"no permission for subscription to {subjects}; check the credentials"))
        for operation in operations:
            if operation.ended:  # meanwhile, and perhaps before it was written
                self._leave(operation)

    async def _serve(self, connection: Connection) -> None:
        self._begin(connection)
        try:
            while not connection.ended.done():
                self._wake.clear()
                self._sending = self._take()
                if self._sending or self._leaving:
                    await self._settle(connection, self._sending)
                else:
                    await self._wake.wait()
        finally:
            self._dialer.learn(connection)
            self._connection = None
            self._outage.begin()  # now, because to close what is silent takes its time
            self._outage.failures[connection.server.shown] = Failure(f"connection lost ({connection.reason})")
            await connection.close()

    def _begin(self, connection: Connection) -> None:
        self._connection = connection
        self._max_payload = connection.max_payload
        self._dialer.learn(connection)
        self._outage.end(connection.server.shown)
        connection.ended.add_done_callback(lambda _ended: self._wake.set())
        if self._first.done():
            self.reconnects += 1
        else:
            self._first.set_result(None)

    def _take(self) -> list[PendingOperation]:
        taken: list[PendingOperation] = []
        size = 0
        while self._queue and size < BATCH_BYTES:
            operation = self._queue.popleft()
            if not operation.done.done():
                taken.append(operation)
                size += len(operation.data)
        return taken

    async def _settle(self, connection: Connection, operations: Sequence[PendingOperation]) -> None:
        denied = await self._exchange(connection, operations)
        if denied is None:
            self._lost(connection, operations)
            await connection.close()
            return
        for operation in operations:
            self._confirmed(operation, denied)
        self._sending = ()

    async def _exchange(
        self, connection: Connection, operations: Sequence[PendingOperation]
    ) -> set[tuple[str, str]] | None:
        """Write *operations* and return what the broker denied, or None if it did not confirm.

        One round trip at a time, so that a denial belongs to what was written last.
        """
        limit = CONFIRM_TIMEOUT + sum(len(operation.data) for operation in operations) / SLOWEST_LINK
        sending = spawn(self._write(connection, operations), name="nats-write")
        try:
            either: set[asyncio.Future[Any]] = {sending, connection.ended}
            received = -1
            # A broker that still sends is not silent: its answer stands in line behind what it has for us.
            while received != connection.received and not (sending.done() or connection.ended.done()):
                received = connection.received
                await asyncio.wait(either, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            confirmed = sending.done() and sending.exception() is None
            return sending.result() if confirmed else None
        finally:
            sending.cancel()
            # What a broken connection raises after this says nothing new.
            sending.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _write(self, connection: Connection, operations: Sequence[PendingOperation]) -> set[tuple[str, str]]:
        connection.take_denied()
        for operation in operations:
            try:
                if operation.deliver is None:
                    await connection.publish(operation.subject, operation.data)
                else:
                    operation.handle = await connection.subscribe(operation.subject, operation.receive)
            except (PayloadTooLargeError, SubjectDeniedError) as error:
                operation.settle(error)
        while self._leaving:
            await connection.unsubscribe(self._leaving.pop())
        await connection.confirm()
        return connection.take_denied()

    def _confirmed(self, operation: PendingOperation, denied: set[tuple[str, str]]) -> None:
        if (operation.action, operation.subject.lower()) in denied:  # the server's text has it in lower case
            what = f"no permission for {operation.action} to {operation.subject}"
            operation.settle(SubjectDeniedError(f"{what}; the broker's administrator can extend these credentials"))
        elif operation.deliver is not None and operation.done.done():
            self._leave(operation)
        elif operation.deliver is not None:
            self._subscriptions.append(operation)
        operation.settle()

    def _leave(self, operation: PendingOperation) -> None:
        operation.ended = True
        if operation in self._subscriptions:
            self._subscriptions.remove(operation)
        if operation.handle is not None:
            self._leaving.append(operation.handle)
            self._wake.set()
        operation.handle = None

    def _lost(self, connection: Connection, operations: Sequence[PendingOperation]) -> None:
        reason = connection.reason if connection.ended.done() else "the broker did not confirm in time"
        messages = [operation for operation in operations if operation.deliver is None and not operation.failed]
        if messages and "maximum payload" in reason.lower():
            # A limit of the credentials; the server closes the connection and does not say which message it was.
            largest = max(messages, key=lambda operation: len(operation.data))
            text = f"message of {len(largest.data)} bytes for {largest.subject}: more than the credentials allow"
            largest.settle(PayloadTooLargeError(f"{text}; send less, or raise the user's limit"))
        for operation in messages:
            text = f"the connection to {connection.server.shown} ended before it confirmed the message ({reason})"
            operation.settle(ConnectionLostError(f"{text}: it may or may not have been delivered"))
        self._sending = ()
        for operation in reversed(operations):
            if operation.deliver is not None:  # subscribing twice does no harm: it waits for the next connection
                operation.handle = None
                self._queue.appendleft(operation)
