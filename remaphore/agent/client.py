"""The client of the agent: a node without keys and without a connection to the broker, which are the agent's.

Each operation is a connection to its socket. What is received here is verified by the agent, and believed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from remaphore.agent import frames, place
from remaphore.agent.connection import ANSWER_SECONDS, Connection
from remaphore.agent.requests import AgentRequest
from remaphore.config.settings import Auth, Config, Identity
from remaphore.errors import ConnectionLostError, DecodeError, PayloadTooLargeError, UsageError
from remaphore.node import CONNECT_SECONDS, REQUEST_SECONDS, Node, as_bytes, verb_set
from remaphore.protocol.drop import Drop
from remaphore.protocol.keys import PrivateKey
from remaphore.protocol.match import ALL
from remaphore.protocol.message import Message
from remaphore.protocol.peers import ANY_VERB, Peer, names
from remaphore.protocol.quorum import ReplyQuorum
from remaphore.requesting.requester import Room, expect

# Messages of a receiver that want a reply and have none yet; the agent keeps as many.
MAX_UNANSWERED = 1000


class AgentConfig(Config):
    """What a client of an agent knows of its configuration. Which identity signs, the agent decides."""

    def identity(self, key: str = "") -> Identity:
        """Return an identity without a private key."""
        return Identity(key=key, verbs=frozenset((ANY_VERB,)), load=_load_no_key)


def _load_no_key() -> PrivateKey:
    raise UsageError("the private keys are the agent's", hint="connect without an agent to sign here")


async def whoami(path: str) -> dict[str, Any]:
    """Return what the agent at *path* tells about us, its rules that name us, and its node. Raise AgentError."""
    place.check_directory(path, os.environ)
    connection = Connection(path, lambda _line: None)
    try:
        await connection.open()
        deadline = asyncio.get_running_loop().time() + ANSWER_SECONDS
        await connection.write(frames.encode_json(frames.HEAD, {"v": frames.VERSION, "op": frames.WHOAMI}))
        try:
            _, body = await connection.next(deadline=deadline)
        except ConnectionLostError:
            raise place.unreachable(path, OSError(0, "it has gone, or does not answer")) from None
        return connection.read_end(body)
    finally:
        connection.close()


async def read_config(path: str) -> AgentConfig:
    """Return what the agent at *path* tells about its node and those that we may address. Raise AgentError."""
    about = await whoami(path)
    try:
        return AgentConfig(
            source=f"the agent at {path}",
            destination=about["destination"],
            servers=(),
            auth=Auth(kind="none"),
            identities=(),
            subject=about["subject"],
            peers=tuple(Peer(destination=name, key=key, verbs=frozenset()) for name, key in about["peers"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Connection(path, lambda _line: None).not_understood(DecodeError(f"whoami: {error!r}")) from None


class AgentNode(Node):
    """A node that sends, requests, receives and replies through the agent at *path*. It holds no connection."""

    def __init__(self, path: str, config: AgentConfig, on_notice: Callable[[str], None] = lambda _line: None) -> None:
        self._path = path
        self._config = config
        self._on_notice = on_notice
        self._room: Room | None = None  # of its first request
        self._unanswered: dict[bytes, Connection] = {}  # by the digest of the message, the oldest first

    @property
    def config(self) -> Config:
        """What is known of the agent's configuration: its destination, its subject, and whom we may address."""
        return self._config

    def _check(self, call: str) -> None:
        """Raise UsageError: what the agent does not do."""
        hint = "connect without an agent, with a configuration"
        raise UsageError(f"node.{call} is not possible through an agent", hint=hint)

    async def send(
        self,
        verb: str,
        *,
        to: str = ALL,
        payload: str | bytes = b"",
        id: str = "",  # noqa: A002 - as in Node
        key: str = "",
        subject_name: str = "",
        timeout: float | None = None,
    ) -> Message:
        """Do what `Node.send` does; raise AgentError if the agent cannot be used, or does not permit it."""
        head = _head(frames.SEND, verb=verb, to=to, id=id, key=key, subject=subject_name, timeout=timeout)
        connection, raw = Connection(self._path, self._on_notice), as_bytes(payload)
        try:
            kind, body, _ = await _ask(connection, head, raw, timeout)
            if kind != frames.END:
                raise connection.not_understood(DecodeError(f"frame {kind!r}"))
            return _message(connection, connection.read_end(body), verb=verb, to=to, payload=raw)
        finally:
            connection.close()

    @asynccontextmanager
    async def request(
        self,
        verb: str,
        *,
        to: str = ALL,
        payload: str | bytes = b"",
        id: str = "",  # noqa: A002 - as in Node
        key: str = "",
        subject_name: str = "",
        timeout: float | None = REQUEST_SECONDS,
        receipts: bool = True,
        require: int | str | None = None,
        fail_fast: bool = False,
        on_drop: Callable[[Drop], None] = lambda _drop: None,
    ) -> AsyncIterator[AgentRequest]:
        """Do what `Node.request` does; raise AgentError if the agent cannot be used, or does not permit it."""
        available = 0 if require is None else len(names(expect(self._config, to)))
        quorum = ReplyQuorum.of(require, available, fail_fast=fail_fast)
        about = {"verb": verb, "to": to, "id": id, "key": key, "subject": subject_name}
        head = _head(frames.REQUEST, **about, timeout=timeout, receipts=receipts)
        connection, raw = Connection(self._path, self._on_notice), as_bytes(payload)
        try:
            kind, body, asked_by = await _ask(connection, head, raw, timeout)
            if kind == frames.END:
                connection.read_end(body)
            if kind != frames.ASKED:
                raise connection.not_understood(DecodeError(f"frame {kind!r}"))
            asked = frames.decode_json(body)
            message = _message(connection, asked, verb=verb, to=to, payload=raw, wants_reply=True)
            expected, deadline = asked.get("expected", ()), None if timeout is None else asked_by
            self._room = self._room or Room()
            yield AgentRequest(
                connection,
                message,
                expected,
                deadline,
                quorum=quorum,
                on_drop=on_drop,
                on_notice=self._on_notice,
                room=self._room,
            )
        finally:
            connection.close()

    async def receive(
        self,
        *,
        verbs: Iterable[str] | None = None,
        id: str | None = None,  # noqa: A002 - as in Node
        sender: str | None = None,
        subject_name: str = "",
        on_drop: Callable[[Drop], None] = lambda _drop: None,  # noqa: ARG002 - the agent logs what it drops
        pattern: str = "",
        any_destination: bool = False,
        count: int = 0,
        on_ready: Callable[[], object] = lambda: None,
    ) -> AsyncIterator[Message]:
        """Do what `Node.receive` does; *on_drop* is not called: drops are in the agent's log.

        pattern: only messages sent to exactly it. any_destination: those to other nodes too. count: end after so many,
        once the replies to them are sent; 0: never. on_ready: called once the broker has confirmed.
        """
        filters = {
            "verbs": None if (wanted := verb_set(verbs)) is None else sorted(wanted),
            "id": id or "",
            "sender": sender or "",
            "pattern": pattern,
            "any_destination": any_destination,
            "subject": subject_name,
            "count": count,
        }
        connection = Connection(self._path, self._on_notice)
        try:
            await connection.open()
            await connection.write(_head(frames.RECEIVE, timeout=None, **filters))
            while True:
                kind, body = await connection.next(deadline=None, outcome=place.RECEIVING)
                if kind == frames.END:
                    connection.read_end(body)
                    return
                if kind == frames.READY:
                    on_ready()
                elif kind == frames.MESSAGE:
                    yield self._taken(frames.decode_message(body), connection)
        finally:
            self._unanswered = {each: where for each, where in self._unanswered.items() if where is not connection}
            connection.close()

    def _taken(self, message: Message, connection: Connection) -> Message:
        if message.wants_reply:
            self._unanswered[message.digest] = connection
            if len(self._unanswered) > MAX_UNANSWERED:
                del self._unanswered[next(iter(self._unanswered))]
        return message

    async def reply(self, message: Message, exit_code: int | None, output: str | bytes = b"") -> None:
        """Let the agent sign and send the result of *message*, which `receive` has yielded, once.

        Raise UsageError if it requests no reply, or is not one of those. That the reply was not sent is a notice.
        """
        if not message.wants_reply:
            raise UsageError("the message does not request a reply", hint="reply only if message.wants_reply is true")
        connection = self._unanswered.pop(message.digest, None)
        if connection is None:
            hint = "reply once to each message, while the generator that yielded it is open"
            raise UsageError("the agent does not wait for a reply to this message", hint=hint)
        await connection.write(frames.encode_answer(message.digest, exit_code, as_bytes(output)))


def _head(operation: str, **keys: Any) -> bytes:
    head = {"v": frames.VERSION, "op": operation, **keys}
    encoded = frames.encode_json(frames.HEAD, head)
    if len(encoded) > frames.HEADER_BYTES + frames.MAX_HEAD_BYTES:
        raise UsageError("the verb, the pattern or the id is too long for the agent", hint="use shorter ones")
    return encoded


async def _ask(
    connection: Connection, head: bytes, payload: bytes, timeout: float | None
) -> tuple[bytes, bytes, float]:
    """Write an operation with its payload; return the first frame of the answer, and when it had to come.

    Raise PayloadTooLargeError, as without an agent, if no message can hold the payload.
    """
    if len(payload) > frames.MAX_PAYLOAD_BYTES:
        what = f"message too large: a payload of {len(payload)} bytes, receivers accept {frames.MAX_PAYLOAD_BYTES}"
        raise PayloadTooLargeError(what, hint="send a shorter payload")
    await connection.open()
    limit = CONNECT_SECONDS if timeout is None else timeout
    deadline = asyncio.get_running_loop().time() + limit + ANSWER_SECONDS
    await connection.write(head + frames.encode(frames.PAYLOAD, payload), deadline=deadline)
    return *await connection.next(deadline=deadline), deadline


def _message(connection: Connection, about: dict[str, Any], *, verb: str, to: str, **rest: Any) -> Message:
    """Return the message that the agent has sent, which it describes as *about*."""
    try:
        return Message(
            sender=about["sender"],
            destination=to,
            verb=verb,
            uuid=bytes.fromhex(about["id"]),
            time_ns=about["time_ns"],
            digest=bytes.fromhex(about["digest"]),
            **rest,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise connection.not_understood(DecodeError(f"not a message: {error!r}")) from None
