"""One request: a message is published, and verified replies and receipts are received."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import NamedTuple, Self

from remaphore.config.settings import Config
from remaphore.errors import NotPermittedError, RemaphoreError, describe
from remaphore.logs import LibraryLogger
from remaphore.messaging.signer import Clock, Outgoing
from remaphore.protocol import peers, subject
from remaphore.protocol.drop import Drop
from remaphore.protocol.exchange import Exchange, Summary
from remaphore.protocol.match import ALL
from remaphore.protocol.message import Message, Reply
from remaphore.protocol.quorum import ReplyQuorum
from remaphore.protocol.receipt import Receipt
from remaphore.tasks import spawn
from remaphore.text import natural_key
from remaphore.transport.bus import Bus

# Bytes of replies that have arrived and wait to be read, of all requests of a node: the most memory that replies to a
# reader that does not read, such as a terminal that has been stopped, can occupy.
MAX_WAITING_BYTES = 64 * 1024 * 1024
# What a reply counts for in addition to its output, for the objects around it.
OVERHEAD_BYTES = 1024

_log = LibraryLogger()


def expect(config: Config, pattern: str) -> tuple[peers.Peer, ...]:
    """Return the peers that a request to *pattern* addresses, in natural order. Raise NoReceiversError if none."""
    responders = peers.addressed(config.peers, pattern)
    if not responders:
        from remaphore.requesting.selection import no_receivers

        raise no_receivers(config, [pattern], peers.names(peers.addressed(config.peers, ALL)))
    return responders


def expect_each(config: Config, patterns: Iterable[str]) -> dict[str, tuple[peers.Peer, ...]]:
    """Return what `expect` does for each of *patterns*. Raise NoReceiversError."""
    return {pattern: expect(config, pattern) for pattern in patterns}


class Target(NamedTuple):
    """A configured destination, and why a request would not be sent to it; empty if it would be."""

    destination: str
    skip_reason: str = ""


def preview(
    config: Config, verb: str, asked: Collection[str], skip_reason: str, *, key: str = ""
) -> tuple[Target, ...]:
    """Return every configured destination once, in natural order: those of *asked*, and why the others are skipped.

    skip_reason: of those that are known and not in *asked*. A key that is configured twice counts for its first
    destination: with `com.example.a` and `com.example.b` under one key, `com.example.b` is skipped for that reason.
    """
    every = sorted(peers.names(config.peers), key=natural_key)
    try:
        config.sender(verb, key)
    except NotPermittedError as error:
        return tuple(Target(name, str(error)) for name in every)
    known = frozenset(peers.names(peers.by_key(config.peers).values()))
    targets = []
    for name in every:
        if name in asked:
            reason = ""
        elif name not in known:
            reason = "its key is listed earlier under another destination, which takes precedence"
        else:
            reason = skip_reason
        targets.append(Target(name, reason))
    return tuple(targets)


class Room:
    """Room for the replies that have arrived and wait to be read: of all requests of a node together."""

    def __init__(self) -> None:
        self.used = 0  # bytes

    def take(self, size: int) -> bool:
        """Return whether there was room for *size* bytes, which are in use from now on."""
        if self.used + size > MAX_WAITING_BYTES:
            return False
        self.used += size
        return True


class Request:
    """A request in progress. Iterate over it for the replies, in the order of arrival.

    The iteration ends when every expected destination has answered, when *quorum* is decided, or at the deadline. A
    reply that is not accepted, such as one of an unexpected sender, a second or a late one, is passed to *on_drop* and
    counted. So is a receipt that is not accepted; without *receipts*, none are subscribed to.

    Replies that wait to be read occupy *room*. Once it is full, further ones are discarded, and the iteration ends with
    a RemaphoreError after those before them: an iteration without these would look complete.
    """

    def __init__(
        self,
        outgoing: Outgoing,
        exchange: Exchange,
        *,
        quorum: ReplyQuorum | None = None,
        receipts: bool = True,
        on_drop: Callable[[Drop], None] = lambda _drop: None,
        clock: Clock = time.time_ns,
        room: Room | None = None,
    ) -> None:
        self.outgoing = outgoing
        self._exchange = exchange
        self._quorum = quorum
        self._on_drop = on_drop
        self._clock = clock
        self._room = room or Room()
        self._occupied = 0  # bytes of the room
        self._being_read = 0  # of these, what the reader has and works on
        self._discarded = 0  # replies and receipts
        self._arrived: asyncio.Queue[Reply | Receipt | None] = asyncio.Queue()  # None: the end
        self._ended = False
        self._deadline: float | None = None
        self._receipts = receipts
        self._subscribing: asyncio.Task[None] | None = None

    @property
    def message(self) -> Message:
        """The request as it was sent."""
        return self.outgoing.message

    @property
    def expected(self) -> tuple[str, ...]:
        """The destinations that the request was sent to."""
        return self._exchange.expected

    @property
    def missing(self) -> tuple[str, ...]:
        """The destinations that have not answered yet."""
        return self._exchange.missing

    @property
    def running(self) -> tuple[str, ...]:
        """The destinations of `missing` that confirmed that they have started the request."""
        return self._exchange.running

    @property
    def silent(self) -> tuple[str, ...]:
        """The destinations of `missing` that have sent nothing at all."""
        return self.summary().silent

    @property
    def rejected(self) -> tuple[str, ...]:
        """The destinations that answered that they reject the request."""
        return self.summary().rejected

    @property
    def met(self) -> bool:
        """Whether as many destinations have succeeded as are required: all, unless `require` states another number."""
        return self._quorum.met if self._quorum else len(self.summary().ok) == len(self.expected)

    def summary(self) -> Summary:
        """Return the present state: which destinations have answered, failed, rejected, or are missing."""
        return self._exchange.summary()

    def end(self) -> None:
        """Accept nothing more, and end the iteration after what has arrived."""
        if not self._ended:
            self._ended = True
            self._arrived.put_nowait(None)

    async def start(self, bus: Bus, config: Config, *, subject_name: str, deadline: float | None) -> None:
        """Subscribe to the replies, then publish.

        deadline: when the iteration ends, in seconds of the loop's clock; None for never. Return at the deadline too if
        the broker is away and the request was not sent: all destinations are missing then.
        """
        self._deadline = deadline
        if self._receipts:
            # The task starts when `subscribe` below waits: where the broker limits subscriptions, the one for replies
            # comes first. One round trip confirms both.
            self._subscribing = spawn(self._subscribe_to_receipts(bus, config), name="receipts")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await bus.subscribe(self._reply_subject(config), self._deliver)
                if self._subscribing is not None:
                    await self._subscribing
                await bus.publish(subject.for_messages(config.subject, subject_name), self.outgoing.raw)

    async def stop(self, bus: Bus, config: Config) -> None:
        """Stop receiving replies. Those that have arrived can still be read."""
        self._free(self._occupied)
        replies = self._reply_subject(config)
        if self._subscribing is not None:
            self._subscribing.cancel()
            await bus.unsubscribe(subject.for_receipts(replies))
        await bus.unsubscribe(replies)

    @property
    def has_event(self) -> bool:
        """Whether `events` yields the next reply or receipt without waiting."""
        return not self._arrived.empty()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Reply:
        """Return the next verified reply. Raise StopAsyncIteration at the end, and RemaphoreError, see `Request`."""
        while isinstance(event := await self._next(), Receipt):
            pass
        if event is None:
            raise StopAsyncIteration
        return event

    async def events(self, *, keep: bool = False) -> AsyncIterator[Reply | Receipt]:
        """Yield verified replies and receipts, in the order of arrival, up to the same end as the iteration.

        keep: each occupies its room until the caller gives it to `release`, and not only until the next one is read.
        """
        while (event := await self._next(keep=keep)) is not None:
            yield event

    def release(self, event: Reply | Receipt) -> None:
        """Free the room of *event*, which `events` has yielded with *keep*."""
        self._room.used -= size_of(event)

    async def _next(self, *, keep: bool = False) -> Reply | Receipt | None:
        self._free(self._being_read)
        self._being_read = 0
        if self.has_event:  # without the timeout, which costs as much as all else here
            event = self._arrived.get_nowait()
        elif self._exchange.complete or self._ended:
            return None
        else:
            try:
                async with asyncio.timeout_at(self._deadline):
                    event = await self._arrived.get()
            except TimeoutError:
                return None
        if event is None:
            if not self._discarded:
                return None
            self._arrived.put_nowait(None)  # for whoever reads on
            raise replies_lost(self._discarded)
        if keep:
            self._occupied -= size_of(event)
        else:
            self._being_read = size_of(event)
        return event

    def _free(self, size: int) -> None:
        size = min(size, self._occupied)  # nothing is left after `stop`
        self._occupied -= size
        self._room.used -= size

    def _deliver(self, raw: bytes) -> None:
        if not self._ended:
            self._accept(self._exchange.admit(raw, self._clock()))

    def _deliver_receipt(self, raw: bytes) -> None:
        if not self._ended:
            self._accept(self._exchange.admit_receipt(raw, self._clock()))

    def _accept(self, verdict: Reply | Receipt | Drop | None) -> None:
        if isinstance(verdict, Drop):
            self._on_drop(verdict)
        elif verdict is not None:
            size = size_of(verdict)
            if self._discarded or not self._room.take(size):
                self._discarded += 1
                if self._discarded == 1:
                    self._arrived.put_nowait(None)
                return
            self._occupied += size
            self._arrived.put_nowait(verdict)
            if self._quorum is not None and isinstance(verdict, Reply):
                self._quorum.count(verdict)
                if self._quorum.decided:
                    self.end()

    async def _subscribe_to_receipts(self, bus: Bus, config: Config) -> None:
        try:
            where = subject.for_receipts(self._reply_subject(config))
            await bus.subscribe(where, self._deliver_receipt, optional=True)
        except Exception as error:  # noqa: BLE001 - such as a broker that does not permit it: replies need no receipts
            _log.debug("receipts_unavailable", error=describe(error))

    def _reply_subject(self, config: Config) -> str:
        return subject.for_replies(config.subject, self.message.digest)


def replies_lost(number: int) -> RemaphoreError:
    """Return the error of a request that has got more replies than there was room for."""
    return RemaphoreError(
        f"replies lost: {number}, because replies of {MAX_WAITING_BYTES / 1024**2:.3g} MiB wait to be read",
        hint="read replies as they arrive, or request fewer destinations at a time, as with --batch",
    )


def size_of(event: Reply | Receipt) -> int:
    """Return the bytes of room that a reply or a receipt occupies."""
    return OVERHEAD_BYTES + (len(event.output) if isinstance(event, Reply) else 0)
