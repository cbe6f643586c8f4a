"""One connection of a client, which is one operation: its head, its end, and what waits to be read in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from remaphore.agent import frames
from remaphore.agent.head import Head, parse_head
from remaphore.agent.refusal import RefusedError
from remaphore.errors import ConfigError, RemaphoreError, UsageError
from remaphore.protocol.message import Reply
from remaphore.tasks import spawn

if TYPE_CHECKING:
    from collections.abc import Callable

    from remaphore.agent.budget import Account
    from remaphore.agent.credentials import Caller

# Replies that wait for one client, in bytes. The next outputs are cut to CUT_BYTES, with their size.
REPLY_BYTES = 4 * 1024 * 1024
CUT_BYTES = 1024
# What a reply of a client to a message counts for besides its output, while it waits to be sent.
ANSWER_BYTES = 1024
# A client that reads nothing for so long, when its operation has ended, does not get the rest.
IDLE_SECONDS = 60.0
# How long what a client still writes is read after the end: it would get EPIPE in place of the end otherwise.
LINGER_SECONDS = 1.0
SAME_RELEASE = "use the client of the same remaphore"  # the hint where a client writes what it should not


class End(NamedTuple):
    """The end of an operation. about: what the last frame says besides the exit code."""

    exit_code: int
    about: dict[str, Any]

    @property
    def kind(self) -> str:
        """The kind of the error, empty if there is none."""
        return str(self.about.get("kind", ""))


def end_of(error: BaseException | None) -> End:
    """Return the end that reports *error*."""
    if isinstance(error, RefusedError):
        return End(error.exit_code, {"error": str(error), "hint": error.hint, "kind": error.kind})
    if isinstance(error, RemaphoreError):
        code = 2 if isinstance(error, UsageError | ConfigError) else 3
        return End(code, {"error": str(error), "hint": error.hint, "kind": type(error).__name__})
    return End(3, {"error": "the agent failed", "hint": "see the log of the agent", "kind": "internal"})


class Session:
    """The connection of *caller*. What is written to it never waits: *account* limits how much may be unread."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, caller: Caller, account: Account
    ) -> None:
        self.caller = caller
        self.head: Head | None = None
        self.payload = b""
        self.rule = ""  # the path of the rule that permits
        self.digest = ""
        self.recheck: Callable[[], object] | None = (
            None  # raises RefusedError if a new rule does not permit it any more
        )
        self._account = account
        self._reader = reader
        self._writer = writer
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def read_head(self) -> Head:
        """Return the head, and read the payload if one follows. Raise RefusedError, also where either is late."""
        raw = await self._read_frame(frames.HEAD, frames.MAX_HEAD_BYTES, "head")
        self.head = head = parse_head(raw)
        if head.operation in frames.WITH_PAYLOAD:
            self.payload = await self._read_frame(frames.PAYLOAD, frames.MAX_PAYLOAD_BYTES, "payload")
        return head

    async def run(self, operation: Coroutine[Any, Any, End]) -> End:
        """Return the end of *operation*. The end of the connection, and `end`, cancel it; then raise RefusedError."""
        work = spawn(operation, name="agent operation")
        watch = spawn(self._watch(), name="agent client")
        try:
            waiting: set[asyncio.Future[Any]] = {work, watch, self._ended}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            if self._ended.done():
                self._ended.result()
            watch.result()
            raise AssertionError("the watch of a client ends by an exception only")
        finally:
            for task in (work, watch):
                task.cancel()
            await asyncio.wait({work, watch})
            for task in (work, watch):
                if not task.cancelled():
                    task.exception()  # it is reported by the first of them

    def end(self, refusal: RefusedError) -> None:
        """End the operation, for the reason *refusal*."""
        if not self._ended.done():
            self._ended.set_exception(refusal)
            self._ended.exception()  # nothing reads it where the operation ends first

    def send(self, frame: bytes) -> bool:
        """Write *frame*, unless too much waits for this user to be read; return whether it was."""
        if not self._account.queue(len(frame)):
            return False
        self._writer.write(frame)
        return True

    def require(self, frame: bytes, *, sent: str) -> None:
        """Write *frame*. Raise RefusedError if too much waits to be read; *sent*: what the client has got before."""
        if not self.send(frame):
            what = f"too much waits to be read by you; {sent}"
            raise RefusedError("overflow", what, hint="read faster, or run fewer operations at once")

    def notify(self, line: str) -> None:
        """Write *line*, which is for people, unless too much waits to be read."""
        self.send(frames.encode(frames.NOTICE, line.encode(errors="replace")))

    def send_reply(self, reply: Reply, *, sent: str) -> None:
        """Write *reply*, or its beginning if too much waits: the replies that still arrive are held by the agent."""
        slow = self._account.waiting() + len(reply.output) > REPLY_BYTES
        if not slow and self.send(frames.encode_reply(reply)):
            return
        size = len(reply.output)
        short = replace(reply, output=reply.output[:CUT_BYTES])
        self.require(frames.encode_reply(short, cut=size if size > CUT_BYTES else None), sent=sent)

    async def next_answer(self) -> bytes:
        """Return the body of the client's next reply to a message that it has received."""
        answer = await self._answers.get()
        self._account.release(len(answer) + ANSWER_BYTES)
        return answer

    async def finish(self, end: End) -> None:
        """Write the end, and close the connection once it has been read."""
        transport = self._writer.transport
        with contextlib.suppress(OSError):
            # Also where the client has gone: one that has only shut down its writing side would not know why.
            self._writer.write(frames.encode_end(end.exit_code, **end.about))
            before = -1
            while before != (before := transport.get_write_buffer_size()):  # until all is read, or nothing more
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_SECONDS):
                        await self._writer.drain()
            self._writer.write_eof()
            async with asyncio.timeout(LINGER_SECONDS):
                while await self._reader.read(frames.MAX_HEAD_BYTES):
                    pass
        transport.abort()
        self._account.close()

    async def _read_frame(self, kind: bytes, limit: int, name: str) -> bytes:
        try:
            async with asyncio.timeout(frames.HEAD_SECONDS):
                header = await self._reader.readexactly(frames.HEADER_BYTES)
                size = int.from_bytes(header[1:], "big")
                if header[:1] != kind:
                    raise RefusedError("protocol", f"the first byte is not that of a {name}", hint=SAME_RELEASE)
                if size > limit:
                    raise RefusedError("protocol", f"a {name} of {size} bytes, the limit is {limit}", hint="send less")
                if not self._account.reserve(size):
                    raise RefusedError(
                        "busy", "the agent holds too many bytes for you, or for all", hint="try again later"
                    )
                return await self._reader.readexactly(size)
        except TimeoutError:
            what = f"the {name} did not arrive within {frames.HEAD_SECONDS:g} s"
            raise RefusedError("late", what, hint="write it at once") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise RefusedError("cancelled", f"the client has gone before the end of its {name}") from None

    async def _watch(self) -> None:
        """Raise RefusedError when the client goes, or writes what it should not."""
        assert self.head is not None
        try:
            while True:
                header = await self._reader.readexactly(frames.HEADER_BYTES)
                size = int.from_bytes(header[1:], "big")
                if self.head.operation != frames.RECEIVE or header[:1] != frames.ANSWER or size > frames.MAX_BODY_BYTES:
                    raise RefusedError("protocol", "the client writes what it may not write now", hint=SAME_RELEASE)
                if not self._account.reserve(size + ANSWER_BYTES):
                    raise RefusedError(
                        "overflow", "the agent holds too many bytes for you, or for all", hint="reply with less"
                    )
                self._answers.put_nowait(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            what = "the client has ended its side of the connection, which cancels the operation"
            raise RefusedError(
                "cancelled", what, hint="close or shut down the connection after the last frame"
            ) from None
