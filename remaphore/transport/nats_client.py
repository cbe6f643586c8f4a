"""The bus over NATS: one connection at a time, and a new one whenever it ends.

nats-py's own reconnecting is not used: it ends for good at any error of the server, such as an expired login
(nats.py issues 193, 1019), sends what it has buffered before the subscriptions are back, and has no jitter (issue 370).

Here a single task dials, subscribes again, and then serves what callers have queued. A caller waits for a future of its
own, so that cancelling it never touches the connection. Restart, expiry, revocation, a silent or a lame-duck server:
all end the connection, and the next one is dialled with files that are read again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from remaphore.config.settings import Auth, Tls
from remaphore.errors import (
    BrokerRefusedError,
    BrokerUnavailableError,
    ConnectionLostError,
    SubjectDeniedError,
    TransportError,
    with_hint,
)
from remaphore.tasks import spawn
from remaphore.transport.bus import Callback, Deliver, DeliverBatch, Hear, Incoming, is_first
from remaphore.transport.dialer import Dialer
from remaphore.transport.nats_connection import CLOSE_LIMIT, Connection
from remaphore.transport.nats_reader import Handle
from remaphore.transport.outage import STABLE_AFTER, OutageReporter, ReconnectThrottle, delays
from remaphore.transport.pending import PendingOperation, not_published
from remaphore.transport.requests import Requests
from remaphore.transport.round_trip import UNCONFIRMED, UNCONFIRMED_HINT, Denied, exchange, fail_unconfirmed, move_batch
from remaphore.transport.servers import DialError, Failure, all_final, hints, summary

CONFIRM_TIMEOUT = 5.0  # seconds for the broker to confirm
SLOWEST_LINK = 50_000  # bytes a second; what is being confirmed gets the time that it takes at this rate on top
BATCH_BYTES = 256 * 1024  # confirmed by one round trip; with more, the first would wait for the last
DEFAULT_MAX_PAYLOAD = 1024 * 1024  # of nats-server; until the first server reports its own
_CLOSED = "connection to the broker is closed"
_CLOSED_HINT = "use it before close(), or connect again"
_EXTEND = "ask the broker's administrator to extend the permissions of these credentials"


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
        self._sending: list[PendingOperation] = []
        self._subscriptions: list[PendingOperation] = []
        self._leaving: list[Handle] = []
        self._requests = Requests(self._add)
        self._wake = asyncio.Event()
        self._closed = False
        self._tries = 0  # connections that did not last
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = spawn(self._run(), name="nats-bus", vital=True)

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
        """Connect to any of *servers* (`nats://host:4222`, `tls://host`); the bus reconnects by itself until closed.

        limit: seconds to try, None for no limit. on_notice: called with a line for people while there is no broker,
        first after a second, then every 30 s, also after the first connection. on_reconnect: called with a line for
        each connection after the first, however short the time without one was; without it, on_notice is called at the
        end of an outage that it was called with. on_protocol_error: called with a line when a broker sends what is not
        the NATS protocol, at most every 15 s; without it, on_notice is.

        Raise BrokerRefusedError as soon as every server has rejected us, BrokerUnavailableError at the limit; both name
        each server and its cause, and the hint names the servers that it is for.
        """
        bus = cls.start(
            servers,
            auth=auth,
            tls=tls,
            on_notice=on_notice,
            on_reconnect=on_reconnect,
            on_protocol_error=on_protocol_error,
        )
        await bus.wait_connected(limit)
        return bus

    @classmethod
    def start(
        cls,
        servers: Sequence[str],
        *,
        auth: Auth,
        tls: Tls | None = None,
        on_notice: Callable[[str], None],
        on_reconnect: Callable[[str], None] | None = None,
        on_protocol_error: Callable[[str], None] | None = None,
    ) -> NatsBus:
        """Return a bus that connects in the background; see `connect`. What is queued meanwhile waits for it.

        If every server rejects us, the operations that wait and later ones raise BrokerRefusedError.
        """
        flaws = ReconnectThrottle(on_protocol_error or on_notice, more="{number} times since the last line")
        dialer = Dialer(servers, auth=auth, tls_files=tls or Tls(), warn=on_notice, report=flaws.add)
        return cls(dialer, OutageReporter(on_notice, on_reconnect), flaws)

    async def wait_connected(self, limit: float | None) -> None:
        """Return after the first connection, within *limit* seconds. Close the bus and raise, as `connect`, if not."""
        try:
            await asyncio.wait({self._first}, timeout=limit)
            if not self._first.done():
                text = f"no broker within {limit:g} s: {summary(self._outage.failures)}"
                self._stop(BrokerUnavailableError(text, hint=hints(self._outage.failures)))
            self._first.result()
        except BaseException:
            await self.close()
            raise

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connection is not None and not self._connection.ended.done()

    @property
    def max_payload(self) -> int:
        """The largest size of one message in bytes, as the latest server reported it."""
        return self._max_payload

    @property
    def about(self) -> Mapping[str, str]:
        """What the server reports about itself, see `Connection.about`; empty while there is no connection."""
        return {} if self._connection is None else self._connection.about

    async def unusable_addresses(self) -> Mapping[str, str]:
        """Return the addresses of servers with several that cannot be used, with the cause. Raise ConfigError."""
        return await self._dialer.unusable_addresses()

    async def publish(self, subject: str, data: bytes, *, timeout: float | None = None) -> None:
        """Return once the broker has *data*; see `Bus`."""
        operation = PendingOperation(subject, data=data)
        self._add(operation)
        if timeout is not None:
            await asyncio.wait({operation.done}, timeout=timeout)
            if not operation.done.done() and operation in self._queue:
                self._queue.remove(operation)
                raise not_published(timeout, None if self.connected else self._outage.failures)
        await operation.done  # once it is written, the time for the confirmation is limited

    async def subscribe(self, subject: str, deliver: Deliver, *, optional: bool = False) -> None:
        """Call *deliver* with every message on *subject* from now on; see `Bus`."""
        await self._subscribe(PendingOperation(subject, deliver=deliver, optional=optional))

    async def subscribe_batches(self, subject: str, deliver: DeliverBatch) -> None:
        """Call *deliver* with the messages on *subject* that arrive together; see `Bus`."""
        await self._subscribe(PendingOperation(subject, deliver=deliver, batches=True))

    async def listen(self, subject: str, hear: Hear, *, on_gap: Callback = lambda: None) -> Callback:
        """Call *hear* with every message on *subject*, with its headers; see `Bus`."""
        operation = PendingOperation(subject, deliver=hear, optional=True, whole=True, on_gap=on_gap)
        await self._subscribe(operation)
        return lambda: self._leave(operation)

    async def _subscribe(self, operation: PendingOperation) -> None:
        try:
            self._add(operation)
            await operation.done
        except asyncio.CancelledError:
            self._leave(operation)  # it may be confirmed already, and no caller is left to end it
            raise

    async def unsubscribe(self, subject: str) -> None:
        """End all subscriptions to *subject*; see `Bus`."""
        for operation in [operation for operation in self._subscriptions if operation.subject == subject]:
            self._leave(operation)

    async def request(
        self,
        subject: str,
        data: bytes,
        *,
        inbox: str,
        timeout: float,
        headers: Mapping[str, str] | None = None,
        complete: Callable[[Sequence[Incoming]], bool] = is_first,
    ) -> list[Incoming]:
        """Publish *data* with a reply subject, and return the responses; see `Bus`."""
        return await self._requests.ask(subject, data, inbox, timeout, headers, complete=complete)

    async def close(self) -> None:
        """End the connection; see `Bus`. Waiting callers get a ConnectionLostError. It never raises and never hangs."""
        self._closed = True
        while not self._task.done():
            # More than once: nats-py and wait_for() of Python 3.11 can swallow a cancellation.
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=2 * CLOSE_LIMIT + 1)
        self._stop(ConnectionLostError(_CLOSED, hint=_CLOSED_HINT))

    def _add(self, operation: PendingOperation) -> None:
        if self._closed:
            never_connected = self._first.exception() if self._first.done() else None
            raise never_connected or ConnectionLostError(_CLOSED, hint=_CLOSED_HINT)
        self._queue.append(operation)
        self._wake.set()

    async def _run(self) -> None:
        """Dial and serve one connection after the other, until every server rejects the first, or close() cancels."""
        loop = asyncio.get_running_loop()
        end: TransportError = ConnectionLostError(_CLOSED, hint=_CLOSED_HINT)
        try:
            while True:
                self._outage.begin()
                started = loop.time()
                try:
                    connection = await self._dial()
                    started = loop.time()
                    await self._serve(connection)
                except BrokerRefusedError as error:
                    end = error
                    return
                except Exception as error:  # noqa: BLE001 - what waits has to be settled, and another one dialled
                    self._recover(error)
                self._tries = 0 if loop.time() - started > STABLE_AFTER else self._tries + 1
        finally:
            self._stop(end)

    def _recover(self, error: Exception) -> None:
        """Settle what was being sent when *error* was raised. The next connection is dialled after the usual pause."""
        cause = f"{error}" if str(error) else type(error).__name__
        if not isinstance(error, OSError | MemoryError):  # those two are the machine's, and may be over later
            cause = repr(error)
            self._flaws.add(with_hint(f"the connection's task failed: {cause}; connecting again", "report this bug"))
        self._outage.failures["this machine"] = Failure(cause)
        sending, self._sending = self._sending, []
        text = f"connection lost ({error!r} on this machine): {UNCONFIRMED}"
        for operation in sending:
            operation.settle(ConnectionLostError(text, hint=UNCONFIRMED_HINT))

    def _stop(self, error: TransportError) -> None:
        self._closed = True
        if not self._first.done():
            self._first.set_exception(error)
            self._first.exception()  # mark it as retrieved: no caller may be waiting for it any more
        for operation in (*self._sending, *self._queue):
            operation.settle(error)
        self._outage.close()
        self._flaws.close()

    async def _dial(self) -> Connection:
        waits = delays(self._tries)
        if self._first.done() or self._tries:
            await asyncio.sleep(next(waits))
        while (connection := await self._dialer.round(self._restore, self._outage.failures)) is None:
            failures = self._outage.failures
            if not self._first.done() and all_final(failures.values()):
                raise BrokerRefusedError(f"no connection: {summary(failures)}", hint=hints(failures))
            await asyncio.sleep(next(waits))
        return connection

    async def _restore(self, connection: Connection) -> None:
        """Subscribe again on a new connection. Raise DialError: without its subscriptions, it is of no use."""
        self._leaving.clear()  # handles of an earlier connection
        operations = tuple(self._subscriptions)
        if not operations:
            return
        for operation in operations:
            operation.handle = None
        denied = await self._exchange(connection, operations)
        if denied is None:
            raise DialError(Failure(f"the new subscription was not confirmed ({connection.reason})"))
        for operation in operations:
            if operation.optional and (operation.action, operation.subject.lower()) in denied:
                denied.discard((operation.action, operation.subject.lower()))
                self._leave(operation)
        if denied:
            subjects = ", ".join(sorted(subject for _, subject in denied))
            raise DialError(Failure(f"no permission for subscription to {subjects}", _EXTEND))
        for operation in operations:
            operation.on_gap()
            if operation.ended:  # meanwhile, and perhaps before it was written
                self._leave(operation)

    async def _serve(self, connection: Connection) -> None:
        """Carry out what callers have queued, one batch a round trip, until *connection* ends."""
        try:
            self._connection = connection
            self._max_payload = connection.max_payload
            self._dialer.learn(connection)
            self._outage.end(connection.server.shown)
            connection.ended.add_done_callback(lambda _ended: self._wake.set())
            if self._first.done():
                self.reconnects += 1
            else:
                self._first.set_result(None)
            while not connection.ended.done():
                self._wake.clear()
                batch = self._sending
                move_batch(self._queue, batch, max_bytes=BATCH_BYTES)
                if not (batch or self._leaving):
                    await self._wake.wait()
                    continue
                denied = await self._exchange(connection, batch)
                if denied is None:
                    # Subscribing twice does no harm, so subscriptions wait for the next connection.
                    self._queue.extendleft(reversed(fail_unconfirmed(connection, batch)))
                    self._sending = []
                    await connection.close()
                else:
                    for operation in batch:
                        if (operation.action, operation.subject.lower()) in denied:  # in lower case by the server
                            text = f"no permission for {operation.action} to {operation.subject}"
                            operation.settle(SubjectDeniedError(text, hint=_EXTEND))
                        elif operation.deliver is not None and operation.done.done():  # its caller was cancelled
                            self._leave(operation)
                        elif operation.deliver is not None:
                            self._subscriptions.append(operation)
                        operation.settle()
                    self._sending = []
        finally:
            self._connection = None
            self._requests.fail(connection.reason)
            self._outage.begin()  # now, because closing a silent connection takes time
            self._outage.failures[connection.server.shown] = Failure(f"connection lost ({connection.reason})")
            await connection.close()
            self._dialer.learn(connection)

    async def _exchange(self, connection: Connection, operations: Sequence[PendingOperation]) -> Denied | None:
        limit = CONFIRM_TIMEOUT + sum(len(operation.data) for operation in operations) / SLOWEST_LINK
        return await exchange(connection, operations, self._leaving, limit=limit)

    def _leave(self, operation: PendingOperation) -> None:
        operation.ended = True
        if operation in self._subscriptions:
            self._subscriptions.remove(operation)
        if operation.handle is not None:
            self._leaving.append(operation.handle)
            self._wake.set()
        operation.handle = None
