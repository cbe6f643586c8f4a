"""What can happen to the daemon's own process: it is stopped, has no descriptors or no memory; and it leaks nothing."""

from __future__ import annotations

import asyncio
import errno
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from remaphore.node import Node
from remaphore.protocol import wire
from remaphore.receiving.batches import Arrival
from remaphore.receiving.systemd import Notifier
from remaphore.receiving.verifier import Verifier
from remaphore.tasks import spawn
from remaphore.transport.dialer import Dialer, Prepare
from remaphore.transport.nats_connection import Connection
from remaphore.transport.servers import Failure
from tests.faults.conftest import MakeSite
from tests.faults.fault_site import ask, asked, meet, said
from tests.harness.factories import NOW, make_encoded, make_gate
from tests.harness.nats_server import NatsServer, connected
from tests.harness.processes import Process, child_states, descriptors, threads
from tests.harness.verifying import for_each
from tests.harness.waiting import until

WINDOW = 3  # seconds


@contextmanager
def limited(daemon: Process, which: int, soft: int) -> Iterator[None]:
    """A block in which a limit of a running daemon is lower."""
    before, hard = resource.prlimit(daemon.popen.pid, which)
    resource.prlimit(daemon.popen.pid, which, (soft, hard))
    try:
        yield
    finally:
        resource.prlimit(daemon.popen.pid, which, (before, hard))


async def test_what_was_sent_to_a_process_that_was_stopped_past_the_window_is_refused_and_not_run(
    server: NatsServer, sites: MakeSite
) -> None:
    site = sites(server.url)
    site.skew = f"{WINDOW}s"
    daemon = await site.daemon(site.counting("note"))
    async with site.requester() as node:
        sent: list[bytes] = []
        await node.bus.subscribe("remaphore.all", sent.append)
        await meet(node, "note")
        before = site.started
        sent.clear()
        daemon.popen.send_signal(signal.SIGSTOP)
        try:
            asking = [spawn(ask(node, "note", f"late{number}", timeout=20), name="late") for number in range(3)]
            await until(lambda: len(sent) == 3)
            await asyncio.sleep(WINDOW + 0.1)
        finally:
            daemon.popen.send_signal(signal.SIGCONT)
        for answer in await asyncio.gather(*asking):
            assert answer is not None
            assert answer[0] == 77
            assert "outside-window" in answer[1]
        assert await ask(node, "note", "after") == (0, "")
    assert site.started - before == {"after": 1}


async def test_a_daemon_without_descriptors_says_so_starts_nothing_and_recovers(
    server: NatsServer, sites: MakeSite
) -> None:
    site = sites(server.url)
    daemon = await site.daemon(site.counting("note"))
    async with site.requester() as node:
        await meet(node, "note")
        before = site.started
        with limited(daemon, resource.RLIMIT_NOFILE, 3):  # nothing can be opened any more
            answer = await ask(node, "note", "starved")
            assert answer is not None
            assert answer[0] in {-1, 126}  # it cannot be started, or not even be judged
            server.kill()
            await server.start()
            (line,) = await said(daemon, "no broker yet")
            assert "too many open files" in line.lower()
        await said(daemon, "connected to")
        await until(lambda: node.bus.connected)
        assert await ask(node, "note", "after") == (0, "")
    assert site.started - before == {"after": 1}


async def test_a_daemon_without_memory_comes_back_when_there_is_some(server: NatsServer, sites: MakeSite) -> None:
    site = sites(server.url)
    daemon = await site.daemon('[verbs.note]\npayload = "stdin"\n')
    site.handler("note", "wc -c")
    async with site.requester() as node:
        await meet(node, "note")
        with limited(daemon, resource.RLIMIT_AS, virtual(daemon.popen.pid)):
            assert [await asked(node, "note", "x" * 900_000, timeout=1) for _ in range(2)] == ["lost", "lost"]
            await server.restart()
            await said(daemon, "MemoryError")
        await meet(node, "note")
        assert await ask(node, "note", "x" * 900_000) == (0, "900000\n")
    assert daemon.stop()[0] == 0


async def test_a_daemon_without_memory_to_continue_a_task_ends_with_an_error_and_its_successor_continues(
    server: NatsServer, sites: MakeSite
) -> None:
    site = sites(server.url)
    table = site.counting("note", '[ "$2" != long ] || exec sleep 3600')
    daemon = await site.daemon(table)
    async with site.requester() as node:
        await meet(node, "note")
        before = site.started
        asking = spawn(ask(node, "note", "long", timeout=60), name="long")
        await until(lambda: site.started["long"] == 1)
        daemon.popen.send_signal(signal.SIGUSR2)
        assert daemon.finish()[0] == 3
        assert any("error: cannot allocate memory" in line for line in daemon.lines)
        assert any("hint: free some memory" in line for line in daemon.lines)
        await site.daemon(table)
        assert await ask(node, "note", "after") == (0, "")
        await until(lambda: site.started - before == {"long": 1, "after": 1})
        asking.cancel()


async def test_a_connection_that_could_not_be_made_for_want_of_memory_is_tried_again(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[bytes] = []
    original = Dialer.round
    failures = [MemoryError(), OSError(errno.EMFILE, "too many open files")]

    async def starved(self: Dialer, prepare: Prepare, causes: dict[str, Failure]) -> Connection | None:
        if failures:
            raise failures.pop()
        return await original(self, prepare, causes)

    async with connected(server) as bus:
        await bus.subscribe("remaphore.all", got.append)
        monkeypatch.setattr(Dialer, "round", starved)
        await server.restart()
        await bus.publish("remaphore.all", b"x")
        await until(lambda: got == [b"x"])
        assert failures == []


async def test_signatures_that_cannot_be_checked_for_lack_of_memory_are_dropped_and_block_no_peer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, raw = make_gate(), make_encoded(payload=b"x" * 100_000)
    settled: list[bool] = []
    verifier = Verifier(for_each(lambda _arrival, verified: settled.append(verified)))
    verify = wire.verify
    for number in range(200):  # in all, more than may wait
        monkeypatch.setattr(wire, "verify", verify if number == 199 else _no_memory)
        assert verifier.put(Arrival(gate, wire.decode(raw), NOW))
        await verifier.join()
    verifier.close()
    assert settled == [False] * 199 + [True]
    assert verifier.waiting == 0


def _no_memory(_frame: wire.Frame) -> bool:
    raise MemoryError


def virtual(pid: int) -> int:
    """Return the size of a process's address space in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def test_a_service_manager_that_does_not_listen_holds_nothing_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(1000):  # many more than its queue holds
            notifier.alive()
        notifier.status("away")
        notifier.stopping()  # all of it returns
        notifier.close()
        manager.setblocking(False)
        assert manager.recv(100) == b"WATCHDOG=1"


async def counts(daemon: Process) -> tuple[int, int, list[str], int]:
    """Return how many descriptors, threads and tasks a daemon has, and the state of its children."""
    pid = daemon.popen.pid
    before = sum(line.startswith("tasks ") for line in daemon.lines)
    daemon.popen.send_signal(signal.SIGUSR1)
    tasks = await said(daemon, "tasks ", times=before + 1)
    return descriptors(pid), threads(pid), child_states(pid), int(tasks[-1].split()[1])


async def at_rest(daemon: Process) -> tuple[int, int, list[str], int]:
    """Return these counts once they do not change any more."""
    before = await counts(daemon)
    async with asyncio.timeout(20):
        while True:
            await asyncio.sleep(0.2)
            after = await counts(daemon)
            if after == before:
                return after
            before = after


async def run_handlers(node: Node, first: int, number: int) -> None:
    """Let the handler run *number* times, eight at a time."""
    slots = asyncio.Semaphore(8)

    async def one(payload: str) -> None:
        async with slots:
            assert await ask(node, "note", payload, timeout=30) == (0, "")

    await asyncio.gather(*(one(f"n{count}") for count in range(first, first + number)))


@pytest.mark.parametrize("runs", [300, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
async def test_handlers_leave_no_descriptor_task_thread_or_zombie(
    runs: int, server: NatsServer, sites: MakeSite
) -> None:
    site = sites(server.url)
    daemon = await site.daemon(site.counting("note", concurrency=8))
    async with site.requester() as node:
        await run_handlers(node, 0, 60)  # pools of threads have grown to what they will be
        before = await at_rest(daemon)
        await run_handlers(node, 60, runs)
        assert await at_rest(daemon) == before
    assert before[2] == []
    assert site.started == {f"n{count}": 1 for count in range(60 + runs)}
