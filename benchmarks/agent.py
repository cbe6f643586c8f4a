"""Rows of the local agent itself: what it holds while nothing happens, and what it sends for several clients."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks import limits
from benchmarks.daemon import resident_mib
from benchmarks.report import Samples
from remaphore.agent import frames

CLIENTS = 4
SENDS = 500  # of each client
QUIET_SECONDS = 1.0  # until an agent that has just started is connected and has returned memory


def measure(agent: subprocess.Popen[bytes], path: str, *, verb: str) -> Samples:
    """Return the memory of the idle *agent*, and how many messages with *verb* it sends, in L1."""
    time.sleep(QUIET_SECONDS)
    resident = resident_mib(agent.pid)
    head = {"v": frames.VERSION, "op": frames.SEND, "verb": verb}
    operation = frames.encode(frames.HEAD, json.dumps(head).encode()) + frames.encode(frames.PAYLOAD, b"hello")
    before = limits.verifications()
    begin = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as threads:
        done = list(threads.map(lambda _: _send(path, operation), range(CLIENTS)))
    rate = sum(done) / (time.perf_counter() - begin)
    l1 = limits.Speed.between(before, limits.verifications()).per_second
    return {"agent_mib": [resident], "agent_rate": [rate / l1], "agent_sends_per_second": [rate]}


def _send(path: str, operation: bytes) -> int:
    for _ in range(SENDS):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(operation)
            answer = b""
            while data := client.recv(65536):
                answer += data
        (end,) = [body for kind, body in frames.Decoder(frames.FROM_AGENT).feed(answer) if kind == frames.END]
        if frames.decode_end(end)["exit"]:
            raise RuntimeError(f"the agent did not send: {end!r}")
    return SENDS
