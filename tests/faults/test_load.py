"""More arrives than can be done: nothing falls over, and every message is accounted for."""

from __future__ import annotations

import asyncio
import signal
import time
from itertools import cycle, islice
from pathlib import Path

import pytest

from remaphore.node import Node
from remaphore.tasks import spawn
from remaphore.transport import nats_client, nats_connection
from tests.faults.conftest import MakeSite
from tests.faults.fault_site import DAEMON, ask, meet, metrics
from tests.harness.factories import make_key
from tests.harness.metrics import total
from tests.harness.nats_server import NatsServer, connected, running
from tests.harness.processes import Process
from tests.harness.waiting import until

SUBJECT = "remaphore.all"
AT_A_TIME = 500  # messages that wait for the broker's confirmation: the flood is as fast as it can be
ALL = ("remaphore_messages_dropped_total", "remaphore_messages_rejected_total", "remaphore_messages_handled_total")


def flood(node: Node, count: int) -> list[bytes]:
    """Return messages of four kinds: permitted, for others, of an unknown key, and garbage."""
    ours = [node._signer.compose("flood", to=DAEMON, payload=b"%d" % number).raw for number in range(count // 4)]
    others = [node._signer.compose("flood", to="com.other", payload=b"%d" % number).raw for number in range(count // 4)]
    known, unknown = make_key(1).public.encode(), make_key(9).public.encode()
    strangers = [raw.replace(known, unknown, 1) for raw in ours]
    garbage = list(islice(cycle([b"", b"\x00" * 400, b"," * 8, b"no message"]), count // 4))
    return [raw for batch in zip(ours, others, strangers, garbage, strict=True) for raw in batch]


async def publish_all(node: Node, messages: list[bytes]) -> None:
    """Publish all of *messages*, in order."""
    for first in range(0, len(messages), AT_A_TIME):
        await asyncio.gather(*(node.bus.publish(SUBJECT, raw) for raw in messages[first : first + AT_A_TIME]))


async def settled(daemon: Process, received: int) -> dict[tuple[str, ...], float]:
    """Return the metrics once *received* messages have come in, and each is in its place."""
    deadline = time.monotonic() + 120
    while True:
        now = await metrics(daemon)
        if now["remaphore_messages_received_total",] >= received and total(now, *ALL) >= received:
            return now
        assert time.monotonic() < deadline, now
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("count", [8_000, pytest.param(200_000, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
async def test_requests_are_served_during_a_flood_and_every_message_is_accounted_for(
    count: int, server: NatsServer, sites: MakeSite
) -> None:
    site = sites(server.url)
    site.handler("flood", "true")
    site.skew = "10m"  # what was signed before it is sent is still timely
    daemon = await site.daemon(site.counting("note"))
    async with site.requester() as node, site.requester() as asking:
        messages = flood(node, count)
        flooding = spawn(publish_all(node, messages), name="flooding")
        asked = 0
        while not flooding.done() or asked < 5:
            # It waits behind all of the flood that the broker has sent before it.
            assert await ask(asking, "note", f"n{asked}", timeout=120) == (0, ""), await metrics(daemon)
            asked += 1
        await flooding
        now = await settled(daemon, len(messages) + asked)
    assert now["remaphore_messages_received_total",] == len(messages) + asked == total(now, *ALL)
    quarter = count // 4
    assert now[ALL[0], "true", "unknown-sender"] == quarter
    assert now[ALL[0], "false", "malformed"] == quarter
    assert now[ALL[0], "false", "not-addressed"] == quarter
    assert now["remaphore_reconnects_total",] == 0
    assert site.started == {f"n{number}": 1 for number in range(asked)}


async def test_a_daemon_that_the_broker_drops_as_a_slow_consumer_comes_back(tmp_path: Path, sites: MakeSite) -> None:
    async with running(tmp_path / "server", 'max_pending: 1MB\nwrite_deadline: "1s"\n') as server:
        site = sites(server.url)
        daemon = await site.daemon(site.counting("note"))
        async with site.requester() as node:
            daemon.popen.send_signal(signal.SIGSTOP)
            try:
                async with connected(server) as bus:
                    while "Slow Consumer" not in server.log:
                        await asyncio.gather(*(bus.publish(SUBJECT, b"x" * 100_000) for _ in range(20)))
            finally:
                daemon.popen.send_signal(signal.SIGCONT)
            await meet(node, "note")
        assert (await metrics(daemon))["remaphore_reconnects_total",] == 1
        site.end()


async def test_a_backlog_is_not_silence_however_long_it_takes(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_client, "CONFIRM_TIMEOUT", 1.5)
    monkeypatch.setattr(nats_connection, "PING_INTERVAL", 1.5)
    sent, got = [b"%04d" % number + b"x" * 1_000 for number in range(3_000)], list[bytes]()

    def slow(raw: bytes) -> None:
        got.append(raw)
        time.sleep(0.0015)  # 4.5 seconds for all of them

    async def publish_all_at_once() -> None:
        async with connected(server) as bus:
            await asyncio.gather(*(bus.publish(SUBJECT, raw) for raw in sent))

    async with connected(server) as receiving:
        await receiving.subscribe(SUBJECT, slow)
        await asyncio.to_thread(asyncio.run, publish_all_at_once())  # the loop here has enough to do
        await receiving.publish("elsewhere", b"x")  # its confirmation stands in line behind them, as does each PONG
        await until(lambda: len(got) == len(sent))
        assert got == sent
        assert receiving.reconnects == 0


async def test_a_receiver_that_is_slower_than_what_arrives_loses_nothing_of_it(server: NatsServer) -> None:
    got: list[bytes] = []

    def slow(raw: bytes) -> None:
        got.append(raw)
        sum(range(2_000))  # some 20 microseconds of work

    async with connected(server) as receiving, connected(server) as bus:
        await receiving.subscribe(SUBJECT, slow)
        sent = [b"%06d" % number + b"x" * 1_000 for number in range(20_000)]
        for first in range(0, len(sent), AT_A_TIME):
            await asyncio.gather(*(bus.publish(SUBJECT, raw) for raw in sent[first : first + AT_A_TIME]))
        await until(lambda: len(got) == len(sent))
        assert got == sent
        assert receiving.reconnects == 0
