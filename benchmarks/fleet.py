"""A fleet on one machine: `python -m benchmarks.fleet --output FOLDER [--nodes N...]`, or `make fleet`.

N receivers, each with a key and a connection of its own, in a few processes; a requester in another asks one of them, a
tenth, and all. What it costs against N goes to fleet.json and fleet.svg in FOLDER.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import remaphore
from benchmarks import broker, limits, pictures, site
from benchmarks.daemon import resident_mib
from benchmarks.site import Node
from remaphore.config.settings import Auth, Config, Identity
from remaphore.node import Node as ConnectedNode
from remaphore.protocol.peers import ANY_VERB, Peer
from remaphore.tasks import spawn

SIZES = (10, 100, 1_000)
PROCESSES = 4
DIALLING = 50  # connections of one process that are being made at a time
ROUNDS = 5
SECONDS = 120.0  # for one request
FIRST_SECONDS = 5.0  # until asking again whether all are there; with many, what their answers may take at the most
SLOWEST_SECONDS = 0.005
SKEW_NS = 600 * 10**9
_FORK = multiprocessing.get_context("fork")  # keys are not pickled


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request to a part of the fleet: medians of some rounds, but `missing` is of all of them."""

    nodes: int
    part: str
    expected: int
    first_ms: float
    last_ms: float
    cpu_ms: float
    missing: int
    broker_mib: float = 0.0
    receivers_mib: float = 0.0


def main() -> None:
    """Measure each size, print a table, write the JSON and the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--nodes", type=int, nargs="+", default=list(SIZES), metavar="N")
    options = parser.parse_args()
    print(" nodes  asked  first ms   last ms   CPU ms  us/reply  missing  broker MiB")
    results = []
    for number in options.nodes:
        for asked in measure(number):
            results.append(asked)
            print(_line(asked), flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    document = {"l1_per_second": limits.verifications().per_second, "asked": [asdict(asked) for asked in results]}
    (options.output / "fleet.json").write_text(json.dumps(document, indent=2) + "\n")
    everyone = [asked for asked in results if asked.part == "all"]
    print(fit(everyone))
    pictures.fleet(options.output / "fleet.svg", everyone)


def _line(asked: Asked) -> str:
    each = asked.cpu_ms / asked.expected * 1000
    return (
        f"{asked.nodes:6} {asked.expected:6} {asked.first_ms:9.1f} {asked.last_ms:9.1f} {asked.cpu_ms:8.1f} {each:9.0f}"
        f" {asked.missing:8} {asked.broker_mib:11.1f}"
    )


def fit(everyone: Sequence[Asked]) -> str:
    """Return the straight lines through requests to all: what a further node costs."""
    if len(everyone) < 2:
        return ""
    lines = []
    for name in ("last_ms", "cpu_ms", "broker_mib", "receivers_mib"):
        line = statistics.linear_regression(
            [asked.nodes for asked in everyone], [getattr(asked, name) for asked in everyone]
        )
        lines.append(f"{name:14} = {line.intercept:8.2f} + {line.slope:.5f} x nodes")
    return "\n".join(lines)


def measure(number: int) -> list[Asked]:
    """Start a broker and *number* receivers, ask them, and stop all."""
    nodes = [Node(f"com.fleet.g{index % 10}.n{index}", node.key) for index, node in enumerate(site.nodes(number))]
    admin = Node("com.fleet.admin", site.nodes(1)[0].key)
    with tempfile.TemporaryDirectory(prefix="remaphore-fleet-") as name:
        folder = Path(name)
        with broker.running(folder) as server, _receivers(nodes, admin, server.url) as pids:
            config = site.write_config(folder, admin, nodes, url=server.url, skew="10m")
            asked = _ask(config, nodes)
            held = resident_mib(server.pid)
            receivers = sum(map(resident_mib, pids), 0.0)
    return [replace(each, broker_mib=held, receivers_mib=receivers) for each in asked]


@contextmanager
def _receivers(nodes: Sequence[Node], admin: Node, url: str) -> Iterator[list[int]]:
    ready = _FORK.Semaphore(0)
    shares = [nodes[start::PROCESSES] for start in range(min(PROCESSES, len(nodes)))]
    processes = [_FORK.Process(target=_receive, args=(share, admin, url, ready)) for share in shares]
    for process in processes:
        process.start()
    try:
        for _ in nodes:
            if not ready.acquire(timeout=SECONDS):
                raise TimeoutError(f"not all receivers are connected after {SECONDS:g} s")
        yield [process.pid or 0 for process in processes]
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _receive(nodes: Sequence[Node], admin: Node, url: str, ready: multiprocessing.synchronize.Semaphore) -> None:
    asyncio.run(_receive_all([_config(node, admin, url) for node in nodes], ready))


async def _receive_all(configs: Sequence[Config], ready: multiprocessing.synchronize.Semaphore) -> None:
    dialling = asyncio.Semaphore(DIALLING)
    tasks = [spawn(_answer(config, dialling, ready), name=config.destination) for config in configs]
    await asyncio.gather(*tasks)


async def _answer(config: Config, dialling: asyncio.Semaphore, ready: multiprocessing.synchronize.Semaphore) -> None:
    await dialling.acquire()
    async with remaphore.connect(config) as node:
        dialling.release()
        ready.release()
        async for message in node.receive():
            await node.reply(message, 0, "done")


def _config(node: Node, admin: Node, url: str) -> Config:
    every = frozenset({ANY_VERB})
    return Config(
        source=node.destination,
        destination=node.destination,
        servers=(url,),
        auth=Auth(kind="none"),
        identities=(Identity(key=node.key.public, verbs=every, load=lambda: node.key),),
        peers=(Peer(destination=admin.destination, key=admin.key.public, verbs=every),),
        allow_skew_ns=SKEW_NS,
    )


def _ask(config: Path, nodes: Sequence[Node]) -> list[Asked]:
    """Ask in a process of its own, so that its CPU time is the requester's."""
    ours, theirs = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=lambda: theirs.send(asyncio.run(_requests(config, nodes))))
    process.start()
    theirs.close()
    try:
        answer: list[Asked] = ours.recv()
        return answer
    finally:
        process.join()


async def _requests(config: Path, nodes: Sequence[Node]) -> list[Asked]:
    parts = {"one": nodes[-1].destination, "tenth": "com.fleet.g0.**", "all": "com.fleet.**"}
    async with remaphore.connect(config) as node:
        deadline = time.monotonic() + SECONDS
        patience = max(FIRST_SECONDS, len(nodes) * SLOWEST_SECONDS)
        while missing := (await _request(node, parts["all"], timeout=patience))["missing"]:  # until all have subscribed
            if time.monotonic() > deadline:
                raise TimeoutError(f"{missing:.0f} of {len(nodes)} receivers do not answer")
        return [
            _summary(part, len(nodes), [await _request(node, pattern) for _ in range(ROUNDS)])
            for part, pattern in parts.items()
        ]


async def _request(node: ConnectedNode, pattern: str, *, timeout: float = SECONDS) -> dict[str, float]:
    cpu, begin = time.process_time(), time.perf_counter()
    async with node.request("note", to=pattern, payload="hello", timeout=timeout) as exchange:
        arrived = [time.perf_counter() - begin async for _ in exchange]
    cpu = time.process_time() - cpu
    return {
        "expected": len(exchange.expected),
        "first_ms": arrived[0] * 1000 if arrived else 0.0,
        "last_ms": arrived[-1] * 1000 if arrived else 0.0,
        "cpu_ms": cpu * 1000,
        "missing": len(exchange.missing),
    }


def _summary(part: str, nodes: int, rounds: Sequence[dict[str, float]]) -> Asked:
    medians = {name: statistics.median(each[name] for each in rounds) for name in ("first_ms", "last_ms", "cpu_ms")}
    missing = sum(int(each["missing"]) for each in rounds)
    return Asked(nodes=nodes, part=part, expected=int(rounds[0]["expected"]), missing=missing, **medians)


if __name__ == "__main__":
    main()
