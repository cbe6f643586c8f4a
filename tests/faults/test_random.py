"""Random faults, and a checker that accounts for every request: answered, rejected, or reported lost; nothing else."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress

import pytest

from remaphore.errors import TransportError
from remaphore.node import Node
from remaphore.tasks import spawn
from tests.faults.accounts import Accounts
from tests.faults.conftest import MakeSite
from tests.faults.fault_site import FaultSite, asked
from tests.harness.nats_server import NatsServer, connected
from tests.harness.processes import Process

REQUESTERS = 6
BURST = 4  # faults, at most, before everything is right again for a while
CALM = 4  # requests of each requester that must be answered then
IN_TROUBLE, IN_CALM = 3.0, 20.0  # seconds until a request is given up
PAUSE = 0.02  # seconds between two requests of a requester, so that the machine is not what is tested
SUBJECT = "remaphore.all"

_log = logging.getLogger(__name__)


class Chaos:
    """Does one random thing after the other to the broker and the daemon, and puts each right again."""

    def __init__(self, site: FaultSite, server: NatsServer, daemon: Process, dice: random.Random) -> None:
        self.done: Counter[str] = Counter()
        self._site = site
        self._server = server
        self._daemon = daemon
        self._config = site.folder / "2.toml"
        self._dice = dice

    async def burst(self) -> None:
        """Do some of them."""
        for _ in range(self._dice.randint(1, BURST)):
            missing = [kind for kind in self._kinds if kind.__name__ not in self.done]
            kind = self._dice.choice(missing or self._kinds)
            self.done[kind.__name__] += 1
            await kind()
            await self._pause(0.8)

    @property
    def complete(self) -> bool:
        """Whether each kind of fault has been there."""
        return len(self.done) == len(self._kinds)

    @property
    def _kinds(self) -> list[Callable[[], Awaitable[None]]]:
        return [
            self._kill_broker,
            self._restart_broker,
            self._stop_broker,
            self._kill_daemon,
            self._end_daemon,
            self._stop_daemon,
            self._reload_daemon,
        ]

    async def _pause(self, longest: float) -> None:
        await asyncio.sleep(self._dice.uniform(0, longest))

    async def _kill_broker(self) -> None:
        self._server.kill()
        await self._pause(1.5)
        await self._server.start()

    async def _restart_broker(self) -> None:
        await self._server.restart()

    async def _stop_broker(self) -> None:
        await self._server.pause()
        await self._pause(2)
        self._server.resume()

    async def _kill_daemon(self) -> None:
        await self._again(signal.SIGKILL)

    async def _end_daemon(self) -> None:
        await self._again(signal.SIGTERM)

    async def _again(self, number: int) -> None:
        await asyncio.to_thread(self._daemon.stop, number)
        self._daemon = await self._site.again(self._config)

    async def _stop_daemon(self) -> None:
        self._daemon.popen.send_signal(signal.SIGSTOP)
        await self._pause(2)
        self._daemon.popen.send_signal(signal.SIGCONT)

    async def _reload_daemon(self) -> None:
        self._daemon.popen.send_signal(signal.SIGHUP)


class Requester:
    """Asks, one request after the other, and keeps account of how each ended."""

    def __init__(self, node: Node, name: str, accounts: Accounts) -> None:
        self._node = node
        self._name = name
        self._accounts = accounts
        self._calm = False

    async def go_on(self, stop: asyncio.Event) -> None:
        """Ask until *stop*."""
        while not stop.is_set():
            await self._ask()
            await asyncio.sleep(PAUSE)

    async def rest(self) -> None:
        """Be found again by the daemon after faults, and then have some requests answered."""
        async with asyncio.timeout(40):
            while await self._ask() != "answered":
                await asyncio.sleep(PAUSE)
        self._calm = True
        for _ in range(CALM):
            await self._ask()
            await asyncio.sleep(PAUSE)
        self._calm = False

    async def _ask(self) -> str:
        payload = self._accounts.open(self._name, calm=self._calm)
        end = await asked(self._node, "note", payload, timeout=IN_CALM if self._calm else IN_TROUBLE)
        self._accounts.ends[payload] = end
        return end


async def replay(server: NatsServer, accounts: Accounts, dice: random.Random, stop: asyncio.Event) -> int:
    """Send what others have sent once more, now and then, until *stop*; return how often."""
    seen: deque[bytes] = deque(maxlen=500)
    replayed = 0
    async with connected(server) as bus:
        await bus.subscribe(SUBJECT, seen.append)
        while not stop.is_set():
            await asyncio.sleep(0.02)
            raw = dice.choice(seen) if seen else b""
            if raw and accounts.may_repeat(raw.rpartition(b",")[2].decode()):
                with suppress(TransportError):
                    await bus.publish(SUBJECT, raw)
                    replayed += 1
    return replayed


async def bursts(chaos: Chaos, requesters: list[Requester], seconds: float) -> None:
    """Bursts of faults under requests for *seconds*, with each kind at least once, and a calm after each burst."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end or not chaos.complete:
        stop = asyncio.Event()
        asking = [spawn(requester.go_on(stop), name="asking") for requester in requesters]
        try:
            await chaos.burst()
        finally:
            stop.set()
            await asyncio.gather(*asking)
        await asyncio.gather(*(requester.rest() for requester in requesters))


# Two samples, which can run side by side, each with every kind of fault.
SAMPLES = [pytest.param(10, seed, marks=pytest.mark.timeout(300)) for seed in range(1)]
FULL = pytest.param(600, 600, marks=[pytest.mark.long, pytest.mark.timeout(1200)])


@pytest.mark.parametrize(("seconds", "seed"), [*SAMPLES, FULL])
async def test_every_request_is_accounted_for_whatever_happens(
    seconds: int, seed: int, server: NatsServer, sites: MakeSite
) -> None:
    dice, site, accounts, stop = random.Random(seed), sites(server.url), Accounts(), asyncio.Event()
    daemon = await site.daemon(site.counting("note", concurrency=4, queue=20))
    chaos = Chaos(site, server, daemon, dice)
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(site.requester()) for _ in range(REQUESTERS)]
        requesters = [Requester(node, f"n{number}", accounts) for number, node in enumerate(nodes)]
        attacking = spawn(replay(server, accounts, dice, stop), name="attacking")
        try:
            await bursts(chaos, requesters, seconds)
        finally:
            stop.set()
            await asyncio.wait({attacking})
            # Whatever else went wrong: this says more of it.
            assert accounts.unexplained(site.started) == {}
    _log.info("%s; %s; %d replayed", chaos.done, accounts.counted, attacking.result())
    assert attacking.result() > 0
