"""Rows of locks, beside flock(1), and beside `etcdctl lock` where etcd is installed.

The broker writes each record to the disk before it confirms (`sync_interval: always`), and so does etcd by default. The
lock of flock is a file on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

import remaphore
from benchmarks import broker, limits, site
from benchmarks.daemon import COMMAND, wait_until
from benchmarks.report import Samples
from remaphore.coordination.guardian import boottime
from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.lock import Lock
from remaphore.coordination.setup import make_streams
from remaphore.node import Node
from remaphore.tasks import spawn

RUNS = 10
WAITERS = 30
OPERATIONS = 100
SETTLE = 0.5  # seconds after which the second of two commands certainly waits
# Appends when it begins and when it is about to end: `date` starts faster than an interpreter.
COMMAND_BODY = 'date +%s.%N >> "$1"; sleep "$2"; date +%s.%N >> "$1"'


class Locks:
    """A broker with the streams of locks, the configuration of a node, and an etcd where it is installed."""

    def __init__(self, folder: Path, url: str, etcdctl: Sequence[str]) -> None:
        own, *peers = site.nodes(5)
        self._folder = folder
        self._config = str(site.write_config(folder, own, peers, name="locks", url=url))
        self._remaphore = [COMMAND, "lock", "-c", self._config, "bench", "--"]
        self._flock = ["flock", str(folder / "flock")]
        self._etcdctl = etcdctl

    def measure(self, runs: int = RUNS, operations: int = OPERATIONS) -> Samples:
        """Return the rows of one process, and those of whole processes, each the median of *runs*."""
        rows = asyncio.run(self._in_process(operations))
        send = [COMMAND, "-s", "-c", self._config, "-v", "note", "x"]
        free = {"send": send, "lock_free_ms": [*self._remaphore, "true"], "lock_free_flock_ms": [*self._flock, "true"]}
        if self._etcdctl:
            free["lock_free_etcdctl_ms"] = [*self._etcdctl, "true"]
        rows |= starts(free, runs)
        rows["lock_start"] = rows["lock_free_ms"] / rows.pop("send")
        rows["lock_hand_over_ms"] = self._between_processes(self._remaphore, runs)
        bare = statistics.median(limits.interpreter_seconds() for _ in range(runs))
        rows["lock_hand_over"] = rows["lock_hand_over_ms"] / 1000 / bare
        rows["lock_hand_over_flock_ms"] = self._between_processes(self._flock, runs)
        if self._etcdctl:
            rows["lock_hand_over_etcdctl_ms"] = self._between_processes(self._etcdctl, runs)
            rows["lock_hand_over_to_etcdctl"] = rows["lock_hand_over_ms"] / rows["lock_hand_over_etcdctl_ms"]
        return {key: [value] for key, value in rows.items()}

    async def _in_process(self, operations: int) -> dict[str, float]:
        async with remaphore.connect(self._config) as node:
            assert isinstance(node, Node)
            jetstream = JetStream(node.bus, site.ROOT)
            await make_streams(jetstream, site.ROOT, replicas=1)

            def lock() -> Lock:
                return Lock(jetstream, node.config, name="bench")

            single = [(await hand_over(lock, 1))[0] for _ in range(max(3, operations // 20))]
            line, inversions = await hand_over(lock, WAITERS)
            return {
                "lock_inversions": inversions,
                "lock_takes_per_second": await take_and_release(lock, operations),
                "lock_renewals_per_second": await renewals(lock, operations),
                "lock_hand_over_in_process_ms": statistics.median(single),
                f"lock_hand_over_of_{WAITERS}_ms": line,
            }

    def _between_processes(self, words: Sequence[str], times: int) -> float:
        """Return the milliseconds from the end of a command to the beginning of the next one, both behind *words*."""
        taken = []
        for _ in range(times):
            file = self._folder / f"times-{time.monotonic_ns()}"
            body = [*words, "sh", "-c", COMMAND_BODY, "sh", str(file)]
            with subprocess.Popen([*body, str(SETTLE)]) as first:
                wait_until(lambda file=file: file.exists() and file.read_text(), "the first command did not begin")
                with subprocess.Popen([*body, "0"]) as second:
                    first.wait()
                    second.wait()
            _, ended, began, _ = map(float, file.read_text().split())
            taken.append(1000 * (began - ended))
        return statistics.median(taken)


@contextmanager
def prepared(folder: Path) -> Iterator[Locks]:
    """Start the broker with JetStream, and etcd where it is installed; stop them at the end."""
    folder.mkdir()
    data = folder / "nats.conf"
    data.write_text(f'jetstream {{ store_dir: "{folder}/jetstream", sync_interval: always }}\n')
    with broker.running(folder, "-c", str(data)) as server, etcd(folder) as etcdctl:
        yield Locks(folder, server.url, etcdctl)


async def take_and_release(lock: Callable[[], Lock], times: int) -> float:
    """Return how often a second a free lock can be taken and freed, one after the other."""
    begin = time.perf_counter()
    for _ in range(times):
        one = lock()
        lease = await one.take(wait=10)
        assert lease is not None
        await one.release(lease)
    return times / (time.perf_counter() - begin)


async def renewals(lock: Callable[[], Lock], times: int) -> float:
    """Return how often a second a lease can be renewed, with the proof that the broker still has its record."""
    one = lock()
    lease = await one.take(wait=10)
    assert lease is not None
    begin = time.perf_counter()
    for _ in range(times):
        await one._holding.renew(lease)  # noqa: SLF001 - keep() waits for a third of the time to live
    taken = time.perf_counter() - begin
    await one.release(lease)
    return times / taken


async def hand_over(lock: Callable[[], Lock], waiters: int) -> tuple[float, int]:
    """Return the milliseconds from the freeing of a lock to its next lease, and the pairs that took it out of order."""
    first = lock()
    lease = await first.take(wait=10)
    assert lease is not None
    order: list[int] = []
    taken: list[float] = []
    freed = 0.0

    async def wait(number: int) -> None:
        nonlocal freed
        one = lock()
        got = await one.take(wait=60)
        assert got is not None
        taken.append(1000 * (boottime() - freed))
        order.append(number)
        freed = boottime()
        await one.release(got)

    waiting = []
    for number in range(waiters):
        waiting.append(spawn(wait(number), name=f"waiter {number}"))
        await asyncio.sleep(0.05)  # so that the order in which they came is known
    await asyncio.sleep(0.2)
    freed = boottime()
    await first.release(lease)
    await asyncio.gather(*waiting)
    return statistics.median(taken), sum(a > b for a, b in combinations(order, 2))


def starts(commands: Mapping[str, Sequence[str]], times: int) -> dict[str, float]:
    """Return the milliseconds from start to end of each of *commands*, by turns."""
    lines = {name: [str(shutil.which(first)), *rest] for name, (first, *rest) in commands.items()}
    taken: dict[str, list[float]] = {name: [] for name in lines}
    for _ in range(times):
        for name, line in lines.items():
            taken[name].append(limits.run_seconds(line))
    return {name: 1000 * statistics.median(values) for name, values in taken.items()}


@contextmanager
def etcd(folder: Path) -> Iterator[tuple[str, ...]]:
    """Run an etcd, and yield the words of `etcdctl lock`; none if it is not installed."""
    if not (shutil.which("etcd") and shutil.which("etcdctl")):
        yield ()
        return
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    line = [
        "etcd",
        "--data-dir",
        str(folder / "etcd"),
        "--listen-client-urls",
        client,
        "--advertise-client-urls",
        client,
    ]
    line += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
    with (folder / "etcd.log").open("wb") as log, subprocess.Popen(line, stdout=log, stderr=log) as process:
        try:
            words = ("env", "ETCDCTL_API=3", "etcdctl", f"--endpoints={client}")
            wait_until(
                lambda: not subprocess.run([*words, "get", "x"], capture_output=True, check=False).returncode, ""
            )
            yield (*words, "lock", "bench", "--")
        finally:
            process.terminate()


def free_port() -> int:
    """Return a port that nothing uses now."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])
