"""A request in progress through the agent, with the interface of `remaphore.requesting.requester.Request`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from remaphore.agent import frames, place
from remaphore.errors import DecodeError
from remaphore.messaging.signer import Outgoing
from remaphore.protocol.drop import Drop
from remaphore.protocol.exchange import Exchange
from remaphore.protocol.message import Message, Reply
from remaphore.protocol.peers import Peer
from remaphore.protocol.quorum import ReplyQuorum
from remaphore.protocol.receipt import Receipt
from remaphore.requesting.requester import Request, Room, replies_lost, size_of

if TYPE_CHECKING:
    from remaphore.agent.connection import Connection


class _Verified(Exchange):
    """The state of an exchange whose replies and receipts the agent has verified."""

    def __init__(self, message: Message, expected: Iterable[str]) -> None:
        asked = [Peer(destination=name, key=name, verbs=frozenset()) for name in expected]
        super().__init__(message, asked, allow_skew_ns=0)

    def take(self, event: Reply | Receipt) -> None:
        if isinstance(event, Receipt):
            self._receipts.confirmed.add(event.peer)
        else:
            self.replies[event.peer] = event


class AgentRequest(Request):
    """A request that the agent has sent. Its replies are read when they are asked for, so the agent bounds them."""

    def __init__(
        self,
        connection: Connection,
        message: Message,
        expected: Iterable[str],
        deadline: float | None,
        *,
        quorum: ReplyQuorum | None,
        on_drop: Callable[[Drop], None],
        on_notice: Callable[[str], None],
        room: Room,
    ) -> None:
        self._verified = _Verified(message, expected)
        super().__init__(Outgoing(message, b""), self._verified, quorum=quorum, on_drop=on_drop, room=room)
        self._connection = connection
        self._deadline = deadline
        self._on_notice = on_notice
        self._ended = False

    @property
    def has_event(self) -> bool:
        """Whether `events` yields the next reply or receipt without waiting."""
        return self._connection.has_frame and not self._ended

    async def _next(self, *, keep: bool = False) -> Reply | Receipt | None:
        while not self._ended:
            kind, body = await self._connection.next(deadline=self._deadline, outcome=place.SENT)
            try:
                if kind == frames.END:
                    self._end(body)
                elif kind in (frames.REPLY, frames.RECEIPT):
                    event = self._take(kind, body)
                    if keep and not self._room.take(size_of(event)):
                        raise replies_lost(1)
                    return event
            except DecodeError as error:
                raise self._connection.not_understood(error) from None
        return None

    def _take(self, kind: bytes, body: bytes) -> Reply | Receipt:
        cut = None
        event: Reply | Receipt
        if kind == frames.RECEIPT:
            event = frames.decode_receipt(body)
        else:
            event, cut = frames.decode_reply(body)
            if self._quorum is not None:
                self._quorum.count(event)
                self._ended = self._quorum.decided
        self._verified.take(event)
        if cut is not None:
            self._on_notice(place.describe_cut(event.peer, cut))
        return event

    def _end(self, body: bytes) -> None:
        self._ended = True
        for drop in frames.decode_drops(self._connection.read_end(body).get("dropped", {})):
            self._verified.dropped += drop.count
            self._on_drop(drop)
