"""A fleet on this machine: a broker with authentication, nodes with keys, and the command that users type."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from remaphore.config.settings import Auth
from remaphore.transport.nats_client import NatsBus
from tests.harness.node_files import Entry, credentials_line, write_legacy, write_toml
from tests.harness.processes import SECONDS, Process

DESTINATIONS = {"one": "com.example.one", "two": "com.example.two", "three": "org.example.three"}
_NUMBERS = {name: number for number, name in enumerate(DESTINATIONS, 1)}


@dataclass
class Fleet:
    """The nodes one, two and three, which know each other, on one broker."""

    folder: Path
    server: str = ""
    credentials: str = ""
    processes: list[Process] = field(default_factory=list)

    def config(
        self, name, *, verbs="*", peer_verbs="*", peers=None, form="toml", extra="", server=None, credentials=None
    ):
        """Write the configuration of node *name* and return its path. *peers*: names, default: the others."""
        known = [other for other in DESTINATIONS if other != name] if peers is None else peers
        entries = [Entry(DESTINATIONS[other], _NUMBERS[other], peer_verbs.split(",")) for other in known]
        node = (self.folder / f"{name}.{form}", _NUMBERS[name], DESTINATIONS[name])
        common = {"verbs": verbs.split(","), "peers": entries, "tables": extra}
        server, credentials = server or self.server, credentials or self.credentials
        if form == "conf":
            legacy = {"server": server, "credentials": credentials, "settings": "allow_skew: 30s\n"}
            return write_legacy(*node, **legacy, **common)
        return write_toml(
            *node,
            servers=[server],
            login=credentials_line(credentials),
            settings='allow_skew = "30s"\n',
            key_file=self.key_file(name),
            **common,
        )

    def key_file(self, name):
        """Return the path of the private key of node *name*."""
        return self.folder / f"{name}.key"

    def run(self, *words, **options):
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "remaphore", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
            **options,
        )

    def start(self, *words, ready="", **options):
        """Start a command, and wait for a line of its stderr: *ready*, or the one after which it receives."""
        process = Process(words, **options)
        self.processes.append(process)
        if ready is not None:
            process.wait_for(ready or ("ready" if words[0] == "run" else "Ready"))
        return process

    def script(self, text, name="script"):
        """Write an executable shell script, and return its path."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)
        return path


@contextmanager
def running_fleet(folder: Path, *, like: Fleet | None = None) -> Iterator[Fleet]:
    """A fleet for the length of a block; every process that it started is ended after it.

    like: a fleet whose broker is used; without one, a broker of its own is started.
    """
    fleet = Fleet(folder, like.server, like.credentials) if like else Fleet(folder)
    try:
        if like is None:
            _start_broker(fleet)
        yield fleet
    finally:
        for process in reversed(fleet.processes):
            process.end()


def _start_broker(fleet: Fleet) -> None:
    broker = fleet.start("broker", "--data", fleet.folder / "broker", "--port", 0, ready=None)
    fleet.server = broker.popen.stdout.readline().partition(": ")[2].strip()
    fleet.credentials = broker.popen.stdout.readline().partition(": ")[2].strip()
    assert fleet.server, broker.lines


@asynccontextmanager
async def bus_of(fleet: Fleet) -> AsyncIterator[NatsBus]:
    """The bus of an attacker: another client with the same login at the broker, or the broker itself."""
    auth = Auth(kind="credentials", file=Path(fleet.credentials))
    bus = await NatsBus.connect([fleet.server], auth=auth, limit=10.0, on_notice=lambda _line: None)
    try:
        yield bus
    finally:
        await bus.close()


def environment(**changes):
    """Return this process's environment, with *changes*."""
    return {**os.environ, **changes}
