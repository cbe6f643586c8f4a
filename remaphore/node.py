"""The Python API: a connection to the broker, and the `Node` that has it.

async with remaphore.connect("/etc/remaphore/remaphore.toml") as node:
    await node.send("deploy", to="com.example.**", payload="v42")
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from remaphore.config.search import load
from remaphore.config.settings import Config
from remaphore.errors import BrokerUnavailableError, UsageError
from remaphore.messaging.signer import Clock, Signer
from remaphore.protocol import subject
from remaphore.protocol.match import ALL
from remaphore.protocol.message import Message, Reply, uuid_from_text
from remaphore.protocol.peers import names
from remaphore.tasks import deadline_after

if TYPE_CHECKING:
    from remaphore.coordination.held_lock import HeldLock, Locks
    from remaphore.hooks.plugin_tasks import CallGuard
    from remaphore.hooks.stats import LockStats
    from remaphore.protocol.drop import Drop
    from remaphore.protocol.gate import Filters
    from remaphore.receiving.inline import Inbox
    from remaphore.receiving.wait import Wait
    from remaphore.requesting.requester import Request, Room
    from remaphore.transport.bus import Bus

CONNECT_SECONDS = 10.0
REQUEST_SECONDS = 30.0


@asynccontextmanager
async def connect(
    config: Config | str | os.PathLike[str] | None = None,
    *,
    timeout: float | None = CONNECT_SECONDS,
    on_notice: Callable[[str], None] = lambda _line: None,
    on_reconnect: Callable[[str], None] | None = None,
    on_protocol_error: Callable[[str], None] | None = None,
) -> AsyncIterator[Node]:
    """Connect to the broker of *config*, and yield a node: `remaphore.connect`, without an agent."""
    from remaphore.transport.nats_client import NatsBus

    settings = config if isinstance(config, Config) else load(os.fspath(config) if config else None, os.environ)
    bus = await NatsBus.connect(
        settings.servers,
        auth=settings.auth,
        tls=settings.tls,
        limit=timeout,
        on_notice=on_notice,
        on_reconnect=on_reconnect,
        on_protocol_error=on_protocol_error,
    )
    try:
        yield Node(bus, settings)
    finally:
        await bus.close()


class _Sender:
    """Sends messages and requests, and holds locks: what `Node` and `DaemonNode` have in common."""

    def __init__(self, bus: Bus, signer: Signer, *, clock: Clock) -> None:
        self.bus = bus
        self._clock = clock
        self._signer = signer
        self._room: Room | None = None  # of its first request
        self._locks: Locks | None = None  # from its first one on

    @property
    def config(self) -> Config:
        """The configuration of its identities and peers."""
        return self._signer.config

    def apply_config(self, config: Config) -> None:
        """Use the identities and peers of *config* from now on; what is in progress keeps those that it began with."""
        self._signer.config = config

    def _check(self, call: str) -> None:
        """Raise UsageError if *call* is not possible now."""

    async def send(
        self,
        verb: str,
        *,
        to: str = ALL,
        payload: str | bytes = b"",
        id: str = "",  # noqa: A002 - the name of the option on the command line
        key: str = "",
        subject_name: str = "",
        timeout: float | None = None,
    ) -> Message:
        """Send a message without waiting for replies; return it once the broker has it.

        to: the pattern of destinations. payload: bytes, or text, which is encoded as UTF-8. id: the text that receivers
        can wait for, random if empty. key: the public key of the identity that signs, the default one if empty.
        subject_name: the last part of the subject, `all` if empty. timeout: seconds to wait for an unavailable broker,
        None for no limit.

        Raise UsageError, NotPermittedError, EncodeError, or TransportError; of the last, BrokerUnavailableError means
        that the message was not sent, ConnectionLostError that it may have been.
        """
        self._check("send")
        outgoing = self._signer.compose(verb, to=to, payload=as_bytes(payload), uuid=id, key=key)
        where = subject.for_messages(self.config.subject, subject.checked_name(subject_name))
        await self.bus.publish(where, outgoing.raw, timeout=timeout)
        return outgoing.message

    @asynccontextmanager
    async def request(
        self,
        verb: str,
        *,
        to: str = ALL,
        payload: str | bytes = b"",
        id: str = "",  # noqa: A002 - as above
        key: str = "",
        subject_name: str = "",
        timeout: float | None = REQUEST_SECONDS,
        receipts: bool = True,
        require: int | str | None = None,
        fail_fast: bool = False,
        on_drop: Callable[[Drop], None] = lambda _drop: None,
    ) -> AsyncIterator[Request]:
        """Send a message that requests replies, and yield the request, to iterate over its replies.

            async with node.request("deploy", to="com.example.**", timeout=30) as request:
                async for reply in request: ...
            request.summary()

        timeout: seconds for the whole request, None for no limit: the iteration ends then, or when all expected
        destinations have answered. receipts: whether to subscribe to the confirmations that the request has started,
        without which `running` is empty. require: end the iteration once so many destinations have succeeded: a number,
        "90%" (rounded up) or "all"; `met` is whether they have. fail_fast: end it too once they cannot any more.
        on_drop: called with each reply or receipt that is dropped, and why. For the others see `send`.
        Raise NoReceiversError if no peer matches *to*, UsageError if it matches fewer than required, and what `send`
        raises. The iteration raises RemaphoreError if more than 64 MiB of replies wait to be read.
        """
        from remaphore.protocol.exchange import Exchange
        from remaphore.protocol.quorum import ReplyQuorum
        from remaphore.requesting.requester import Request, Room, expect

        self._check("request")
        config = self.config  # a reload may replace it meanwhile
        deadline = deadline_after(timeout)
        responders = expect(config, to)
        quorum = ReplyQuorum.of(require, len(names(responders)), fail_fast=fail_fast)
        outgoing = self._signer.compose(verb, to=to, payload=as_bytes(payload), uuid=id, key=key, wants_reply=True)
        where = subject.for_replies(config.subject, outgoing.message.digest)
        exchange = Exchange(outgoing.message, responders, allow_skew_ns=config.allow_skew_ns, subject=where)
        self._room = self._room or Room()
        request = Request(
            outgoing, exchange, quorum=quorum, receipts=receipts, on_drop=on_drop, clock=self._clock, room=self._room
        )
        try:
            await request.start(self.bus, config, subject_name=subject.checked_name(subject_name), deadline=deadline)
            yield request
        finally:
            await request.stop(self.bus, config)

    @asynccontextmanager
    async def lock(
        self, name: str, *, wait: float | None = None, slots: int = 1, ttl: float = 30.0, note: str = ""
    ) -> AsyncIterator[HeldLock]:
        """Hold the lock *name*, or one of its *slots*, in a block, wherever else others wait for it; yield it.

            async with node.lock("deploy", wait=60) as lease:
                storage.write(data, token=lease.token)

        wait: seconds to wait for it, None for no limit, 0 for not at all. ttl: seconds that others must hear nothing of
        us before they may take it. note: what `remaphore lock list` shows of us.

        The lock is freed at the end of the block. If it is lost, because the broker cannot be reached or a peer that
        may has ended our lease, the block is cancelled a sixth of *ttl* before others may have it, and LeaseLostError
        is raised. Code that does not heed its cancellation cannot be stopped: not this, but the token protects what
        the lock is for. A cancellation from outside frees the lock and stays CancelledError.

        Raise NotAcquiredError; UsageError, also if others use the lock with another number of slots; NotPermittedError
        if the default identity has no verb `lock:NAME`; CoordinationUnavailableError if locks cannot be used on this
        broker; TransportError.
        """
        from remaphore.coordination.held_lock import Locks
        from remaphore.receiving.ledger.state import coordination_directory

        self._check("lock")
        self._locks = self._locks or Locks(self.bus, coordination_directory(self.config, os.environ))
        async with self._locks.hold(self.config, name, wait=wait, slots=slots, ttl=ttl, note=note) as held:
            yield held

    @property
    def lock_stats(self) -> Mapping[str, LockStats]:
        """What has happened to the locks of this node, by their names. Any thread may read it."""
        return self._locks.stats() if self._locks else {}


class Node(_Sender):
    """A connected node: sends, requests, receives and replies. Made by `connect`; tests make it on a `MemoryBus`."""

    def __init__(self, bus: Bus, config: Config, *, clock: Clock = time.time_ns) -> None:
        super().__init__(bus, Signer(config, clock), clock=clock)

    async def receive(
        self,
        *,
        verbs: Iterable[str] | None = None,
        id: str | None = None,  # noqa: A002 - as above
        sender: str | None = None,
        subject_name: str = "",
        on_drop: Callable[[Drop], None] = lambda _drop: None,
    ) -> AsyncIterator[Message]:
        """Yield verified messages for this node, in the order of arrival, until the generator is closed (`aclosing`).

        verbs, id, sender (a public key in base58): accept only messages with these, None for all. subject_name: the
        last part of the subject, `all` if empty. on_drop: called with each message that is dropped, and why.
        """
        from remaphore.protocol.gate import Filters

        filters = Filters(verbs=verb_set(verbs), uuid=None if id is None else uuid_from_text(id), sender=sender)
        async with self._inbox(filters, subject_name, on_drop) as inbox:
            while True:
                yield await inbox.get()

    @asynccontextmanager
    async def wait(
        self,
        count: int | str = 1,
        *,
        sender_pattern: str = ALL,
        verbs: Iterable[str] | None = None,
        id: str | None = None,  # noqa: A002 - as above
        subject_name: str = "",
        timeout: float | None = None,
        on_drop: Callable[[Drop], None] = lambda _drop: None,
    ) -> AsyncIterator[Wait]:
        """Wait for messages of *count* nodes; yield the wait, once the broker has confirmed that this node receives.

            async with node.wait("all", sender_pattern="com.example.db.*", id="dumped", timeout=7200) as wait:
                async for message in wait: ...
            wait.met, wait.missing

        count: a number of destinations, "90%" (rounded up) or "all", of the peers that match *sender_pattern* and may
        send one of *verbs* to this node. A destination counts once, however many messages it sends and keys it has.
        timeout: seconds, None for no limit: the iteration ends then, or when *count* is reached.
        The other parameters are those of `receive`. Raise UsageError if fewer peers match, BrokerUnavailableError if
        the broker does not confirm before the timeout, and SubjectDeniedError.
        """
        from remaphore.protocol.gate import Filters
        from remaphore.protocol.quorum import Requirement, SenderQuorum
        from remaphore.receiving.wait import Wait
        from remaphore.requesting.selection import expect_senders

        self._check("wait")
        wanted = verb_set(verbs)
        quorum = SenderQuorum(expect_senders(self.config, sender_pattern, wanted), Requirement.parse(count))
        filters = Filters(verbs=wanted, uuid=None if id is None else uuid_from_text(id))
        deadline = deadline_after(timeout)
        async with self._inbox(filters, subject_name, on_drop, deadline=deadline) as inbox:
            yield Wait(inbox, quorum, deadline)

    @asynccontextmanager
    async def _inbox(
        self,
        filters: Filters,
        subject_name: str,
        on_drop: Callable[[Drop], None],
        *,
        deadline: float | None = None,
    ) -> AsyncIterator[Inbox]:
        """Receive into the inbox that this yields. Raise BrokerUnavailableError if that has not begun at *deadline*."""
        from remaphore.protocol.drop import Drop, DropReason
        from remaphore.receiving.gates import make_gate
        from remaphore.receiving.inline import FULL, Inbox, InlineAdmission

        where = subject.for_messages(self.config.subject, subject.checked_name(subject_name))
        inbox = Inbox(
            on_admit=lambda _message: None,
            on_full=lambda message: on_drop(Drop(DropReason.BUSY, FULL, len(message.payload), where)),
        )
        gate = make_gate(self.config, filters, subject=where)
        admission = InlineAdmission(gate, on_accept=inbox.extend, on_drop=on_drop, clock=self._clock)
        try:
            async with asyncio.timeout_at(deadline):
                await self.bus.subscribe_batches(where, admission.deliver)
        except TimeoutError:
            what = f"the broker did not confirm the subscription to {where} in time"
            raise BrokerUnavailableError(what) from None
        try:
            yield inbox
        finally:
            admission.close()
            await self.bus.unsubscribe(where)

    async def reply(self, message: Message, exit_code: int | None, output: str | bytes = b"") -> None:
        """Send the result of *message* to its sender; an exit code of None says that nothing was run.

        Raise UsageError if the message requests no reply, or TransportError.
        """
        from remaphore.messaging.replier import send_reply

        if not message.wants_reply:
            raise UsageError("the message does not request a reply", hint="reply only if message.wants_reply is true")
        await send_reply(self.bus, self.config, self._signer, message, Reply(exit_code, as_bytes(output)))


class DaemonNode(_Sender):
    """The node of a daemon for its plugins, see `PluginNode`: it has the daemon's connection and the daemon's signer.

    A signer of its own could sign a nanosecond that the daemon has signed, and would not follow reloads.
    """

    def __init__(self, bus: Bus, signer: Signer, clock: Clock, guard: CallGuard) -> None:
        # What `request` imports. A daemon runs for months, in which an upgrade may replace the files.
        import remaphore.requesting.requester
        import remaphore.requesting.selection

        super().__init__(bus, signer, clock=clock)
        if any(verb.startswith("lock:") for identity in signer.config.identities for verb in identity.verbs):
            import remaphore.coordination.held_lock  # noqa: F401 - for the same reason; others would need memory for it
        self._guard = guard

    def _check(self, call: str) -> None:
        self._guard.check(f"node.{call}")


def as_bytes(text: str | bytes) -> bytes:
    """Return *text* in UTF-8, or the bytes as they are."""
    return text.encode(errors="surrogateescape") if isinstance(text, str) else text


def verb_set(verbs: Iterable[str] | None) -> frozenset[str] | None:
    """Return the verbs that are accepted, None for all. A text is one of them, not one for each of its letters."""
    return None if verbs is None else frozenset((verbs,) if isinstance(verbs, str) else verbs)
