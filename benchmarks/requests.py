"""Rows of the requesting side: `remaphore -r`, the real command, with 1,000 responders in another process."""

from __future__ import annotations

import multiprocessing
import os
import select
import subprocess
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Event
from pathlib import Path

from benchmarks import limits, site
from benchmarks.daemon import COMMAND, cpu_seconds
from benchmarks.raw import RawClient, pack
from benchmarks.report import Samples
from benchmarks.site import SUBJECT, Node
from remaphore.protocol import subject, wire
from remaphore.protocol.match import matches
from remaphore.protocol.message import REPLY_VERB, Message, Reply, reply_uuid

RESPONDERS = 1_000
FIRST_SECONDS = 10.0  # for the first reply to be shown while the others are held back
_FORK = multiprocessing.get_context("fork")  # keys are not pickled


class Requester:
    """A requester that knows *responders* peers, whose replies a process of ours makes."""

    def __init__(self, folder: Path, url: str, responders: int = RESPONDERS) -> None:
        self._url = url
        self._nodes = site.nodes(responders)
        own = Node(site.TARGET, site.nodes(1)[0].key)
        self._config = site.write_config(folder, own, self._nodes, url=url, name="requester")

    def measure(self) -> Samples:
        """Ask one, then all; return the CPU of each further reply times L1, and whether the first was shown at once."""
        before = limits.verifications()
        one, _ = self._ask(self._nodes[0].destination, expected=1)
        every, shown = self._ask("com.bench.*", expected=len(self._nodes))
        after = limits.verifications()
        each = (every - one) / (len(self._nodes) - 1)
        return {
            "requester_cpu": [each * limits.Speed.between(before, after).per_cpu_second],
            "requester_first": [float(shown)],
            "requester_us": [each * 1e6],
        }

    def _ask(self, pattern: str, *, expected: int) -> tuple[float, bool]:
        """Return the requester's CPU seconds after its first reply, and whether it showed that before others came.

        Its start takes several times as long as all replies, and differs by half of them from one to the next.
        """
        listening, rest = _FORK.Event(), _FORK.Event()
        responders = _FORK.Process(target=respond, args=(self._url, self._nodes, listening, rest))
        responders.start()
        try:
            if not listening.wait(FIRST_SECONDS):
                raise TimeoutError("the responders do not listen")
            words = [COMMAND, "-r", "-c", str(self._config), "-t", "60s", "-v", "note", "-D", pattern, "hello"]
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            assert process.stdout is not None
            shown = bool(select.select([process.stdout], [], [], FIRST_SECONDS)[0])
            start = cpu_seconds(process.pid)
            rest.set()
            lines = process.stdout.read().splitlines()
            process.stdout.close()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            responders.terminate()
            responders.join()
        if len(lines) != expected or process.returncode:
            raise RuntimeError(f"remaphore -r: exit {process.returncode}, {len(lines)} of {expected} replies")
        return usage.ru_utime + usage.ru_stime - start, shown


def respond(url: str, nodes: Sequence[Node], listening: Event, rest: Event) -> None:
    """Answer one request as all of *nodes* that it addresses would: the first at once, the others after *rest*."""
    with RawClient(url) as client:
        client.subscribe(SUBJECT)
        listening.set()
        request = wire.decode(client.receive().data).message()
        where = subject.for_replies(site.ROOT, request.digest)
        first, *others = (node for node in nodes if matches(node.destination, request.destination))
        client.send(pack(where, [_reply(first, request)]))
        packed = pack(where, [_reply(node, request) for node in others])
        rest.wait()
        client.send(packed)
        client.confirm()


def _reply(node: Node, request: Message) -> bytes:
    message = Message(
        sender=node.key.public,
        destination="",
        verb=REPLY_VERB,
        uuid=reply_uuid(request.digest),
        time_ns=time.time_ns(),
        payload=Reply(0, b"done\n").payload,
    )
    return wire.encode(message, node.key)
