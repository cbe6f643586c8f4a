"""Many real processes that take a lock and a semaphore again and again while they are killed and stopped.

Each command writes a begin, a sign of its life every 20 ms and an end, on a clock that all processes share, and looks
at its begin for processes of earlier leases of its slot. `Account` reads that.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from remaphore.tasks import spawn
from tests.harness.lock_processes import PROGRAM, ROOT
from tests.harness.node_files import Entry, write_toml
from tests.harness.processes import children

# LOCK_RUN is in the environment of all that the workers start, and names their folder.
COMMAND = """import os, signal, sys, time
file, seconds, how = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT), float(sys.argv[2]), sys.argv[3:]
own = {name: os.environb[name] for name in (b"LOCK_RUN", b"REMAPHORE_LOCK", b"REMAPHORE_LOCK_SLOT")}
token = os.environb[b"REMAPHORE_LOCK_TOKEN"]
def say(what, pid):
    os.write(file, b"%s %s %s %d %d\\n" % (what, own[b"REMAPHORE_LOCK_SLOT"], token, time.monotonic_ns(), pid))
say(b"begin", os.getpid())
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        with open("/proc/%s/environ" % pid, "rb") as environ:
            found = dict(line.partition(b"=")[::2] for line in environ.read().split(b"\\0"))
    except OSError:
        continue
    if own.items() <= found.items() and found.get(b"REMAPHORE_LOCK_TOKEN") != token:
        say(b"old", int(pid))
print(os.getpid(), flush=True)
if "ignores TERM" in how: signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "leaves a child" in how and os.fork() == 0: os.setsid()
end = time.monotonic() + seconds
while time.monotonic() < end:
    say(b"sign", os.getpid())
    time.sleep(0.02)
say(b"end", os.getpid())
"""
HOW = ((), (), ("ignores TERM",), ("leaves a child",), ("ignores TERM", "leaves a child"))
HOLD = (0.05, 0.3, 1.0, 3.0)  # seconds
PATIENCE = 240.0  # seconds after which a process waits for ever
NAMES = {"lock": "deploy", "semaphore": "backup"}
SLOTS = 3
# An exit code, and whether it is one of a process that was not disturbed: 3 is without a broker, before the command.
EXPECTED = {0, 3, 125, -signal.SIGKILL}


class Account:
    """What the commands of one lock or semaphore have written to *file*."""

    def __init__(self, file: Path) -> None:
        self.begins: dict[int, dict[int, int]] = defaultdict(dict)  # times by token, by slot
        self.old: list[tuple[int, int]] = []  # token of a command, and pid of an older one that lived at its begin
        self._signs: list[tuple[int, int, int]] = []  # slot, token, time
        for line in file.read_text().splitlines() if file.exists() else ():
            what, *numbers = line.split()
            slot, token, moment, pid = map(int, numbers)
            if what == "old":
                self.old.append((token, pid))
                continue
            self._signs.append((slot, token, moment))
            first = self.begins[slot]
            first[token] = min(moment, first.get(token, moment))

    @property
    def leases(self) -> int:
        """How many there were."""
        return sum(map(len, self.begins.values()))

    def overlaps(self) -> list[tuple[int, int, int]]:
        """Return the signs, as slot, token, time, that a command wrote after one with a higher token had begun."""
        next_begin = {}
        for slot, first in self.begins.items():
            earliest = sys.maxsize
            for token in sorted(first, reverse=True):
                next_begin[slot, token] = earliest
                earliest = min(earliest, first[token])
        return [sign for sign in self._signs if sign[2] >= next_begin[sign[:2]]]

    def tokens_back(self) -> int:
        """Return how often a slot was given with a token that is not higher than the one before."""
        orders = (sorted(first, key=first.__getitem__) for first in self.begins.values())
        return sum(later <= earlier for order in orders for earlier, later in itertools.pairwise(order))

    def times(self) -> list[float]:
        """Return when leases began, in seconds, sorted."""
        return sorted(moment / 1e9 for first in self.begins.values() for moment in first.values())

    def longest_after(self, faults: Sequence[float]) -> float:
        """Return the longest time from the end of one of *faults* to the next lease."""
        times = self.times()
        return max((next((each for each in times if each >= end), time.monotonic()) - end for end in faults), default=0)


class Fleet:
    """Workers 0 to 7 take the lock, 8 to 15 the semaphore. servers: the URLs of a worker. calm: none is disturbed."""

    def __init__(
        self,
        folder: Path,
        *,
        servers: Callable[[int], Sequence[str]],
        ttl: float = 4.0,
        kinds: Mapping[str, int] = {"lock": 8, "semaphore": 8},
        calm: bool = False,
        seed: int = 1,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self.folder, self.ttl = folder, ttl
        self.dice = random.Random(seed)
        self.codes: Counter[int] = Counter()
        self.problems: list[str] = []
        self.longest_waits = dict.fromkeys(kinds, 0.0)
        self.faults: list[float] = []  # when each ended
        self._calm = calm
        self._program = program
        self._kinds = [kind for kind, number in kinds.items() for _ in range(number)]
        self._ending = False
        numbers = range(len(self._kinds))
        folder.mkdir(exist_ok=True)
        for number in numbers:
            write_toml(
                folder / f"{number}.toml",
                number + 1,
                f"com.example.node{number}",
                servers=servers(number),
                settings=f'subject = "r"\nstate_dir = "{folder}/state{number}"\n',
                peers=[Entry(f"com.example.node{other}", other + 1) for other in numbers if other != number],
            )

    def account(self, kind: str) -> Account:
        """Return what the commands of the lock or of the semaphore have written."""
        return Account(self.folder / f"{kind}.signs")

    async def run(self, seconds: float, trouble: Callable[[], Awaitable[None]]) -> None:
        """Let the workers work for so long, while *trouble* is made again and again; then until each has ended."""
        workers = [spawn(self._work(number, kind), name=f"worker {number}") for number, kind in enumerate(self._kinds)]
        try:
            end = time.monotonic() + seconds
            while time.monotonic() < end and not any(worker.done() for worker in workers):
                await trouble()
                self.faults.append(time.monotonic())
            self._ending = True
            await asyncio.wait(workers, timeout=PATIENCE)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)
            left = self.left()
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for worker in workers:
            if worker.cancelled():
                self.problems.append(f"{worker.get_name()} waits for ever")
            elif error := worker.exception():
                self.problems.append(f"{worker.get_name()}: {error!r}")
        if left:
            self.problems.append(f"left: {left}")

    def left(self) -> list[int]:
        """Return the pids of what the workers have started and that lives."""
        found, mark = [], f"LOCK_RUN={self.folder}".encode()
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if mark in environ.read_bytes().split(b"\0"):
                    found.append(int(environ.parent.name))
        return found

    async def _work(self, number: int, kind: str) -> None:
        while not self._ending:
            how = self.dice.choice(HOW)
            slots = ("--slots", str(SLOTS)) if kind == "semaphore" else ()
            words = (kind, "-c", self.folder / f"{number}.toml", "--ttl", f"{self.ttl}s", *slots, NAMES[kind], "--")
            file, seconds = self.folder / f"{kind}.signs", str(self.dice.choice(HOLD))
            command = (sys.executable, "-S", "-c", COMMAND, file, seconds, *how)
            since = time.monotonic()
            with (self.folder / "stderr").open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    *map(str, (*self._program, *words, *command)),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd=ROOT,
                    env={**os.environ, "LOCK_RUN": str(self.folder)},
                )
            assert process.stdout is not None
            disturbed = spawn(self._disturb_waiter(process.pid), name="disturb a waiter")
            try:
                async with asyncio.timeout(PATIENCE):
                    begun = await process.stdout.readline()
                    disturbed.cancel()
                    if begun:
                        self.longest_waits[kind] = max(self.longest_waits[kind], time.monotonic() - since)
                        await self._disturb_holder(process.pid, how)
                    code = await process.wait()
            finally:
                disturbed.cancel()
                if process.returncode is None:
                    for signal_number in (signal.SIGKILL, signal.SIGCONT):
                        process.send_signal(signal_number)
            self.codes[code] += 1
            if code not in EXPECTED:
                self.problems.append(f"worker {number} exits with {code}")

    async def _disturb_waiter(self, pid: int) -> None:
        """Kill or stop one of twenty that wait longer."""
        if self._calm or self.dice.random() > 0.1:
            return
        await asyncio.sleep(self.dice.uniform(0.2, 3))
        await self._signal(*((signal.SIGKILL, pid) if self.dice.random() < 0.5 else (signal.SIGSTOP, pid)))

    async def _disturb_holder(self, pid: int, how: Sequence[str]) -> None:
        chance = self.dice.random()
        if self._calm or chance > 0.34:
            return
        await asyncio.sleep(self.dice.choice((0, 0.01, 0.2, 1.0)))
        with suppress(OSError, ValueError):  # it has ended meanwhile
            (guardian,) = children(pid)
            if chance < 0.10:
                await self._signal(signal.SIGKILL, pid)
            elif chance < 0.14:
                await self._signal(signal.SIGKILL, guardian)
            elif chance < 0.18 and "leaves a child" not in how:  # with both killed, nothing is left to find children
                await self._signal(signal.SIGKILL, pid, guardian)
            else:
                await self._signal(signal.SIGSTOP, pid if chance < 0.26 else guardian)

    async def _signal(self, number: int, *pids: int) -> None:
        """Send a signal; after SIGSTOP let the process run again after at most twice the ttl."""
        try:
            for pid in pids:
                os.kill(pid, number)
            if number == signal.SIGSTOP:
                await asyncio.sleep(self.dice.uniform(0.2, 2 * self.ttl))
        finally:
            if number == signal.SIGSTOP:
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)
