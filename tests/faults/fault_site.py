"""Nodes under fault: brokers and daemons in processes of their own, requesters in the process of the test."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import remaphore
from remaphore.errors import TransportError
from remaphore.node import Node
from tests.harness.metrics import Series, scrape
from tests.harness.node_files import Entry, write_toml
from tests.harness.processes import Process

DAEMON, REQUESTER = "com.daemon", "com.requester"
SKEW = "30s"

# The installed command with intervals that suit a test, and two additions: on SIGUSR1 it prints how many tasks it has,
# and on SIGUSR2 there is no memory for a callback of its event loop.
_LAUNCH = """
import asyncio, signal, sys
from remaphore import tasks
from remaphore.transport import nats_connection, outage
nats_connection.PING_INTERVAL, outage.FLAPPING_AGAIN = {ping}, {quiet}
signal.signal(signal.SIGUSR1, lambda *_: print("tasks", len(asyncio.all_tasks()), file=sys.stderr, flush=True))
def starve():
    raise MemoryError
signal.signal(signal.SIGUSR2, lambda *_: asyncio.get_running_loop().call_soon_threadsafe(starve))
from remaphore.cli.main import command
command()
"""
PING_INTERVAL = 10
QUIET = 15.0  # seconds between two lines about an unstable connection


class FaultSite:
    """A node with the daemon, a node that sends it requests, and the files of both in *folder*."""

    def __init__(self, folder: Path, *servers: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.servers = servers
        self.login = 'auth = "none"'
        self.skew = SKEW
        self.processes: list[Process] = []
        self.log = folder / "started"
        self.log.touch()

    def config(self, name: str = DAEMON, extra: str = "", *, servers: tuple[str, ...] | None = None) -> Path:
        """Write the configuration of a node and return its path."""
        own, other = (2, 1) if name == DAEMON else (1, 2)
        return write_toml(
            self.folder / f"{own}.toml",
            own,
            name,
            servers=servers or self.servers,
            login=self.login + "\n",
            settings=f'allow_skew = "{self.skew}"\nstate_dir = "{self.folder}/state"\n'
            f'hooks = ["{self.folder}/hooks.d"]\n',
            peers=[Entry(DAEMON if own == 1 else REQUESTER, other)],
            tables=extra,
        )

    def handler(self, verb: str, text: str) -> None:
        """Write the one handler of *verb*."""
        path = self.folder / "hooks.d" / verb / "10-do"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def counting(self, verb: str, then: str = ":", **settings: object) -> str:
        """Write a handler that notes each payload it is started with; return the table of its verb."""
        self.handler(verb, f'echo "$2" >> {self.log}; {then}')
        return f"[verbs.{verb}]\n" + "".join(f"{key} = {value!r}\n" for key, value in settings.items())

    @property
    def started(self) -> Counter[str]:
        """How often the counting handler was started with each payload."""
        return Counter(self.log.read_text().split())

    async def daemon(
        self, extra: str = "", *, ping: float = PING_INTERVAL, quiet: float = QUIET, env: dict[str, str] | None = None
    ) -> Process:
        """Start a daemon with metrics, and return once it is ready."""
        metrics = '[plugins]\nenable = ["metrics"]\n[plugins.metrics]\nlisten = "127.0.0.1:0"\n'
        config = self.config(DAEMON, extra + metrics)
        return await self.again(config, ping=ping, quiet=quiet, env=env)

    async def again(
        self,
        config: Path,
        *,
        ping: float = PING_INTERVAL,
        quiet: float = QUIET,
        env: dict[str, str] | None = None,
    ) -> Process:
        """Start a daemon with an existing configuration."""
        command = (sys.executable, "-c", _LAUNCH.format(ping=ping, quiet=quiet))
        process = Process(["run", "-c", config], command=command, env={**os.environ, **(env or {})})
        self.processes.append(process)
        await said(process, " ready")
        return process

    @asynccontextmanager
    async def requester(self, *servers: str) -> AsyncIterator[Node]:
        """A node that sends requests to the daemon."""
        async with remaphore.connect(str(self.config(REQUESTER, servers=servers or None))) as node:
            yield node

    def end(self) -> None:
        """Stop what was started, while there is a broker to disconnect from."""
        for process in reversed(self.processes):
            process.end()


async def said(process: Process, text: str, *, times: int = 1, limit: float = 30.0) -> list[str]:
    """Return the lines of stderr with *text* once there are *times* of them; fail, with all lines, after *limit*."""
    deadline = time.monotonic() + limit
    while len(found := [line for line in process.lines if text in line]) < times:
        shown = "\n".join(process.lines)
        assert time.monotonic() < deadline, f"no {text!r} within {limit} s:\n{shown}"
        assert process.popen.poll() is None, f"ended without {text!r}:\n{shown}"
        await asyncio.sleep(0.005)
    return found


async def ask(node: Node, verb: str, payload: str = "", *, timeout: float = 10.0) -> tuple[int | None, str] | None:
    """Return the daemon's answer, None if there was none in time."""
    async with node.request(verb, to=DAEMON, payload=payload, timeout=timeout) as exchange:
        async for reply in exchange:
            return reply.exit_code, reply.output.decode()
    return None


async def asked(node: Node, verb: str, payload: str, *, timeout: float = 10.0) -> str:
    """Return how a request ended, for the checker: answered, rejected, or lost; never raise."""
    try:
        answer = await ask(node, verb, payload, timeout=timeout)
    except TransportError:
        return "lost"
    if answer is None:
        return "lost"
    code, text = answer
    if text.startswith("remaphore: refused"):
        return "rejected"
    return "answered" if code == 0 else f"interrupted {code}"


async def meet(node: Node, verb: str) -> None:
    """Return once the daemon has answered, whatever state it and its broker are in at first."""
    deadline = time.monotonic() + 30
    while await asked(node, verb, "", timeout=1) != "answered":
        assert time.monotonic() < deadline


async def metrics(process: Process) -> Series:
    """Return the value of each series of a daemon, by its name and the values of its labels."""
    (line,) = [line for line in process.lines if "metrics are served on" in line]
    return await asyncio.to_thread(scrape, line.partition("served on ")[2].split()[0])


async def in_touch(daemon: Process, expected: int) -> None:
    """Return once the daemon's metrics say that it is connected (1), or not (0)."""
    deadline = time.monotonic() + 30
    while (await metrics(daemon))["remaphore_connected",] != expected:
        assert time.monotonic() < deadline, daemon.lines
        await asyncio.sleep(0.01)
