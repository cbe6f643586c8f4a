"""The bus over NATS: one link at a time, made anew whenever it ends.

nats-py's own reconnecting is not used: it ends for good at any error of the server, such as an expired login
(nats.py issues 193, 1019), sends what it has buffered before the subscriptions are back, and has no jitter (issue 370).
Here a single task dials, subscribes again, and then serves what callers have queued. A caller waits for a future of its
own, so that cancelling it never touches the connection. Restart, expiry, revocation, a silent or a lame-duck server:
all end the link, and the next one is dialled with files read anew.
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
from remaphore.transport.nats_link import CLOSE_LIMIT, Link
from remaphore.transport.nats_reader import Handle
from remaphore.transport.outage import STABLE_AFTER, Outage, Returns, delays
from remaphore.transport.servers import DialError, Failure, all_final, summary
from remaphore.transport.wish import Wish

CONFIRM_TIMEOUT = 5.0  # seconds for the broker to confirm
SLOWEST_LINK = 50_000  # bytes a second; what is being confirmed gets the time it takes at this rate on top
BATCH_BYTES = 256 * 1024  # confirmed by one round trip; with more, the first would wait for the last
_CLOSED = "the connection to the broker has been closed"
DEFAULT_MAX_PAYLOAD = 1024 * 1024  # of a server that nobody has configured, until one tells its own


class NatsBus:
    """A `Bus` over NATS. `reconnects` counts links after the first; `connected` tells whether there is one now."""

    def __init__(self, dialer: Dialer, outage: Outage, flaws: Returns) -> None:
        self.reconnects = 0
        self._dialer = dialer
        self._outage = outage
        self._flaws = flaws
        self._link: Link | None = None
        self._max_payload = DEFAULT_MAX_PAYLOAD
        self._queue: deque[Wish] = deque()
        self._sending: Sequence[Wish] = ()
        self._subscriptions: list[Wish] = []
        self._leaving: list[Handle] = []
        self._wake = asyncio.Event()
        self._closed = False
        self._tries = 0  # links that did not last
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
        notice: Callable[[str], None],
        returned: Callable[[str], None] | None = None,
        protocol_error: Callable[[str], None] | None = None,
    ) -> NatsBus:
        """Connect to any of *servers* (`nats://host:4222`, `tls://host`); the bus then mends itself until closed.

        limit: seconds to go on trying, None for ever. notice: called with a line for people while there is no broker,
        first after a second, then every 30 s, also later on. returned: called with a line for each connection after the
        first, however short the time without one was; without it, notice tells the end of what it told. protocol_error:
        called with a line when a broker sends what is not the NATS protocol, at most every 15 s; without it, notice is.
        Raises BrokerRefusedError as soon as every server has said no, BrokerUnavailableError at the limit; both name
        each server and its cause.
        """
        flaws = Returns(protocol_error or notice, more="{number} times since the last line")
        dialer = Dialer(servers, auth=auth, tls_files=tls or Tls(), warn=notice, report=flaws.add)
        bus = cls(dialer, Outage(notice, returned), flaws)
        try:
            await bus._connected(limit)
        except BaseException:
            await bus.close()
            raise
        return bus

    @property
    def connected(self) -> bool:
        """Whether there is a link at the moment."""
        return self._link is not None and not self._link.ended.done()

    @property
    def max_payload(self) -> int:
        """The most bytes that one message may have, as the latest server told it."""
        return self._max_payload

    @property
    def about(self) -> Mapping[str, str]:
        """What the server says of itself, see `Link.about`; nothing while there is none."""
        return {} if self._link is None else self._link.about

    async def publish(self, subject: str, data: bytes, *, timeout: float | None = None) -> None:
        """Return once the broker has *data*; see `Bus`."""
        wish = Wish(subject, self._future(), data=data)
        self._add(wish)
        if timeout is not None:
            await asyncio.wait({wish.done}, timeout=timeout)
            if not wish.done.done() and wish in self._queue:
                self._queue.remove(wish)
                cause = "others wait before it" if self.connected else summary(self._outage.failures)
                raise BrokerUnavailableError(f"no broker within {timeout:.3g} s: {cause}; the message was not sent")
        await wish.done  # once it is written, the time for the confirmation is limited

    async def subscribe(self, subject: str, deliver: Deliver) -> None:
        """Call *deliver* with every message on *subject* from now on; see `Bus`."""
        wish = Wish(subject, self._future(), deliver=deliver)
        try:
            self._add(wish)
            await wish.done
        except asyncio.CancelledError:
            self._leave(wish)  # it may be confirmed already, and nobody would ever end it
            raise

    async def unsubscribe(self, subject: str) -> None:
        """End all subscriptions to *subject*; see `Bus`."""
        for wish in [wish for wish in self._subscriptions if wish.subject == subject]:
            self._leave(wish)

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

    def _add(self, wish: Wish) -> None:
        if self._closed:
            raise ConnectionLostError(_CLOSED)
        self._queue.append(wish)
        self._wake.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._outage.begin()
                started = loop.time()
                try:
                    link = await self._dial()
                    started = loop.time()
                    await self._serve(link)
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
        for wish in sending:
            wish.settle(ConnectionLostError(text))

    def _stop(self, error: TransportError) -> None:
        self._closed = True
        if not self._first.done():
            self._first.set_exception(error)
            self._first.exception()  # nobody may be waiting for it any more
        for wish in (*self._sending, *self._queue):
            wish.settle(error)
        self._outage.close()
        self._flaws.close()

    async def _dial(self) -> Link:
        waits = delays(self._tries)
        if self._first.done():
            await asyncio.sleep(next(waits))
        while (link := await self._dialer.round(self._restore, self._outage.failures)) is None:
            failures = self._outage.failures
            if not self._first.done() and all_final(failures.values()):
                raise BrokerRefusedError(f"no connection: {summary(failures)}")
            await asyncio.sleep(next(waits))
        return link

    async def _restore(self, link: Link) -> None:
        self._leaving.clear()  # handles of an earlier link
        wishes = tuple(self._subscriptions)
        if not wishes:
            return
        for wish in wishes:
            wish.handle = None
        denied = await self._exchange(link, wishes)
        if denied is None:
            raise DialError(Failure(f"subscribing again was not confirmed ({link.reason})"))
        if denied:
            subjects = ", ".join(sorted(subject for _, subject in denied))
            raise DialError(Failure(f"no permission for subscription to {subjects}; check the credentials"))
        for wish in wishes:
            if wish.ended:  # meanwhile, and perhaps before it was written
                self._leave(wish)

    async def _serve(self, link: Link) -> None:
        self._begin(link)
        try:
            while not link.ended.done():
                self._wake.clear()
                self._sending = self._take()
                if self._sending or self._leaving:
                    await self._settle(link, self._sending)
                else:
                    await self._wake.wait()
        finally:
            self._dialer.learn(link)
            self._link = None
            self._outage.begin()  # now, because to close what is silent takes its time
            self._outage.failures[link.server.shown] = Failure(f"connection lost ({link.reason})")
            await link.close()

    def _begin(self, link: Link) -> None:
        self._link = link
        self._max_payload = link.max_payload
        self._dialer.learn(link)
        self._outage.end(link.server.shown)
        link.ended.add_done_callback(lambda _ended: self._wake.set())
        if self._first.done():
            self.reconnects += 1
        else:
            self._first.set_result(None)

    def _take(self) -> list[Wish]:
        taken: list[Wish] = []
        size = 0
        while self._queue and size < BATCH_BYTES:
            wish = self._queue.popleft()
            if not wish.done.done():
                taken.append(wish)
                size += len(wish.data)
        return taken

    async def _settle(self, link: Link, wishes: Sequence[Wish]) -> None:
        denied = await self._exchange(link, wishes)
        if denied is None:
            self._lost(link, wishes)
            await link.close()
            return
        for wish in wishes:
            self._confirmed(wish, denied)
        self._sending = ()

    async def _exchange(self, link: Link, wishes: Sequence[Wish]) -> set[tuple[str, str]] | None:
        """Write *wishes* and return what the broker denied, or None if it did not confirm: the link is of no use then.

        One round trip at a time, so that a denial belongs to what was written last.
        """
        limit = CONFIRM_TIMEOUT + sum(len(wish.data) for wish in wishes) / SLOWEST_LINK
        sending = spawn(self._write(link, wishes), name="nats-write")
        try:
            either: set[asyncio.Future[Any]] = {sending, link.ended}
            received = -1
            # A broker that still sends is not silent: its answer stands in line behind what it has for us.
            while received != link.received and not (sending.done() or link.ended.done()):
                received = link.received
                await asyncio.wait(either, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            confirmed = sending.done() and sending.exception() is None
            return sending.result() if confirmed else None
        finally:
            sending.cancel()
            # What a broken link raises after this says nothing new.
            sending.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _write(self, link: Link, wishes: Sequence[Wish]) -> set[tuple[str, str]]:
        link.take_denied()
        for wish in wishes:
            try:
                if wish.deliver is None:
                    await link.publish(wish.subject, wish.data)
                else:
                    wish.handle = await link.subscribe(wish.subject, wish.receive)
            except (PayloadTooLargeError, SubjectDeniedError) as error:
                wish.settle(error)
        while self._leaving:
            await link.unsubscribe(self._leaving.pop())
        await link.confirm()
        return link.take_denied()

    def _confirmed(self, wish: Wish, denied: set[tuple[str, str]]) -> None:
        if (wish.action, wish.subject.lower()) in denied:  # the server's text has it in lower case
            what = f"no permission for {wish.action} to {wish.subject}"
            wish.settle(SubjectDeniedError(f"{what}; the broker's administrator can extend these credentials"))
        elif wish.deliver is not None and wish.done.done():
            self._leave(wish)
        elif wish.deliver is not None:
            self._subscriptions.append(wish)
        wish.settle()

    def _leave(self, wish: Wish) -> None:
        wish.ended = True
        if wish in self._subscriptions:
            self._subscriptions.remove(wish)
        if wish.handle is not None:
            self._leaving.append(wish.handle)
            self._wake.set()
        wish.handle = None

    def _lost(self, link: Link, wishes: Sequence[Wish]) -> None:
        reason = link.reason if link.ended.done() else "the broker did not confirm in time"
        messages = [wish for wish in wishes if wish.deliver is None and not wish.failed]
        if messages and "maximum payload" in reason.lower():
            # A limit of the credentials; the server closes the connection and does not say which message it was.
            largest = max(messages, key=lambda wish: len(wish.data))
            text = f"message of {len(largest.data)} bytes for {largest.subject}: more than the credentials allow"
            largest.settle(PayloadTooLargeError(f"{text}; send less, or raise the user's limit"))
        for wish in messages:
            text = f"the connection to {link.server.shown} ended before it confirmed the message ({reason})"
            wish.settle(ConnectionLostError(f"{text}: it may or may not have been delivered"))
        self._sending = ()
        for wish in reversed(wishes):
            if wish.deliver is not None:  # subscribing twice does no harm: it waits for the next link
                wish.handle = None
                self._queue.appendleft(wish)
