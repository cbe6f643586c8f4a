"""What this machine allows at this moment: the limits that every result is set in relation to.

L1: ed25519 verifications a second on one core (libsodium through `nacl.bindings`, 400-byte messages). L1₂: those of two
processes at once, since two virtual cores are not always two.
L2: messages a second that nats-py delivers to an empty callback.
L3: seconds that a bare interpreter takes (`python -c pass`), start to end.
L4: seconds that starting /bin/true and waiting for it takes.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import nats
from nacl import bindings
from nats.aio.msg import Msg

from benchmarks.raw import RawClient, pack
from benchmarks.report import CORES

L1_SECONDS = 0.3
L2_MESSAGES = 50_000
L4_STARTS = 1000
COMMITS = 50
FOLDER = Path(__file__).parents[1]
TRUE = "/bin/true"

_NO_OUTPUT = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]


class Speed(NamedTuple):
    """L1, by the clock on the wall and by the CPU time used: on a busy machine the first is less."""

    per_second: float
    per_cpu_second: float

    @classmethod
    def between(cls, before: Speed, after: Speed) -> Speed:
        """Return the mean of two."""
        return cls(*(sum(both) / 2 for both in zip(before, after, strict=True)))


def verifications() -> Speed:
    """Measure L1."""
    public, secret = bindings.crypto_sign_seed_keypair(os.urandom(32))
    signed = bindings.crypto_sign(b"x" * 400, secret)
    for _ in range(200):
        bindings.crypto_sign_open(signed, public)
    done, begin, cpu = 0, time.perf_counter(), time.thread_time()
    while (taken := time.perf_counter() - begin) < L1_SECONDS:
        for _ in range(100):
            bindings.crypto_sign_open(signed, public)
        done += 100
    return Speed(done / taken, done / (time.thread_time() - cpu))


def verifications_of_two() -> float:
    """Measure L1₂: verifications a second of two processes at once, together."""
    code = "from benchmarks.limits import verifications; print(verifications().per_second)"
    return sum(map(float, _outputs([sys.executable, "-c", code])))


def of_one_of_two(l1: float, of_two: float) -> float:
    """Return L1, or half of L1₂ where the two virtual cores are not two: less than 1.9 times L1 together."""
    return l1 if of_two >= CORES * l1 else of_two / 2


def deliveries_per_second(url: str) -> float:
    """Measure L2 on the broker at *url*."""
    return asyncio.run(_deliveries(url))


async def _deliveries(url: str) -> float:
    count, done = 0, asyncio.Event()

    async def callback(_message: Msg) -> None:
        nonlocal count
        count += 1
        if count == L2_MESSAGES:
            done.set()

    client = await nats.connect(url)
    await client.subscribe("bench.empty", cb=callback, pending_msgs_limit=0, pending_bytes_limit=0)
    await client.flush()
    packed = pack("bench.empty", [b"x" * 404] * L2_MESSAGES)
    with RawClient(url) as publisher:
        begin = time.perf_counter()
        await asyncio.get_running_loop().run_in_executor(None, publisher.send, packed)
        await done.wait()
        taken = time.perf_counter() - begin
    await client.close()
    return L2_MESSAGES / taken


def run_seconds(words: list[str], *, environ: Mapping[str, str] = os.environ) -> float:
    """Return how long the command *words* takes from its start to its end, its stdout thrown away.

    RuntimeError if it fails.
    """
    begin = time.perf_counter()
    pid = os.posix_spawn(words[0], words, environ, file_actions=_NO_OUTPUT)
    _, status = os.waitpid(pid, 0)
    taken = time.perf_counter() - begin
    if status:
        raise RuntimeError(f"{words[0]} ended with status {status}")
    return taken


def interpreter_seconds() -> float:
    """Measure L3 once."""
    return run_seconds([sys.executable, "-c", "pass"])


def spawn_seconds(starts: int) -> float:
    """Measure L4, the mean of *starts*."""
    begin = time.perf_counter()
    for _ in range(starts):
        run_seconds([TRUE])
    return (time.perf_counter() - begin) / starts


def commit_seconds(folder: Path) -> float:
    """Return how long SQLite takes to make one row durable in *folder*, as the ledger does; the median of some."""
    path, taken = folder / f"commit-{time.monotonic_ns()}", []
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE rows (row);")
        for _ in range(COMMITS):
            begin = time.perf_counter()
            database.execute("INSERT INTO rows VALUES (1)")
            taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def spawns_per_second() -> float:
    """Return how often two processes at the same time start /bin/true and wait for it, together, a second."""
    code = f"from benchmarks.limits import spawn_seconds; print(1 / spawn_seconds({L4_STARTS}))"
    return sum(map(float, _outputs([sys.executable, "-c", code])))


def _outputs(words: list[str]) -> list[str]:
    """Return what two processes of *words*, which run at the same time, print."""
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=FOLDER) for _ in range(2)]
    return [process.communicate()[0] for process in running]
