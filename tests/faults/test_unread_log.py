"""A log that is not read: a pager that was left, a log collector that hangs. What writes it continues."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import remaphore
from remaphore.tasks import spawn
from tests.faults.conftest import MakeSite
from tests.faults.fault_site import DAEMON, FaultSite
from tests.harness.agent import ROOT_RULE, as_root
from tests.harness.lock_processes import PROGRAM, ROOT, Site
from tests.harness.nats_server import NatsServer, running_jetstream
from tests.harness.processes import SECONDS
from tests.harness.waiting import until

# Each of their messages has several lines of 100 bytes, and the pipe has room for none.
MESSAGES = 30


class Pipe:
    """A pipe for a log, full from the start. room: what it holds."""

    def __init__(self) -> None:
        reading, self.writing = os.pipe()
        self.room = fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, 4096)
        os.write(self.writing, b"x" * self.room)
        self._source = os.fdopen(reading, "rb")
        self.begun = False  # whether it is being read

    def read(self) -> str:
        """Return all that was, and will be, written after the start: until no writer is left."""
        os.close(self.writing)
        self._source.read(self.room)
        self.begun = True
        return self._source.read().decode()

    def close(self) -> None:
        self._source.close()


@pytest.fixture
def log() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def start(log: Pipe, *words: object, command: tuple[str, ...] = (sys.executable, "-m", "remaphore"), **options):
    """Start a command that logs to *log*."""
    return subprocess.Popen([*command, *map(str, words)], stderr=log.writing, cwd=ROOT, **options)


async def ask(site: FaultSite) -> int:
    """Send requests until MESSAGES of them are answered; return how many were sent."""
    answered = sent = 0
    async with site.requester() as node, asyncio.timeout(SECONDS):
        while answered < MESSAGES:
            sent += 1
            async with node.request("note", to=DAEMON, timeout=0.5) as request:
                answered += len([reply async for reply in request])
    return sent


@pytest.mark.parametrize("word", ["run", "receive"])
async def test_a_receiver_whose_log_is_not_read_continues_and_ends_at_term(
    word: str, server: NatsServer, sites: MakeSite, log: Pipe
) -> None:
    site = sites(server.url)
    process = start(log, word, "-c", site.config())
    try:
        await ask(site)
        process.terminate()
        assert await asyncio.to_thread(process.wait, SECONDS) == (0 if word == "run" else 143)
    finally:
        process.kill()
        process.wait()


async def test_a_log_that_is_read_late_is_complete_and_in_order(server: NatsServer, sites: MakeSite, log: Pipe) -> None:
    site = sites(server.url)
    process = start(log, "run", "-c", site.config(), "--log-format", "json")
    try:
        sent = await ask(site)
        seen = spawn(asyncio.to_thread(log.read), name="reader")
        await until(lambda: log.begun)
        process.terminate()
        await asyncio.to_thread(process.wait, SECONDS)
        events = (await seen).splitlines()
    finally:
        process.kill()
        process.wait()
    received = [index for index, line in enumerate(events) if "message_received" in line]
    handled = [index for index, line in enumerate(events) if "message_handled" in line]
    assert MESSAGES <= len(received) <= sent
    assert all(before < after for before, after in zip(received, handled, strict=True))


@as_root
async def test_an_agent_whose_log_is_not_read_continues(server: NatsServer, sites: MakeSite, log: Pipe) -> None:
    site = sites(server.url)
    with tempfile.TemporaryDirectory(prefix="agent") as folder:  # a path of a socket is short
        path = f"{folder}/agent.sock"
        agent = start(log, "agent", "-c", site.config(extra=ROOT_RULE), "--agent", path)
        try:
            await until(lambda: Path(path).exists())
            async with remaphore.connect(agent=path) as node, asyncio.timeout(SECONDS):
                for _ in range(MESSAGES * 2):
                    await node.send("note", to="com.requester")
        finally:
            agent.kill()
            agent.wait()


async def test_a_broker_whose_notices_are_not_read_continues(tmp_path: Path, log: Pipe) -> None:
    broker = start(log, "broker", "--port", "0", "--data", tmp_path / "broker")
    try:
        await until(lambda: list((tmp_path / "broker").glob("*.ports")))
        broker.send_signal(signal.SIGHUP)
        await until(lambda: "Reloaded" in (tmp_path / "broker" / "nats-server.log").read_text())
        broker.terminate()
        assert await asyncio.to_thread(broker.wait, SECONDS) == 0
    finally:
        broker.kill()
        broker.wait()


def test_a_lock_whose_log_is_not_read_is_not_lost(tmp_path: Path, log: Pipe) -> None:
    with running_jetstream(tmp_path / "server") as server:
        site = Site(tmp_path, server, "unread")
        words = ("--ttl", "1s", "--verbose", "deploy", "--", "sh", "-c", "sleep 2; exit 7")
        process = start(log, "lock", "-c", tmp_path / "left.toml", *words, command=PROGRAM)
        try:
            assert process.wait(SECONDS) == 7  # 125 if the lease was lost
        finally:
            process.kill()
            process.wait()
            site.end()
