"""The client of the agent: a node without keys and without a connection to the broker, which are the agent's.

Each operation is a connection to its socket. What is received here is verified by the agent, and believed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from remaphore import errors
from remaphore.agent import frames, place
from remaphore.agent.requests import AgentRequest
from remaphore.config.settings import Auth, Config, Identity
from remaphore.errors import AgentError, DecodeError, RemaphoreError, UsageError
from remaphore.node import CONNECT_SECONDS, REQUEST_SECONDS, Node, as_bytes
from remaphore.protocol.drop import Drop
from remaphore.protocol.keys import PrivateKey
from remaphore.protocol.match import ALL
from remaphore.protocol.message import Message
from remaphore.protocol.peers import ANY_VERB, Peer

# Seconds in which an agent that works does what takes no broker, and by which others exceed its own limit: one that is
# stopped still accepts connections.
ANSWER_SECONDS = 5.0
# Messages of a receiver that want a reply and have none yet; the agent keeps as many.
MAX_UNANSWERED = 1000

_READ_BYTES = 256 * 1024
_BACKLOG_SECONDS = 0.02  # between two attempts to connect while others wait to be accepted
_USAGE = ("usage", "protocol", "late", "UsageError", "ConfigError")


class AgentConfig(Config):
    """What a client of an agent knows of its configuration. Which identity signs, the agent decides."""

    def identity(self, key: str = "") -> Identity:
        """Return an identity without a private key."""
        return Identity(key=key, verbs=frozenset((ANY_VERB,)), load=_load_no_key)


def _load_no_key() -> PrivateKey:
    raise UsageError("the private keys are the agent's", hint="connect without an agent to sign here")


class Connection:
    """One operation of the agent at *path*. on_notice: gets its lines for people."""

    def __init__(self, path: str, on_notice: Callable[[str], None]) -> None:
        self.path = path
        self._on_notice = on_notice
        self._decoder = frames.Decoder(frames.FROM_AGENT)
        self._ready: list[tuple[bytes, bytes]] = []
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self, *, limit: float = ANSWER_SECONDS) -> None:
        """Connect. Raise AgentError, after *limit* seconds at the latest."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + limit
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(0)
        try:
            # Not by the event loop, which takes the EAGAIN of a full backlog for a connection.
            while True:
                try:
                    connection.connect(self.path)
                    break
                except BlockingIOError as error:
                    if loop.time() >= ends:
                        raise OSError(error.errno, "too many others wait for it, or it is stopped") from None
                    await asyncio.sleep(_BACKLOG_SECONDS)
            self._reader, self._writer = await asyncio.open_unix_connection(sock=connection)
        except OSError as error:
            connection.close()
            raise place.unreachable(self.path, error) from None
        except BaseException:
            connection.close()
            raise

    @property
    def has_frame(self) -> bool:
        """Whether `next` returns a frame without waiting."""
        return bool(self._ready)

    def write(self, data: bytes) -> None:
        """Write *data*, without waiting. Where the agent has gone, `next` tells."""
        assert self._writer is not None
        with contextlib.suppress(OSError):
            self._writer.write(data)

    async def next(self, *, deadline: float | None, outcome: str = place.UNKNOWN) -> tuple[bytes, bytes]:
        """Return the next frame that is no notice. Raise ConnectionLostError, at the *deadline* as well.

        outcome: what it means that the agent has gone, for the error.
        """
        assert self._reader is not None
        while True:
            while self._ready:
                kind, body = self._ready.pop(0)
                if kind != frames.NOTICE:
                    return kind, body
                self._on_notice(body.decode(errors="replace"))
            data = b""
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout_at(deadline):
                    data = await self._reader.read(_READ_BYTES)
            if not data:
                raise place.lost(self.path, outcome)
            try:
                self._ready += self._decoder.feed(data)
            except DecodeError as error:
                raise self.not_understood(error) from None

    def not_understood(self, error: RemaphoreError) -> AgentError:
        """Return the error that the answer is not one of this protocol."""
        what = f"the answer of the agent at {self.path} is not understood: {error}"
        return AgentError(what, hint="install the same remaphore for both, and restart the agent", kind="protocol")

    def read_end(self, body: bytes) -> dict[str, Any]:
        """Return what the last frame says. Raise the error that it reports."""
        try:
            end = frames.decode_end(body)
        except DecodeError as error:
            raise self.not_understood(error) from None
        if "error" in end:
            raise _error_of(str(end["error"]), str(end.get("hint", "")), str(end.get("kind", "")))
        return end

    def close(self) -> None:
        """End the operation."""
        if self._writer is not None:
            self._writer.transport.abort()


def _error_of(message: str, hint: str, kind: str) -> RemaphoreError:
    """Return the public error that the agent calls *kind*, else an AgentError."""
    if kind in _USAGE:
        return UsageError(message, hint=hint)
    named = getattr(errors, kind, None) if kind.endswith("Error") else None
    if isinstance(named, type) and issubclass(named, RemaphoreError):
        return named(message, hint=hint)
    return AgentError(message, hint=hint, kind=kind)


async def read_config(path: str) -> AgentConfig:
    """Return what the agent at *path* tells about its node and those that we may address. Raise AgentError."""
    place.check_directory(path, os.environ)
    connection = Connection(path, lambda _line: None)
    await connection.open()
    try:
        connection.write(frames.encode_json(frames.HEAD, {"v": frames.VERSION, "op": frames.WHOAMI}))
        try:
            _, body = await connection.next(deadline=asyncio.get_running_loop().time() + ANSWER_SECONDS)
        except errors.ConnectionLostError:
            raise place.unreachable(path, OSError(0, "it has gone, or does not answer")) from None
        about = connection.read_end(body)
    finally:
        connection.close()
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
        raise connection.not_understood(DecodeError(f"whoami: {error!r}")) from None


class AgentNode(Node):
    """A node that sends, requests, receives and replies through the agent at *path*. It holds no connection."""

    def __init__(self, path: str, config: AgentConfig, on_notice: Callable[[str], None] = lambda _line: None) -> None:
        self._path = path
        self._config = config
        self._on_notice = on_notice
        self._unanswered: dict[bytes, Connection] = {}  # by the digest of the message, the oldest first

    @property
    def config(self) -> Config:
        """What is known of the agent's configuration: its destination, its subject, and whom we may address."""
        return self._config

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
        connection = Connection(self._path, self._on_notice)
        await connection.open()
        try:
            raw = as_bytes(payload)
            connection.write(head + frames.encode(frames.PAYLOAD, raw))
            limit = CONNECT_SECONDS if timeout is None else timeout
            deadline = asyncio.get_running_loop().time() + limit + ANSWER_SECONDS
            kind, body = await connection.next(deadline=deadline)
            if kind != frames.END:
                raise connection.not_understood(DecodeError(f"frame {kind!r}"))
            end = connection.read_end(body)
            return _message(connection, end, verb=verb, to=to, payload=raw)
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
        on_drop: Callable[[Drop], None] = lambda _drop: None,
    ) -> AsyncIterator[AgentRequest]:
        """Do what `Node.request` does; raise AgentError if the agent cannot be used, or does not permit it."""
        head = _head(
            frames.REQUEST,
            verb=verb,
            to=to,
            id=id,
            key=key,
            subject=subject_name,
            timeout=timeout,
            receipts=receipts,
        )
        connection = Connection(self._path, self._on_notice)
        await connection.open()
        try:
            raw = as_bytes(payload)
            connection.write(head + frames.encode(frames.PAYLOAD, raw))
            now = asyncio.get_running_loop().time()
            limit = CONNECT_SECONDS if timeout is None else timeout
            kind, body = await connection.next(deadline=now + limit + ANSWER_SECONDS)
            if kind == frames.END:
                connection.read_end(body)
            if kind != frames.ASKED:
                raise connection.not_understood(DecodeError(f"frame {kind!r}"))
            asked = frames.decode_json(body)
            message = _message(connection, asked, verb=verb, to=to, payload=raw, wants_reply=True)
            deadline = None if timeout is None else now + timeout + ANSWER_SECONDS
            yield AgentRequest(
                connection, message, asked.get("expected", ()), deadline, on_drop=on_drop, on_notice=self._on_notice
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
            "verbs": None if verbs is None else sorted(verbs),
            "id": id or "",
            "sender": sender or "",
            "pattern": pattern,
            "any_destination": any_destination,
            "subject": subject_name,
            "count": count,
        }
        connection = Connection(self._path, self._on_notice)
        await connection.open()
        try:
            connection.write(_head(frames.RECEIVE, timeout=None, **filters))
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
        connection.write(frames.encode_answer(message.digest, exit_code, as_bytes(output)))


def _head(operation: str, **keys: Any) -> bytes:
    head = {"v": frames.VERSION, "op": operation, **keys}
    encoded = frames.encode_json(frames.HEAD, head)
    if len(encoded) > frames.HEADER_BYTES + frames.MAX_HEAD_BYTES:
        raise UsageError("the verb, the pattern or the id is too long for the agent", hint="use shorter ones")
    return encoded


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
