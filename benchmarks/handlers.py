"""Rows of handlers: how soon one is started, and how many in a second."""

from __future__ import annotations

import os
import statistics
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from benchmarks import daemon, limits, site
from benchmarks.daemon import METRICS, Daemon
from benchmarks.raw import RawClient, pack
from benchmarks.report import Samples
from benchmarks.site import SUBJECT, Node
from remaphore.protocol import wire

STARTS = 40
REQUESTS = 1_000
REPLY_SECONDS = 30.0
IDLE_SECONDS = 0.02  # between two messages to a daemon that has nothing else to do

# bash tells the time without starting another program.
CLOCK = "#!/bin/bash\necho $EPOCHREALTIME\n"
VERBS = "[verbs.true]\nconcurrency = 8\nqueue = 10000\n"


class Handlers:
    """A daemon's configuration with two verbs: `clock`, whose handler says when it ran, and `true`."""

    def __init__(self, folder: Path, url: str, *, skew: str = "10m") -> None:
        self._url = url
        self._sender = site.nodes(1)[0]
        self.hooks = folder / "handlers.d"
        self._clock = self.hooks / "clock" / "10-clock"
        for verb in ("clock", "true"):
            (self.hooks / verb).mkdir(parents=True, exist_ok=True)
        self._clock.write_text(CLOCK)
        self._clock.chmod(0o755)
        (self.hooks / "true" / "10-true").symlink_to(limits.TRUE)
        own = Node(site.TARGET, site.nodes(1)[0].key)
        self._config = site.write_config(
            folder, own, [self._sender], url=url, name="handlers", skew=skew, extra=VERBS + METRICS
        )

    def measure(self, *, starts: int = STARTS, requests: int = REQUESTS) -> Samples:
        """Return what the daemon adds to starting a handler, in L4, and its handlers a second, in those of L4."""
        with self.daemon(), RawClient(self._url) as client:
            added, spawn = self._added(client, starts)
            rate = self._rate(client, requests)
        two_cores = limits.spawns_per_second()
        return {
            "handler_start": [added / spawn],
            "handler_rate": [rate / two_cores],
            "handler_added_ms": [added * 1000],
            "handlers_per_second": [rate],
            "commit_ms": [limits.commit_seconds(self.hooks) * 1000],
            "L4_ms": [spawn * 1000],
            "L4_per_second_two_cores": [two_cores],
        }

    def daemon(self) -> AbstractContextManager[Daemon]:
        """Start the daemon, for a `with` block."""
        return daemon.running(self._config, hooks=self.hooks)

    def steady(self, *, seconds: float, per_second: int) -> tuple[list[float], int]:
        """Send requests for `true` at a steady pace; return the seconds that each reply took, and how many failed.

        It ends early at one that is not answered within REPLY_SECONDS.
        """
        taken, failed = [], 0
        begin = time.monotonic()
        with RawClient(self._url, timeout=REPLY_SECONDS) as client, suppress(TimeoutError):
            for number in range(round(seconds * per_second)):
                time.sleep(max(0.0, begin + number / per_second - time.monotonic()))
                sent = time.monotonic()
                failed += 1  # until it is answered
                if self._ask(client, "true")[0] == b"0":
                    taken.append(time.monotonic() - sent)
                    failed -= 1
        return taken, failed

    def _ask(self, client: RawClient, verb: str) -> tuple[bytes, bytes, float]:
        """Send a request; return the exit code and output of its reply, and when it was sent (Unix seconds)."""
        message = site.sign(self._sender, verb, wants_reply=True)
        client.subscribe(site.reply_subject(message))
        packed = pack(SUBJECT, [message])
        sent = time.time()
        client.send(packed)
        code, _, output = wire.decode(client.receive().data).payload.partition(b",")
        return code, output, sent

    def _added(self, client: RawClient, starts: int) -> tuple[float, float]:
        """Return how much later a handler runs than one that is started directly, and L4, in seconds.

        Each is measured after a pause: a processor that was idle takes twice as long for the same.
        """
        client.subscribe("bench.hop")
        taken: dict[str, list[float]] = {name: [] for name in ("message", "direct", "hop", "spawn")}
        ways = {"message": self._by_message, "direct": self._directly, "hop": _hop, "spawn": _spawn}
        for _ in range(starts):
            for name, measure in ways.items():
                time.sleep(IDLE_SECONDS)
                taken[name].append(measure(client))
        median = {name: statistics.median(values) for name, values in taken.items()}
        # The row begins when the message arrives: what the broker takes to bring it is not the daemon's.
        return median["message"] - median["hop"] - median["direct"], median["spawn"]

    def _by_message(self, client: RawClient) -> float:
        code, output, sent = self._ask(client, "clock")
        if code != b"0":
            raise RuntimeError(f"the handler failed: {output.decode()}")
        return float(output) - sent

    def _directly(self, _client: RawClient) -> float:
        words = [str(self._clock), "clock", ""]
        reader, writer = os.pipe()
        begin = time.time()
        pid = os.posix_spawn(words[0], words, {}, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
        os.close(writer)
        with os.fdopen(reader) as pipe:
            told = float(pipe.read())
        os.waitpid(pid, 0)
        return told - begin

    def _rate(self, client: RawClient, requests: int) -> float:
        messages = [site.sign(self._sender, "true", wants_reply=True) for _ in range(requests)]
        client.subscribe(*map(site.reply_subject, messages))
        packed = pack(SUBJECT, messages)
        begin = time.perf_counter()
        client.send(packed)
        codes = {wire.decode(client.receive().data).payload.partition(b",")[0] for _ in range(requests)}
        taken = time.perf_counter() - begin
        if codes != {b"0"}:
            raise RuntimeError(f"not all handlers ran: exit codes {codes}")
        return requests / taken


def _spawn(_client: RawClient) -> float:
    return limits.spawn_seconds(1)


def _hop(client: RawClient) -> float:
    begin = time.perf_counter()
    client.send(pack("bench.hop", [b"x" * 200]))
    client.receive()
    return time.perf_counter() - begin
