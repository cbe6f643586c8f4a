"""A lock that a block of Python code holds: `async with node.lock(...)`."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from remaphore.config.settings import Config
from remaphore.coordination.guardian import boottime
from remaphore.coordination.high_water import StreamWatch
from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.lock import RELEASE_SECONDS, Lock, LockEvents, Waiting
from remaphore.coordination.lock_counters import LockCounters
from remaphore.errors import LeaseLostError, NotAcquiredError
from remaphore.hooks.stats import LockStats
from remaphore.logs import LibraryLogger
from remaphore.protocol.lease import Lease
from remaphore.tasks import finished, spawn
from remaphore.transport.bus import Bus

GRACE = 1 / 6  # of the time to live: how long before the deadline the block is cancelled
_TICK = 1.0  # seconds; timers stand still while the machine sleeps, and the deadline does not
_LOST_SECONDS = 1.0  # to free a lock that was lost: after an eviction, others wait for that


class HeldLock:
    """A lock while it is held. lost: an `asyncio.Event`, set as soon as it is lost."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self.lost = asyncio.Event()

    @property
    def token(self) -> int:
        """The fencing token: a number that only grows, for what the lock protects to refuse smaller ones."""
        return self._lease.token

    @property
    def slot(self) -> int:
        """The number of the slot, from 0."""
        return self._lease.slot

    @property
    def deadline(self) -> float:
        """When the lease ends unless it is renewed, in seconds of CLOCK_BOOTTIME."""
        return self._lease.deadline


class Locks:
    """The locks of one node, which are counted together."""

    def __init__(self, bus: Bus, folder: Path | None) -> None:
        """*folder*: of the high-water marks, None if there is none."""
        self._bus = bus
        self._folder = folder
        self._watch: StreamWatch | None = None
        self._log = LibraryLogger()
        self._counters = LockCounters()

    def stats(self) -> dict[str, LockStats]:
        """Return what has happened to them, by name."""
        return self._counters.stats()

    @asynccontextmanager
    async def hold(self, config: Config, name: str, *, wait: float | None, **options: Any) -> AsyncIterator[HeldLock]:
        """Hold the lock *name* in a block; see `Node.lock`. options: of `Lock`."""
        events = LockEvents(name, log=self._log, counters=self._counters)
        jetstream = JetStream(self._bus, config.subject)
        lock = Lock(jetstream, config, name=name, events=events, **options)
        if self._watch is None:
            self._watch = StreamWatch.reporting(self._folder, jetstream, config.servers, log=self._log)
        async with holding(lock, wait=wait) as held:
            self._watch.see(held._lease.last)  # noqa: SLF001 - of this module
            yield held


@asynccontextmanager
async def holding(lock: Lock, *, wait: float | None) -> AsyncIterator[HeldLock]:
    """Hold *lock* in a block; see `Node.lock`. Raise NotAcquiredError, or LeaseLostError if it is lost meanwhile."""
    told: deque[Waiting] = deque(maxlen=1)
    lease = await lock.take(wait=wait, on_waiting=told.append)
    if lease is None:
        held_by = ", ".join(holder.who for holder in told[-1].holders) if told else ""
        text = f"lock {lock.name} not acquired within {wait or 0:g} s"
        raise NotAcquiredError(f"{text}: held by {held_by}" if held_by else text)
    task = asyncio.current_task()
    assert task is not None
    held, before = HeldLock(lease), task.cancelling()
    tasks: list[asyncio.Task[Any]] = []
    try:
        tasks.append(keeping := spawn(lock.keep(lease), name="keep the lock"))
        tasks.append(watching := spawn(_watch(lock, keeping, held, task), name="watch the lock"))
        yield held
    except asyncio.CancelledError:
        if not held.lost.is_set() or task.uncancel() > before:
            raise  # from outside
        raise await watching from None
    except BaseException:
        if held.lost.is_set():  # in place of the cancellation, which is not to be left to the task
            await _take_back_cancellation(task)
        raise
    else:
        if held.lost.is_set():  # the block has ended before it was cancelled, or in spite of that
            await _take_back_cancellation(task)
            raise await watching
    finally:
        for each in tasks:
            each.cancel()
        limit = _LOST_SECONDS if held.lost.is_set() else RELEASE_SECONDS
        await finished(spawn(lock.release(lease, limit=limit), name="release the lock"))


async def _take_back_cancellation(task: asyncio.Task[object]) -> None:
    task.uncancel()
    with contextlib.suppress(asyncio.CancelledError):  # of which the task has not heard yet
        await asyncio.sleep(0)


async def _watch(lock: Lock, keeping: asyncio.Task[None], held: HeldLock, task: asyncio.Task[object]) -> LeaseLostError:
    """Cancel *task* when the lease is lost, or not renewed in time; return the error to raise there.

    Whatever fails here: a lease that is not watched counts as lost.
    """
    lease = held._lease  # noqa: SLF001 - of this module
    error: BaseException | None = None
    try:
        while not keeping.done():
            left = lease.deadline - lease.terms.ttl * GRACE - boottime()
            if left <= 0:
                error = LeaseLostError(f"lock {lease.terms.name} lost: not renewed in time")
                lock.events.lost(lease, detail=str(error))
                break
            await asyncio.wait({keeping}, timeout=min(left, _TICK))
        else:
            error = keeping.exception()
    except Exception as failure:  # noqa: BLE001 - it is raised in the block
        error = error or failure
    held.lost.set()
    task.cancel()
    return error if isinstance(error, LeaseLostError) else LeaseLostError(f"lock {lease.terms.name} lost: {error!r}")
