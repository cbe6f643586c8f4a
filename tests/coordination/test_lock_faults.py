"""Eight nodes take a lock again and again while brokers are killed, stopped and started: never two at one time."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from remaphore.coordination.held_lock import holding
from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.lock import Lock
from remaphore.coordination.setup import make_streams
from remaphore.errors import LeaseLostError
from remaphore.tasks import spawn
from tests.harness.locks import lock_of
from tests.harness.nats_cluster import cluster, leader
from tests.harness.nats_server import NatsServer, connected, jetstream_config
from tests.harness.waiting import until

WORKERS = 8
TTL = 6.0
LONG = 600.0  # seconds


class Fleet:
    """What the workers do, and what must never happen."""

    def __init__(self, seed: int, slots: int) -> None:
        self.dice = random.Random(seed)
        self.slots = slots
        self.inside: dict[int, int] = {}  # worker by token
        self.tokens: list[int] = []
        self.faults: list[str] = []
        self.lost = 0

    async def work(self, number: int, js: JetStream) -> None:
        while True:
            lock = lock_of(js, number, ttl=TTL, slots=self.slots)
            if self.dice.random() < 0.1:  # killed: nothing more is heard of it
                lease = await lock.take(wait=None)
                assert lease is not None
                self.tokens.append(lease.token)
                continue
            with suppress(LeaseLostError):
                async with self._holding(lock, number):
                    await asyncio.sleep(self.dice.choice([0.01, 0.1, 0.1, 2.0]))

    @asynccontextmanager
    async def _holding(self, lock: Lock, number: int) -> AsyncIterator[None]:
        async with holding(lock, wait=None) as held:
            if len(self.inside) >= self.slots:
                self.faults.append(f"{number} beside {self.inside}")
            if self.slots == 1 and self.tokens and held.token <= self.tokens[-1]:
                self.faults.append(f"token {held.token} after {self.tokens[-1]}")
            self.tokens.append(held.token)
            self.inside[held.token] = number
            try:
                yield
            finally:
                self.lost += held.lost.is_set()
                del self.inside[held.token]


async def run(fleet: Fleet, urls: Sequence[str], seconds: float, trouble: Callable[[], Awaitable[None]]) -> None:
    """Let the workers work for so long, while *trouble* is made again and again; then it must be had again."""
    async with AsyncExitStack() as stack:
        buses = [await stack.enter_async_context(connected(*urls)) for _ in range(WORKERS)]
        workers = [
            spawn(fleet.work(number, JetStream(bus, "r")), name=f"worker {number}") for number, bus in enumerate(buses)
        ]
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not any(worker.done() for worker in workers):
                    await trouble()
        before = len(fleet.tokens)
        await until(lambda: len(fleet.tokens) > before + 2 or any(worker.done() for worker in workers), limit=60)
        for worker in workers:
            assert not worker.done() or worker.cancelled() or worker.exception() is None, worker.exception()
            worker.cancel()
        await asyncio.wait(workers)
    assert fleet.faults == []


@pytest.mark.parametrize(
    ("seconds", "slots"),
    [
        (8.0, 1),
        pytest.param(LONG, 1, marks=[pytest.mark.long, pytest.mark.timeout(900)]),
        pytest.param(LONG, 3, marks=[pytest.mark.long, pytest.mark.timeout(900)]),
    ],
)
async def test_one_broker_is_killed_again_and_again(seconds: float, slots: int, tmp_path: Path) -> None:
    server = NatsServer(tmp_path, jetstream_config(tmp_path / "data"))
    fleet = Fleet(slots, slots)
    await server.start()

    async def trouble() -> None:
        await asyncio.sleep(fleet.dice.uniform(1, 4))
        await server.stop(signal.SIGKILL)
        try:
            await asyncio.sleep(fleet.dice.uniform(0.1, 2))
        finally:
            await server.start()

    try:
        async with connected(server) as bus:
            await make_streams(JetStream(bus, "r"), "r")
        await run(fleet, [server.url], seconds, trouble)
    finally:
        await server.stop(signal.SIGKILL)
    assert len(fleet.tokens) > seconds / 4


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("stops", [False, True], ids=["killed", "stopped"])
async def test_the_leader_of_a_cluster_is_lost_again_and_again(stops: bool, tmp_path: Path) -> None:
    fleet = Fleet(7, 1)
    async with cluster(tmp_path) as servers:

        async def trouble() -> None:
            await asyncio.sleep(fleet.dice.uniform(3, 8))
            found = await leader(servers)
            if stops:
                await found.pause()
            else:
                await found.stop(signal.SIGKILL)
            try:
                await asyncio.sleep(fleet.dice.uniform(3, 6))
            finally:
                if stops:
                    found.resume()
                else:
                    await found.start()

        await run(fleet, [server.url for server in servers], LONG, trouble)
    assert len(fleet.tokens) > LONG / 10
