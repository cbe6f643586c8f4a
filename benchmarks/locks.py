"""Rows of locks, beside flock(1), and beside etcdctl where etcd is installed: `python -m benchmarks.locks [--short]`.

Each row is a median. The broker writes each record to the disk before it confirms (`sync_interval: always`), and etcd
does so by default. A file on the disk has the lock of flock.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

import remaphore
from benchmarks import broker, limits, site, startup
from benchmarks.daemon import COMMAND, wait_until
from remaphore.coordination.guardian import boottime
from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.lock import Lock
from remaphore.coordination.setup import make_streams
from remaphore.node import Node
from remaphore.tasks import spawn

WAITERS = 30
MOST = {"start_ratio": 1.8, "processes_ms_to_etcdctl": 3.0}  # what docs/performance.md promises
# Appends when it begins and when it is about to end, on a clock that all processes share.
COMMAND_BODY = """import sys, time
file = open(sys.argv[1], "a")
file.write(f"{time.monotonic()} ")
file.flush()
time.sleep(float(sys.argv[2]))
file.write(f"{time.monotonic()}\\n")
"""


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


async def in_process(config: Path, times: int) -> dict[str, float]:
    """Return the rows of one process."""
    async with remaphore.connect(str(config)) as node:
        assert isinstance(node, Node)
        jetstream = JetStream(node.bus, site.ROOT)
        await make_streams(jetstream, site.ROOT, replicas=1)

        def lock() -> Lock:
            return Lock(jetstream, node.config, name="bench")

        single = [(await hand_over(lock, 1))[0] for _ in range(max(3, times // 20))]
        line, inversions = await hand_over(lock, WAITERS)
        return {
            "take_release_per_s": await take_and_release(lock, times),
            "renew_per_s": await renewals(lock, times),
            "hand_over_ms": statistics.median(single),
            f"hand_over_{WAITERS}_ms": line,
            f"hand_over_{WAITERS}_inversions": inversions,
        }


def between_processes(words: Sequence[str], folder: Path, times: int, *, settle: float) -> float:
    """Return the milliseconds from the end of a command to the beginning of the next one, both behind *words*.

    settle: seconds after which the second one certainly waits.
    """
    taken = []
    for number in range(times):
        file = folder / f"times-{time.monotonic_ns()}-{number}"
        body = [sys.executable, "-S", "-c", COMMAND_BODY, str(file)]
        with subprocess.Popen([*words, *body, str(2 * settle)]) as first:
            wait_until(lambda file=file: file.exists() and file.read_text(), "the first command did not begin")
            with subprocess.Popen([*words, *body, "0"]) as second:
                first.wait()
                second.wait()
        (_, ended), (began, _) = (map(float, line.split()) for line in file.read_text().splitlines())
        taken.append(1000 * (began - ended))
    return statistics.median(taken)


def starts(words: Sequence[Sequence[str]], times: int) -> list[float]:
    """Return the milliseconds from start to end of each of the command lines *words*, by turns."""
    lines = [[str(shutil.which(first)), *rest] for first, *rest in words]
    taken = [[limits.run_seconds(line) for line in lines] for _ in range(times)]
    return [1000 * statistics.median(column) for column in zip(*taken, strict=True)]


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


def measure(folder: Path, *, short: bool) -> dict[str, float]:
    """Return all rows."""
    startup.compile_all()
    times, runs = (20, 3) if short else (200, 15)
    data = folder / "nats.conf"
    data.write_text(f'jetstream {{ store_dir: "{folder}/jetstream", sync_interval: always }}\n')
    with broker.running(folder, "-c", str(data)) as server, etcd(folder) as etcdctl:
        own, *peers = site.nodes(5)
        config = site.write_config(folder, own, peers, url=server.url)
        rows = asyncio.run(in_process(config, times))
        of_lock = [COMMAND, "lock", "-c", str(config), "bench", "--"]
        flock = ["flock", str(folder / "flock")]
        send = [COMMAND, "-s", "-c", str(config), "-v", "note", "x"]
        rows["send_ms"], rows["lock_ms"], rows["flock_ms"] = starts([send, [*of_lock, "true"], [*flock, "true"]], runs)
        rows["start_ratio"] = rows["lock_ms"] / rows["send_ms"]
        rows["processes_ms"] = between_processes(of_lock, folder, runs, settle=0.5)
        rows["processes_flock_ms"] = between_processes(flock, folder, runs, settle=0.1)
        if etcdctl:
            (rows["etcdctl_ms"],) = starts([[*etcdctl, "true"]], runs)
            rows["processes_etcdctl_ms"] = between_processes(etcdctl, folder, runs, settle=0.2)
            rows["processes_ms_to_etcdctl"] = rows["processes_ms"] / rows["processes_etcdctl_ms"]
        return rows


def main() -> int:
    """Measure, print the rows; return 1 if one misses what is promised."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.locks", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few runs of each row")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="remaphore-bench-") as name:
        rows = measure(Path(name), short=options.short)
    if options.json:
        print(json.dumps(rows))
    else:
        for name, value in rows.items():
            print(f"{name:<28}{value:>10.2f}")
    missed = [name for name, most in MOST.items() if rows.get(name, 0.0) > most]
    missed += ["inversions"] * bool(rows[f"hand_over_{WAITERS}_inversions"])
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
