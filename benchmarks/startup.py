"""Rows of whole processes: what a command costs from its start to its end, in bare interpreters."""

from __future__ import annotations

import asyncio
import compileall
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import remaphore
import remaphore_plugins
from benchmarks import limits, site
from benchmarks.daemon import COMMAND
from benchmarks.report import Samples
from benchmarks.site import Node
from remaphore.embedded.broker import Broker

RUNS = 10


class Startup:
    """One broker with authentication, one configuration that logs in with a creds file."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        own = Node(site.TARGET, site.nodes(1)[0].key)
        peers = site.nodes(5)
        self.config = str(
            site.write_config(folder, own, peers, url=broker.url, name="startup", credentials=broker.credentials)
        )

    def measure(self, runs: int = RUNS) -> Samples:
        """Run every command *runs* times, by turns; return the ratios of the medians, and L3 in milliseconds."""
        words = {
            "send": [COMMAND, "-s", "-c", self.config, "-v", "note", "hello"],
            "help": [COMMAND, "--help"],
            "example": [COMMAND, "-C"],
        }
        taken: dict[str, list[float]] = {name: [] for name in ("L3", "once", *words)}
        for _ in range(runs):
            taken["L3"].append(limits.interpreter_seconds())
            for name, command in words.items():
                taken[name].append(limits.run_seconds(command))
            taken["once"].append(self._until_ready())
        medians = {name: statistics.median(values) for name, values in taken.items()}
        bare = medians.pop("L3")
        samples = {name: [median / bare] for name, median in medians.items()}
        return {**samples, "L3_ms": [bare * 1000], "send_ms": [medians["send"] * 1000]}

    def _until_ready(self) -> float:
        begin = time.perf_counter()
        words = [COMMAND, "-o", "-c", self.config]
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            while b"Ready" not in (line := process.stderr.readline()):
                if not line:
                    raise RuntimeError("remaphore -o ended before it was ready")
            taken = time.perf_counter() - begin
            process.terminate()
        return taken


@contextmanager
def prepared(folder: Path) -> Iterator[Startup]:
    """Compile what is measured, and start the broker; stop it at the end."""
    _compile()
    with asyncio.Runner() as runner:
        broker = Broker(folder / "broker")
        runner.run(broker.start())
        try:
            yield Startup(folder, broker)
        finally:
            runner.run(broker.stop())


def _compile() -> None:
    """Write the bytecode that pip writes when it installs a package: a source tree may have none, or an old one.

    Where PYTHONDONTWRITEBYTECODE is set, each start would compile all modules again: a fifth of a start.
    """
    for folder in (*remaphore.__path__, *remaphore_plugins.__path__):
        compileall.compile_dir(folder, quiet=2)
