"""The environment of a plugin, which `remaphore_startup` passes in addition to the daemon's statistics.

A plugin gets a node to send with, a directory and tasks of its own. Sending is above this package, so that `PluginNode`
only declares it; `remaphore.node.DaemonNode` does it, and the command `run` brings both together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from remaphore.hooks.plugin_tasks import PluginTasks
from remaphore.protocol.match import ALL

if TYPE_CHECKING:
    from remaphore.config.settings import Config
    from remaphore.hooks.stats import LockStats
    from remaphore.protocol.drop import Drop
    from remaphore.protocol.exchange import Summary
    from remaphore.protocol.message import Message, Reply
    from remaphore.protocol.receipt import Receipt

T = TypeVar("T")

_REQUEST_SECONDS = 30.0  # as of `Node`, which is above this package


class PluginRequest(Protocol):
    """A request of a plugin in progress. Iterate over it for the replies, in the order of arrival.

    The iteration ends when every expected destination has answered, or at the timeout.
    """

    @property
    def message(self) -> Message:
        """The request as it was sent."""

    @property
    def expected(self) -> tuple[str, ...]:
        """The destinations that the request was sent to."""

    @property
    def missing(self) -> tuple[str, ...]:
        """The destinations that have not answered yet."""

    @property
    def running(self) -> tuple[str, ...]:
        """The destinations of `missing` that confirmed that they have started the request."""

    @property
    def silent(self) -> tuple[str, ...]:
        """The destinations of `missing` that have sent nothing at all."""

    @property
    def rejected(self) -> tuple[str, ...]:
        """The destinations that answered that they reject the request."""

    @property
    def met(self) -> bool:
        """Whether as many destinations have succeeded as are required: all, unless `require` states another number."""

    def summary(self) -> Summary:
        """Return the present state: which destinations have answered, failed, rejected, or are missing."""

    def __aiter__(self) -> AsyncIterator[Reply]:
        """Return itself."""

    async def __anext__(self) -> Reply:
        """Return the next verified reply. Raise StopAsyncIteration at the end."""

    def events(self) -> AsyncIterator[Reply | Receipt]:
        """Yield verified replies and receipts, in the order of arrival, up to the same end as the iteration."""


class PluginLock(Protocol):
    """A lock that a plugin holds in a block. lost: set as soon as it is lost."""

    lost: asyncio.Event

    @property
    def token(self) -> int:
        """The fencing token: a number that only grows, for what the lock protects to refuse smaller ones."""

    @property
    def slot(self) -> int:
        """The number of the slot, from 0."""

    @property
    def deadline(self) -> float:
        """When the lease ends unless it is renewed, in seconds of CLOCK_BOOTTIME."""


class PluginNode(Protocol):
    """The daemon's node, as a plugin uses it: it sends messages and requests, and holds locks, on its connection.

    Identities, peers and everything else are those of the configuration that is in effect when it is called, also after
    a reload. It can be used until `remaphore_shutdown` has returned, in the daemon's thread. A message to the daemon's
    own destination is dropped by its gate, and a request finds no peer there, unless a peer has the same key.
    """

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

    def request(
        self,
        verb: str,
        *,
        to: str = ALL,
        payload: str | bytes = b"",
        id: str = "",  # noqa: A002 - as above
        key: str = "",
        subject_name: str = "",
        timeout: float | None = _REQUEST_SECONDS,
        receipts: bool = True,
        require: int | str | None = None,
        fail_fast: bool = False,
        on_drop: Callable[[Drop], None] = lambda _drop: None,
    ) -> AbstractAsyncContextManager[PluginRequest]:
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

    def lock(
        self, name: str, *, wait: float | None = None, slots: int = 1, ttl: float = 30.0, note: str = ""
    ) -> AbstractAsyncContextManager[PluginLock]:
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

    @property
    def lock_stats(self) -> Mapping[str, LockStats]:
        """What has happened to the locks of this node, by their names. Any thread may read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginContext:
    """The environment of one plugin, for as long as its daemon runs.

    name: the plugin's. config: the daemon's configuration at its start. instance: the name given by `--instance`.
    invocation: a random number of this run of the daemon, 16 hexadecimal digits, as in the built-in reply to `ping`.
    node: sends messages and requests, and holds locks.
    """

    name: str
    config: Config
    instance: str
    invocation: str
    node: PluginNode
    _tasks: PluginTasks = field(repr=False)
    _open_state_dir: Callable[[str], Path] = field(repr=False)

    @property
    def state_dir(self) -> Path:
        """The plugin's own directory, which is kept across restarts and created, with mode 0700, when it is first used.

        Raise StateError, with a hint, if it cannot be created, or if another user could have prepared or replaced it.
        """
        return self._open_state_dir(self.name)

    def spawn(self, coroutine: Coroutine[Any, Any, T], *, name: str = "") -> asyncio.Task[T]:
        """Run *coroutine* as a task until it ends, or until the daemon does; return the task.

        A plain hook may call it too, and so send something. The task is kept alive. It is cancelled when
        `remaphore_shutdown` has returned, and has 5 seconds to end. Its exception, whatever it is, is logged as
        `plugin_failed` with the names of plugin and task, and ends nothing else. name: the task's in the log, that of
        the function if empty. Raise UsageError after the shutdown, and in another thread than the daemon's.
        """
        return self._tasks.spawn(self.name, coroutine, name)
