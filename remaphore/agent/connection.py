"""One connection to the agent, which is one operation: how it is opened, and what is read from it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable
from typing import Any

from remaphore import errors
from remaphore.agent import frames, place
from remaphore.errors import AgentError, DecodeError, RemaphoreError, UsageError

# Seconds in which an agent that works does what takes no broker, and by which others exceed its own limit: one that is
# stopped still accepts connections.
ANSWER_SECONDS = 5.0

_READ_BYTES = 256 * 1024
_BACKLOG_SECONDS = 0.02  # between two attempts to connect while others wait to be accepted
_USAGE = ("usage", "protocol", "late", "UsageError", "ConfigError")


class Connection:
    """One operation of the agent at *path*. on_notice: gets its lines for people."""

    def __init__(self, path: str, on_notice: Callable[[str], None]) -> None:
        self.path = path
        self._on_notice = on_notice
        self._decoder = frames.Decoder(frames.FROM_AGENT)
        self._ready: list[tuple[bytes, bytes]] = []
        self._writing = asyncio.Lock()
        # Not the streams of asyncio: what the agent wrote before it closed the connection is lost there on a reset.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)  # noqa: FBT003 - its name says it

    async def open(self, *, limit: float = ANSWER_SECONDS) -> None:
        """Connect. Raise AgentError, after *limit* seconds at the latest."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + limit
        try:
            # Not by the event loop, which takes the EAGAIN of a full backlog for a connection.
            while not (connected := self._connected()) and loop.time() < ends:  # noqa: ASYNC110 - no event says it
                await asyncio.sleep(_BACKLOG_SECONDS)
        except OSError as error:
            raise place.unreachable(self.path, error) from None
        if not connected:
            busy = OSError(errno.EAGAIN, "too many others wait for it, or it is stopped")
            raise place.unreachable(self.path, busy)

    def _connected(self) -> bool:
        """Connect, and return whether that was possible: the backlog may be full. Raise OSError."""
        try:
            self._socket.connect(self.path)
        except BlockingIOError:
            return False
        return True

    @property
    def has_frame(self) -> bool:
        """Whether `next` returns a frame without waiting."""
        return bool(self._ready)

    async def write(self, data: bytes, *, deadline: float | None = None) -> None:
        """Write *data*, until the *deadline* at most. Where the agent has gone, or does not read, `next` reports it."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, TimeoutError):
            async with self._writing, asyncio.timeout_at(deadline):
                await loop.sock_sendall(self._socket, data)

    async def next(self, *, deadline: float | None, outcome: str = place.UNKNOWN) -> tuple[bytes, bytes]:
        """Return the next frame that is no notice. Raise ConnectionLostError, at the *deadline* as well.

        outcome: what it means that the agent has gone, for the error.
        """
        loop = asyncio.get_running_loop()
        while True:
            while self._ready:
                kind, body = self._ready.pop(0)
                if kind != frames.NOTICE:
                    return kind, body
                self._on_notice(body.decode(errors="replace"))
            data = b""
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout_at(deadline):
                    data = await loop.sock_recv(self._socket, _READ_BYTES)
            if not data:
                raise place.lost(self.path, outcome)
            try:
                self._ready += self._decoder.feed(data)
            except DecodeError as error:
                raise self.not_understood(error) from None

    def not_understood(self, error: RemaphoreError) -> AgentError:
        """Return the error that the answer is not one of this protocol."""
        return place.not_understood(self.path, error)

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
        self._socket.close()


def _error_of(message: str, hint: str, kind: str) -> RemaphoreError:
    """Return the public error that the agent calls *kind*, else an AgentError."""
    if kind in _USAGE:
        return UsageError(message, hint=hint)
    named = getattr(errors, kind, None) if kind.endswith("Error") else None
    if isinstance(named, type) and issubclass(named, RemaphoreError):
        return named(message, hint=hint)
    return AgentError(message, hint=hint, kind=kind)
