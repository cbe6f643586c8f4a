"""Rows of what is held: the daemon's memory, and a configuration with 10,000 peers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks import daemon, site
from benchmarks.raw import RawClient
from benchmarks.receive import Receiver
from benchmarks.report import Samples
from benchmarks.site import Node

MESSAGES = 100_000
BURST = 2_500
PEERS = 10_000
FEW = 10
# Short, so that the replay window forgets as fast as it learns before half of the messages have been.
SKEW = "2s"

_LOAD = """
import json, sys, time
begin = time.perf_counter()
from remaphore.config.search import load
begin = time.perf_counter()
many = load(sys.argv[1], {})
seconds = time.perf_counter() - begin
from remaphore.protocol.gate import Filters
from remaphore.receiving.gates import make_gate
few = load(sys.argv[2], {})
raw = open(sys.argv[3], "rb").read()
def lookup(config):
    gate, now = make_gate(config, Filters(), subject=""), time.time_ns()
    begin = time.perf_counter()
    for _ in range(5000):
        gate.precheck(gate.decode(raw), now)
    return time.perf_counter() - begin
rounds = [(lookup(few), lookup(many)) for _ in range(5)]
print(json.dumps({"load": seconds, "few": min(r[0] for r in rounds), "many": min(r[1] for r in rounds)}))
"""


def daemon_memory(receiver: Receiver, *, messages: int) -> Samples:
    """Return the memory of an idle daemon, and its growth over the second half of *messages*, if there are any."""
    with daemon.running(receiver.config, hooks=receiver.hooks) as running, RawClient(receiver.url) as client:
        running.counts()  # a daemon that has been scraped
        idle, share = running.resident_mib(), running.proportional_mib()
        held = []
        for sent in range(0, messages, BURST):
            receiver.burst(client, running, receiver.accepted(BURST))
            if sent + BURST in (messages // 2, messages):
                held.append(running.resident_mib())
    if not held:
        return {"idle_mib": [idle], "idle_pss_mib": [share]}
    half, end = held
    return {"idle_mib": [idle], "idle_pss_mib": [share], "growth_mib": [end - half], "busy_mib": [end]}


class Peers:
    """Two configurations: one with 10,000 peers, one with ten of them."""

    def __init__(self, folder: Path) -> None:
        own = Node(site.TARGET, site.nodes(1)[0].key)
        peers = site.nodes(PEERS)
        url = "nats://127.0.0.1:4222"
        many = site.write_config(folder, own, peers, url=url, name="many")
        few = site.write_config(folder, own, peers[-FEW:], url=url, name="few")
        message = folder / "message"
        message.write_bytes(site.sign(peers[-1], "note", payload=b"p" * 200))
        self._words = [sys.executable, "-c", _LOAD, str(many), str(few), str(message)]

    def measure(self) -> Samples:
        """Load both in a new process; return the seconds, and the ratio of the look-ups."""
        found = json.loads(subprocess.run(self._words, check=True, capture_output=True).stdout)
        return {"load_seconds": [found["load"]], "lookup": [found["many"] / found["few"]]}
