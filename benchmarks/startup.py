"""Rows of whole processes: what a command costs from its start to its end, in bare interpreters."""

from __future__ import annotations

import asyncio
import compileall
import os
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import remaphore
import remaphore_plugins
from benchmarks import agent, limits, site
from benchmarks.daemon import COMMAND
from benchmarks.report import Samples
from benchmarks.site import Node
from remaphore.embedded.broker import Broker

RUNS = 10
LOOP_SENDS = 200
RECEIVERS = 3
RULE = """[[agent.allow]]
user = {}
do = ["send", "request"]
verbs = ["*"]
to = ["**"]
"""


class Startup:
    """One broker with authentication, one configuration that logs in with a creds file."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        own = Node(site.TARGET, site.nodes(1)[0].key)
        peers = site.nodes(5)
        common = {"url": broker.url, "credentials": broker.credentials}
        self.config = str(site.write_config(folder, own, peers, name="startup", **common))
        rule = RULE.format(os.geteuid())
        self._of_agent = site.write_config(folder, own, peers[:RECEIVERS], name="agent", extra=rule, **common)
        self._receivers = [
            site.write_config(folder, peer, [own], name=f"receiver{number}", **common)
            for number, peer in enumerate(peers[:RECEIVERS])
        ]
        # Where our own agent may be, whoever we are.
        self._socket = f"{folder}/agent/agent.sock"
        Path(self._socket).parent.mkdir(mode=0o755)
        self._environ = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}

    def measure(self, runs: int = RUNS) -> Samples:
        """Run every command *runs* times, by turns; return the ratios of the medians, and L3 in milliseconds."""
        with self._agent() as process:
            return {**agent.measure(process, self._socket, verb="note"), **self._measure(runs)}

    def _measure(self, runs: int) -> Samples:
        through = [COMMAND, "--agent", self._socket]
        loop = f"for each in $(seq {LOOP_SENDS}); do {' '.join(through)} -s -v note hello; done"
        words = {
            "agent_send": [*through, "-s", "-v", "note", "hello"],
            "agent_request": [*through, "-r", "-v", "note", "-D", "com.bench.*", "hello"],
            "send": [COMMAND, "-s", "-c", self.config, "-v", "note", "hello"],
            "help": [COMMAND, "--help"],
            "example": [COMMAND, "-C"],
        }
        taken: dict[str, list[float]] = {name: [] for name in ("L3", "once", *words)}
        for _ in range(runs):
            taken["L3"].append(limits.interpreter_seconds())
            for name, command in words.items():
                taken[name].append(limits.run_seconds(command, environ=self._environ))
            taken["once"].append(self._until_ready())
        medians = {name: statistics.median(values) for name, values in taken.items()}
        bare = medians.pop("L3")
        medians["agent_loop"] = limits.run_seconds(["/bin/sh", "-c", loop], environ=self._environ)
        samples = {name: [median / bare] for name, median in medians.items()}
        return {**samples, "L3_ms": [bare * 1000], "send_ms": [medians["send"] * 1000]}

    @contextmanager
    def _agent(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run an agent, and as many receivers as its peers that reply."""
        with ExitStack() as stack:
            processes = []
            serve = [COMMAND, "agent", "--agent", self._socket, "-c", str(self._of_agent)]
            receivers = [[COMMAND, "receive", "-c", str(config), "/bin/echo"] for config in self._receivers]
            for command in (serve, *receivers):
                process = stack.enter_context(
                    subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=self._environ)
                )
                stack.callback(process.terminate)
                _wait_until_ready(process)
                assert process.stderr is not None  # a pipe; its log is longer than what a pipe holds
                threading.Thread(target=process.stderr.read, daemon=True).start()
                processes.append(process)
            yield processes[0]

    def _until_ready(self) -> float:
        begin = time.perf_counter()
        words = [COMMAND, "-o", "-c", self.config]
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            _wait_until_ready(process)
            taken = time.perf_counter() - begin
            process.terminate()
        return taken


def _wait_until_ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stderr is not None
    while b"Ready" not in (line := process.stderr.readline()):
        if not line:
            raise RuntimeError(f"{process.args!r} ended before it was ready")


@contextmanager
def prepared(folder: Path) -> Iterator[Startup]:
    """Compile what is measured, and start the broker; stop it at the end."""
    compile_all()
    with asyncio.Runner() as runner:
        broker = Broker(folder / "broker")
        runner.run(broker.start())
        try:
            yield Startup(folder, broker)
        finally:
            runner.run(broker.stop())


def compile_all() -> None:
    """Write the bytecode that pip writes when it installs a package: a source tree may have none, or an old one.

    Where PYTHONDONTWRITEBYTECODE is set, each start would compile all modules again: a fifth of a start.
    """
    for folder in (*remaphore.__path__, *remaphore_plugins.__path__):
        compileall.compile_dir(folder, quiet=2)
