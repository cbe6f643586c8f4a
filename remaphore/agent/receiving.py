"""Receiving for one client: messages go to it as they arrive, and its replies to them are signed and sent."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

from remaphore.agent import frames
from remaphore.agent.feeds import Feeds
from remaphore.agent.head import Head
from remaphore.agent.refusal import RefusedError
from remaphore.agent.session import SAME_RELEASE, End, Session
from remaphore.errors import DecodeError, TransportError, with_hint
from remaphore.node import Node
from remaphore.protocol import subject
from remaphore.protocol.message import Message, uuid_from_text
from remaphore.protocol.peers import by_key
from remaphore.receiving.receipts import ReceiptSender
from remaphore.tasks import spawn

# Messages of one client that want a reply and have none yet. The oldest one then gets none.
MAX_UNANSWERED = 1000
# After the timeout, how long the client may take to end what it runs, and to reply.
ANSWER_SECONDS = 10.0


class Receiving:
    """A client that receives. `run` is called once."""

    def __init__(self, node: Node, feeds: Feeds, receipts: ReceiptSender, session: Session, head: Head) -> None:
        self._node = node
        self._feeds = feeds
        self._receipts = receipts
        self._session = session
        self._head = head
        self._uuid = uuid_from_text(head.id) if head.id else None
        self._unanswered: dict[bytes, Message] = {}  # by digest, the oldest first; without their payloads
        self._passed = 0
        self._last: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # done: no further message
        self._all_answered = asyncio.Event()
        self._all_answered.set()

    async def run(self) -> End:
        """Receive until the count, the timeout, or a refusal. Raise RefusedError, UsageError or TransportError."""
        head = self._head
        subject.checked_name(head.subject)
        answering, answered = spawn(self._answer(), name="agent replies"), None
        limit = None
        try:
            try:
                async with asyncio.timeout(head.timeout):
                    await self._receive(answering)
            except TimeoutError:
                limit = ANSWER_SECONDS
            answered = spawn(self._all_answered.wait(), name="agent replies are sent")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit):
                    await _first(answered, answering)
        finally:
            answering.cancel()
            if answered is not None:
                answered.cancel()
            for digest in self._unanswered:
                self._receipts.end(digest)
        return End(0 if self._passed else 1, {"count": self._passed})

    async def _receive(self, answering: asyncio.Task[None]) -> None:
        config, head = self._node.config, self._head
        where = subject.for_messages(config.subject, head.subject)
        everywhere = head.any_destination or bool(head.pattern)
        async with self._feeds.joined(where, self._on_message, any_destination=everywhere):
            ready = {"destination": config.destination, "subject": where}
            self._session.require(frames.encode_json(frames.READY, ready), sent="nothing was received")
            await _first(self._last, answering)

    def _on_message(self, message: Message) -> None:
        if self._last.done() or not self.wants(message):
            return
        if not self._session.send(frames.encode_message(message)):
            what = f"too much waits to be read by you: {self._passed} messages were passed on, and the next was lost"
            self._last.set_exception(
                RefusedError("overflow", what, hint="read faster, or run fewer operations at once")
            )
            return
        self._passed += 1
        if message.wants_reply:
            peer = by_key(self._node.config.peers).get(message.sender)
            self._receipts.begin(message, legacy=peer is not None and peer.legacy)
            self._unanswered[message.digest] = replace(message, payload=b"")
            self._all_answered.clear()
            if len(self._unanswered) > MAX_UNANSWERED:
                oldest = next(iter(self._unanswered))
                del self._unanswered[oldest]
                self._receipts.end(oldest)
        if self._passed == self._head.count:
            self._last.set_result(None)

    def wants(self, message: Message) -> bool:
        """Return whether *message* passes the filters of the client."""
        head = self._head
        return (
            (head.verbs is None or message.verb in head.verbs)
            and (self._uuid is None or message.uuid == self._uuid)
            and (not head.sender or message.sender == head.sender)
            and (not head.pattern or head.any_destination or message.destination == head.pattern)
        )

    async def _answer(self) -> None:
        """Sign and send the client's replies. Raise RefusedError for one to a message that it may not reply to."""
        while True:
            try:
                digest, reply = frames.decode_answer(await self._session.next_answer())
            except DecodeError as error:
                raise RefusedError("protocol", str(error), hint=SAME_RELEASE) from None
            message = self._unanswered.pop(digest, None)
            if message is None:
                what = "the reply is to no message that was passed on here and wants one"
                raise RefusedError("refused", what, hint="reply once to each message whose wants_reply is true")
            self._receipts.end(digest)
            try:
                await self._node.reply(message, reply.exit_code, reply.output)
            except TransportError as error:
                self._session.notify(with_hint(f"reply not sent: {error}", error.hint))
            if not self._unanswered:
                self._all_answered.set()


async def _first(event: asyncio.Future[Any], answering: asyncio.Task[None]) -> None:
    """Return when *event* is done. Raise what it raises, or what ends *answering*, which never ends otherwise."""
    await asyncio.wait({event, answering}, return_when=asyncio.FIRST_COMPLETED)
    if answering.done():
        answering.result()
    event.result()
