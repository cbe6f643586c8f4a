"""`async with node.lock(...)`: what ends the block, and what it raises."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from remaphore.coordination import held_lock
from remaphore.coordination.guardian import boottime
from remaphore.coordination.held_lock import HeldLock, holding
from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.lock import Lock
from remaphore.coordination.lock_states import evict
from remaphore.coordination.setup import make_streams
from remaphore.errors import CoordinationUnavailableError, LeaseLostError, NotAcquiredError
from remaphore.hooks.plugin_tasks import CallGuard
from remaphore.messaging.signer import Signer
from remaphore.node import DaemonNode, Node
from remaphore.tasks import spawn
from remaphore.testing import MemoryBroker, make_config
from remaphore_plugins.metrics.collector import LockCollector
from tests.coordination.test_jetstream import StreamsOf
from tests.harness.locks import lock_config
from tests.harness.nats_server import NatsServer, connected, running
from tests.harness.waiting import until


async def test_a_block_holds_the_lock_and_frees_it_whatever_it_raises(streams_of: StreamsOf) -> None:
    async with streams_of() as (_, bus, root):
        left, right = (Node(bus, lock_config(number, root=root)) for number in (1, 2))
        async with left.lock("deploy", note="v42") as first:
            assert (first.slot, first.lost.is_set()) == (0, False)
            assert boottime() < first.deadline <= boottime() + 30
            with pytest.raises(NotAcquiredError, match=r"lock deploy not acquired within 0 s: held by com\.node1"):
                async with right.lock("deploy", wait=0):
                    pass
        with pytest.raises(ZeroDivisionError):
            async with right.lock("deploy", wait=0) as second:
                1 / 0  # noqa: B018
        async with left.lock("deploy", wait=0, slots=1) as third:
            assert first.token < second.token < third.token
            assert left.lock_stats["deploy"].held == 1
        ours, theirs = left.lock_stats["deploy"], right.lock_stats["deploy"]
        assert (ours.acquired, ours.held, ours.waiting, ours.not_acquired, ours.lost) == (2, 0, 0, 0, {})
        assert (theirs.acquired, theirs.held, theirs.waiting, theirs.not_acquired) == (1, 0, 0, 1)
        assert sum(ours.wait_buckets.values()) == 2


async def test_an_eviction_cancels_the_block_and_frees_the_lock(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, bus, root):
        config = lock_config(1, root=root)
        node = DaemonNode(bus, Signer(config), time.time_ns, CallGuard())  # of plugins; it is the same as of a program
        registry = CollectorRegistry()
        registry.register(LockCollector(lambda: node.lock_stats))
        ended: list[str] = []

        async def hold() -> None:
            async with node.lock("a") as lease:
                await evict(js, lock_config(3, root=root), "a")
                try:
                    await asyncio.wait_for(asyncio.Event().wait(), 30)
                finally:
                    ended.append(f"lost: {lease.lost.is_set()}")

        with pytest.raises(LeaseLostError, match=r"lock a lost: evicted by com\.node3"):
            await hold()
        assert ended == ["lost: True"]
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)  # nothing of the cancellation is left
        async with node.lock("a", wait=0):
            value = registry.get_sample_value
            assert value("remaphore_locks_held", {"lock": "a"}) == 1
            assert value("remaphore_locks_waiting", {"lock": "a"}) == 0
            assert value("remaphore_lock_acquisitions_total", {"lock": "a", "result": "acquired"}) == 2
            assert value("remaphore_lock_acquisitions_total", {"lock": "a", "result": "not-acquired"}) == 0
            assert value("remaphore_lock_losses_total", {"lock": "a", "reason": "evicted"}) == 1
            assert value("remaphore_lock_losses_total", {"lock": "a", "reason": "expired"}) == 0
            assert value("remaphore_lock_renewal_failures_total", {"lock": "a"}) == 0
            assert value("remaphore_lock_wait_seconds_count", {"lock": "a"}) == 2
            assert value("remaphore_lock_wait_seconds_bucket", {"lock": "a", "le": "+Inf"}) == 2


async def test_a_block_that_does_not_heed_its_end_gets_the_error_after_it(streams_of: StreamsOf) -> None:
    async with streams_of() as (js, bus, root):

        async def hold() -> None:
            async with Node(bus, lock_config(1, root=root)).lock("a") as lease:
                await evict(js, lock_config(3, root=root), "a")
                while not lease.lost.is_set():
                    with suppress(asyncio.CancelledError):
                        await asyncio.sleep(0.01)

        with pytest.raises(LeaseLostError, match="evicted"):
            await hold()
        await asyncio.sleep(0)


async def test_a_cancellation_from_outside_stays_one_and_frees_the_lock(streams_of: StreamsOf) -> None:
    async with streams_of() as (_, bus, root):
        node = Node(bus, lock_config(1, root=root))
        inside = asyncio.Event()

        async def work() -> None:
            async with node.lock("a"):
                inside.set()
                await asyncio.Event().wait()

        task = spawn(work(), name="work")
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with node.lock("a", wait=0):
            pass


@pytest.mark.parametrize("when", ["it waits", "it holds", "it frees"])
async def test_no_cancellation_leaves_a_lock_that_no_block_holds(
    when: str, streams_of: StreamsOf, server: NatsServer
) -> None:
    async with streams_of() as (_, bus, root), connected(server) as other:
        left, right = (Node(each, lock_config(number, root=root)) for number, each in ((1, bus), (2, other)))

        async def work(holds: asyncio.Event) -> None:
            async with left.lock("a"):
                holds.set()
                await asyncio.sleep(30 if when == "it holds" else 0)

        for delay in range(6):
            holds = asyncio.Event()
            task = spawn(work(holds), name="work")
            if when != "it waits":
                await holds.wait()
            for _ in range(2):  # the second one while it frees the lock
                await asyncio.sleep(0.0007 * delay)
                task.cancel()
            await asyncio.wait({task})
            async with right.lock("a", wait=5):
                pass


async def test_an_error_in_place_of_the_cancellation_is_raised_and_the_task_is_not_cancelled(
    streams_of: StreamsOf,
) -> None:
    async with streams_of() as (js, bus, root):

        async def hold() -> None:
            async with Node(bus, lock_config(1, root=root)).lock("a"):
                await evict(js, lock_config(3, root=root), "a")
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    raise ZeroDivisionError from None

        with pytest.raises(ZeroDivisionError):
            await hold()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


async def test_a_time_limit_around_a_block_stays_one(streams_of: StreamsOf) -> None:
    async with streams_of() as (_, bus, root):
        node = Node(bus, lock_config(1, root=root))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5), node.lock("a"):
                await asyncio.Event().wait()
        async with node.lock("a", wait=0):
            pass


async def test_without_a_broker_the_block_ends_before_others_may_have_the_lock(tmp_path: Path) -> None:
    config = f'jetstream {{ store_dir: "{tmp_path}/data" }}\n'
    async with running(tmp_path, config) as server, connected(server) as bus:
        await make_streams(JetStream(bus, "remaphore"), "remaphore")
        node = Node(bus, lock_config(1))
        leases: list[HeldLock] = []
        ended: list[float] = []

        async def work() -> None:
            async with node.lock("a", ttl=4) as lease:
                leases.append(lease)
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.append(boottime())

        task = spawn(work(), name="work")
        await until(lambda: leases)
        await server.stop(signal.SIGKILL)
        with pytest.raises(LeaseLostError, match="not renewed in time"):
            await asyncio.wait_for(task, 30)
        assert leases[0].deadline - 4 / 6 <= ended[0] < leases[0].deadline
        assert (node.lock_stats["a"].lost, node.lock_stats["a"].held) == ({"expired": 1}, 0)


async def test_a_lease_that_cannot_be_watched_counts_as_lost(
    streams_of: StreamsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starved() -> float:
        raise MemoryError

    async def hold(lock: Lock) -> None:
        async with holding(lock, wait=0):
            monkeypatch.setattr(held_lock, "boottime", starved)
            await asyncio.Event().wait()

    async with streams_of() as (js, _, root):
        with pytest.raises(LeaseLostError, match="lost: MemoryError"):
            await hold(Lock(js, lock_config(1, root=root), name="deploy"))
        monkeypatch.undo()
        async with holding(Lock(js, lock_config(2, root=root), name="deploy"), wait=0):
            pass


@pytest.mark.parametrize("failing", ["keep the lock", "watch the lock"])
async def test_an_error_before_the_block_begins_frees_the_lock(
    streams_of: StreamsOf, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def starved(coroutine: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        if name == failing:
            coroutine.close()
            raise MemoryError
        return spawn(coroutine, name=name)

    async with streams_of() as (js, _, root):
        first = holding(Lock(js, lock_config(1, root=root), name="deploy"), wait=0)
        with monkeypatch.context() as patch:
            patch.setattr(held_lock, "spawn", starved)
            with pytest.raises(MemoryError):
                await first.__aenter__()
        async with holding(Lock(js, lock_config(2, root=root), name="deploy"), wait=0):
            pass


async def test_a_bus_in_memory_has_no_locks() -> None:
    node = Node(MemoryBroker().connect(), make_config())
    with pytest.raises(CoordinationUnavailableError, match="JetStream is off"):
        async with node.lock("a"):
            pass
