"""Random faults, and a checker that accounts for every request: answered, refused, or reported lost; nothing else."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from remaphore.errors import TransportError
from remaphore.runtime.node import Node
from remaphore.tasks import spawn
from tests.e2e.conftest import Process
from tests.faults.conftest import MakeSite
from tests.faults.site import Site, asked, meet
from tests.support.nats_server import NatsServer, connected

REQUESTERS = 6
TIMEOUT = 3.0
SUBJECT = "remaphore.all"


class Chaos:
    """Does one random thing after the other to the broker and the daemon, and puts each right again."""

    def __init__(self, site: Site, server: NatsServer, daemon: Process, config: Path, dice: random.Random) -> None:
        self.done: Counter[str] = Counter()
        self._site = site
        self._server = server
        self._daemon = daemon
        self._config = config
        self._dice = dice

    async def go_on(self, seconds: float) -> None:
        """Do so for *seconds*, each kind of fault at least once."""
        kinds: list[Callable[[], Awaitable[None]]] = [
            self._kill_broker,
            self._restart_broker,
            self._stop_broker,
            self._kill_daemon,
            self._end_daemon,
            self._stop_daemon,
            self._reload_daemon,
        ]
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end or len(self.done) < len(kinds):
            await self._pause(0.8)
            missing = [kind for kind in kinds if kind.__name__ not in self.done]
            kind = self._dice.choice(missing or kinds)
            self.done[kind.__name__] += 1
            await kind()

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


async def ask_on(node: Node, ends: dict[str, str], name: str, stop: asyncio.Event) -> None:
    """Ask, one request after the other, until *stop*; note how each ended."""
    while not stop.is_set():
        payload = f"{name}.{len(ends)}"
        ends[payload] = "under way"
        ends[payload] = await asked(node, "note", payload, timeout=TIMEOUT)


async def replay(server: NatsServer, dice: random.Random, stop: asyncio.Event) -> int:
    """Send what others have sent once more, now and then, until *stop*; return how often."""
    seen: deque[bytes] = deque(maxlen=500)
    replayed = 0
    async with connected(server) as bus:
        await bus.subscribe(SUBJECT, seen.append)
        while not stop.is_set():
            await asyncio.sleep(0.02)
            if seen:
                with suppress(TransportError):
                    await bus.publish(SUBJECT, dice.choice(seen))
                    replayed += 1
    return replayed


def unexplained(ends: dict[str, str], started: Counter[str]) -> dict[str, str]:
    """Return every request whose end and starts do not go together, and what is wrong with it."""
    allowed = {"answered": {1}, "refused": {0}, "lost": {0, 1}, "interrupted 143": {0, 1}}
    wrong = {
        payload: f"{end}, started {started[payload]} times"
        for payload, end in ends.items()
        if started[payload] not in allowed.get(end, ())
    }
    return wrong | dict.fromkeys(started.keys() - ends.keys(), "started, and never sent")


@pytest.mark.parametrize("seconds", [20, pytest.param(600, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
async def test_every_request_is_accounted_for_whatever_happens(
    seconds: int, server: NatsServer, sites: MakeSite
) -> None:
    dice = random.Random(seconds)
    site, ends, stop = sites(server.url), dict[str, str](), asyncio.Event()
    site.handler("hello", "true")
    daemon = await site.daemon(site.counting("note", concurrency=4, queue=20))
    chaos = Chaos(site, server, daemon, site.folder / "2.toml", dice)
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(site.requester()) for _ in range(REQUESTERS)]
        asking = [spawn(ask_on(node, ends, f"n{name}", stop), name="asking") for name, node in enumerate(nodes)]
        attacking = spawn(replay(server, dice, stop), name="attacking")
        try:
            await chaos.go_on(seconds)
        finally:
            stop.set()
            await asyncio.wait({*asking, attacking})
        await meet(nodes[0], "hello")
    counted = Counter(ends.values())
    assert unexplained(ends, site.started) == {}, (chaos.done, counted)
    assert counted["answered"] > len(ends) // 2, (chaos.done, counted)
    assert attacking.result() > seconds
