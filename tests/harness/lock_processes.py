"""Locks with real processes: nodes on a broker with JetStream, and a command that writes signs of its life."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from remaphore.config.search import load
from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.lock_states import LockState, states
from remaphore.coordination.setup import make_streams
from tests.harness.nats_server import NatsServer, connected
from tests.harness.node_files import Entry, write_toml
from tests.harness.processes import SECONDS, Process, children
from tests.harness.programs import alive
from tests.harness.waiting import until

PROGRAM = (sys.executable, "-m", "tests.harness.short_lease")
NODES = {"left": 1, "right": 2, "third": 3}
ROOT = Path(__file__).parents[2]
# A line for each sign: token, time on a clock that all processes share, pid. Words: what it ignores, what it starts.
SIGNS = """import os, signal, sys, time
if "ignores TERM" in sys.argv: signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "leaves a child" in sys.argv and os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
while "once" not in sys.argv or not os.write(file, b""):
    os.write(file, b"%s %d %d\\n" % (os.environb[b"REMAPHORE_LOCK_TOKEN"], time.monotonic_ns(), os.getpid()))
    if "once" in sys.argv: break
    time.sleep(0.02)
"""


class Sign:
    """A line of the file of signs."""

    def __init__(self, line: str) -> None:
        self.token, self.time, self.pid = map(int, line.split())


class Site:
    """The nodes left, right and third, which may use all locks, on *server*; each test has a root of its own."""

    def __init__(self, folder: Path, server: NatsServer, root: str) -> None:
        self.folder = folder
        self.server = server
        self.root = root
        self.signs_file = folder / "signs"
        self.processes: list[Process] = []
        self._families: set[int] = set()
        asyncio.run(self._make_streams())
        for name, number in NODES.items():
            self.config(name, number)

    async def _make_streams(self) -> None:
        async with connected(self.server) as bus:
            await make_streams(JetStream(bus, self.root), self.root, replicas=1)

    def config(self, name: str, number: int, *, verbs: tuple[str, ...] = ("*",), servers: tuple[str, ...] = ()) -> Path:
        """Write the configuration of a node, and return its path."""
        peers = [Entry(f"com.example.{other}", key) for other, key in NODES.items() if other != name]
        return write_toml(
            self.folder / f"{name}.toml",
            number,
            f"com.example.{name}",
            servers=servers or (self.server.url,),
            settings=f'subject = "{self.root}"\nstate_dir = "{self.folder}/state-{name}"\n',
            verbs=verbs,
            peers=peers,
        )

    def start(self, node: str, *words: object, **options: object) -> Process:
        """Start `remaphore WORDS` as *node*, with short leases."""
        first, *rest = words
        process = Process((first, "-c", self.folder / f"{node}.toml", *rest), command=PROGRAM, cwd=ROOT, **options)
        self.processes.append(process)
        return process

    def run(self, node: str, *words: object, **options: object) -> subprocess.CompletedProcess[str]:
        """Run `remaphore WORDS` as *node* to its end."""
        first, *rest = words
        line = [*PROGRAM, first, "-c", str(self.folder / f"{node}.toml"), *map(str, rest)]
        options = {"stdin": subprocess.DEVNULL, "cwd": ROOT, **options}
        return subprocess.run(line, capture_output=True, text=True, timeout=2 * SECONDS, check=False, **options)

    def hold(self, node: str, *words: object, name: str = "deploy", ttl: float = 2.0, how: tuple[str, ...] = ()):
        """Start a command that writes signs until it is ended, and wait for its first one.

        The lock has a process group and a session of its own, as under cron.
        """
        already = len(self.signs())
        line = ("lock", "--ttl", f"{ttl}s", *words, name, "--", *self.writer(*how))
        process = self.start(node, *line, start_new_session=True)
        self.until(lambda: len(self.signs()) > already)
        return process

    def writer(self, *how: str) -> tuple[str, ...]:
        """Return the command that writes signs."""
        return (sys.executable, "-S", "-c", SIGNS, str(self.signs_file), *how)

    def wait_in_line(self, node: str, *words: object, ttl: float) -> Process:
        """Start a command that writes one sign, and return once it waits for the lock."""
        process = self.start(node, "lock", "--ttl", f"{ttl}s", *words, "deploy", "--", *self.writer("once"))
        process.wait_for("held by")
        return process

    def signs(self) -> list[Sign]:
        """Return all signs so far."""
        return [Sign(line) for line in self.signs_file.read_text().splitlines()] if self.signs_file.exists() else []

    def overlaps(self) -> int:
        """Return how many signs stand beside one with a higher token: of a command that should have ended."""
        first: dict[int, int] = defaultdict(lambda: 2**63)
        for sign in self.signs():
            first[sign.token] = min(first[sign.token], sign.time)
        return sum(
            any(sign.token < token and sign.time >= begin for token, begin in first.items()) for sign in self.signs()
        )

    def tokens(self) -> list[int]:
        """Return the tokens of the leases, in the order in which they began."""
        return list(dict.fromkeys(sign.token for sign in sorted(self.signs(), key=lambda sign: sign.time)))

    def pids(self) -> set[int]:
        """Return the pids of all commands that have written a sign."""
        return {sign.pid for sign in self.signs()}

    def family(self, process: Process) -> tuple[int, int]:
        """Return the pids of the guardian of *process*, and of its command."""
        (guardian,) = children(process.popen.pid)
        (command,) = children(guardian)
        self._families |= {guardian, command}
        return guardian, command

    def state(self, name: str = "deploy") -> LockState:
        """Return who holds a lock, and who waits, as the node third sees it."""

        async def read() -> LockState:
            config = load(str(self.folder / "third.toml"), {})
            async with connected(self.server) as bus:
                (found,) = await states(JetStream(bus, self.root), config, name)
                return found

        return asyncio.run(read())

    def until(self, condition) -> None:
        """Wait for *condition*."""
        asyncio.run(until(condition))

    def end(self) -> None:
        """Kill what is left."""
        for process in self.processes:
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGKILL)
            process.popen.send_signal(signal.SIGCONT)
        for pid in self.pids() | self._families:  # one that is stopped would keep its pipes open
            if alive(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.end()
