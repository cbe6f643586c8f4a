"""A nats-server on loopback, without authentication, for as long as a `with` block."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from remaphore.embedded.broker import find_server

START_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Broker:
    """Where it listens, and its process."""

    url: str
    pid: int


@contextmanager
def running(folder: Path, *options: str) -> Iterator[Broker]:
    """Start a server with *options* on a free port of 127.0.0.1, and stop it at the end."""
    words = [str(find_server()), "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(folder), *options]
    with (folder / "nats-server.log").open("wb") as log, subprocess.Popen(words, stdout=log, stderr=log) as process:
        try:
            yield Broker(_url(folder / f"nats-server_{process.pid}.ports"), process.pid)
        finally:
            process.terminate()


def _url(ports: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            return str(json.loads(ports.read_text())["nats"][0])
        except (OSError, ValueError, IndexError):
            time.sleep(0.005)
    raise TimeoutError(f"nats-server did not write {ports} within {START_SECONDS:g} s")
