"""A burst is no loss: what arrives at once waits for a slow receiver, in the order of arrival, bounded in bytes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from contextlib import aclosing
from dataclasses import replace

import pytest

import remaphore
from remaphore.protocol import subject, wire
from remaphore.tasks import spawn
from tests.harness.factories import make_encoded, make_encoded_reply, make_key, make_message, make_peer
from tests.harness.fleet import bus_of
from tests.harness.nodes import make_config
from tests.harness.processes import children, peak_mib
from tests.harness.waiting import until

COUNT = 5_000
LAST = b"the last"  # the id of the last message of a burst


def burst(*, count=COUNT, wants_reply=False):
    """Return *count* messages of 400 bytes from node one, each with its number as its verb, signed now."""
    now, key, size = time.time_ns(), make_key(1), 0
    raws = []
    for number in range(count):
        message = make_message(
            verb=f"v{number}",
            uuid=LAST if number == count - 1 else b"%d" % number,
            time_ns=now + number,
            wants_reply=wants_reply,
            payload=b"x" * (400 - size),
        )
        size = size or len(wire.encode(message, key)) - len(message.payload)
        raws.append(wire.encode(message, key))
    return raws


async def publish(fleet, raws):
    async with bus_of(fleet) as bus:
        await asyncio.gather(*(bus.publish("remaphore.all", raw) for raw in raws))


def accepted(process):
    """Return the verbs of the messages that a receiver has logged as received."""
    return [found[1] for line in process.lines if (found := re.search(r" message_received .*\bverb=(\S+)", line))]


def lost(process):
    return [line for line in process.lines if " message_dropped " in line or " message_rejected " in line]


async def accept(process, count):
    """Return the verbs of *count* messages, in order, once a receiver has logged that many, or lost one."""

    def done():
        return sum(" message_received " in line for line in process.lines) >= count or lost(process)

    await until(done, limit=120)
    assert lost(process) == []
    return accepted(process)


async def test_of_5000_messages_at_once_a_receiver_accepts_5000_also_while_it_is_stopped(fleet, nodes):
    node = nodes["two"]
    with_a_slow_script = fleet.start("receive", "-c", node, "sh", "-c", "exec sleep 300")
    staying = [with_a_slow_script, fleet.start("receive", "-c", node)]
    waiters = [fleet.start("-c", node, "-u", LAST.decode()), fleet.start("-c", node, "-o")]
    for stopped in (False, True):
        raws = burst()
        wanted = [wire.decode(raw).verb for raw in raws]
        for process in staying if stopped else ():
            process.popen.send_signal(signal.SIGSTOP)
        await publish(fleet, raws)
        for process in staying if stopped else ():
            process.popen.send_signal(signal.SIGCONT)
        for process in staying:
            before = COUNT if stopped else 0
            assert (await accept(process, before + COUNT))[before:] == wanted
    for process in waiters:
        assert await asyncio.to_thread(process.finish) == (0, "")


@pytest.mark.long
@pytest.mark.parametrize("number", [None, signal.SIGKILL, signal.SIGSTOP])
async def test_of_5000_requests_at_once_each_is_answered_whatever_becomes_of_the_verifying_processes(
    fleet, nodes, number
):
    receiver = fleet.start("receive", "-c", nodes["two"])
    answered = set()
    async with bus_of(fleet) as bus:
        await bus.subscribe("remaphore.>", lambda raw: answered.add(wire.decode(raw).uuid))
        raws = burst(wants_reply=True)
        await asyncio.gather(*(bus.publish("remaphore.all", raw) for raw in raws))
        if number is not None:
            await until(lambda: children(receiver.popen.pid))
            for pid in children(receiver.popen.pid):
                os.kill(pid, number)
        wanted = {wire.digest(raw)[:12] for raw in raws}
        await until(lambda: wanted <= answered, limit=120)
    assert lost(receiver) == []


@pytest.mark.parametrize("size", [COUNT, pytest.param(50_000, marks=pytest.mark.long)])
async def test_a_program_that_takes_none_of_a_burst_before_its_end_gets_all_of_it(fleet, nodes, size):
    drops = []
    async with remaphore.connect(nodes["two"]) as node:
        receiving = node.receive(on_drop=drops.append)
        async with aclosing(receiving):
            first = spawn(anext(receiving), name="first")
            await until(lambda: any(each.done.done() for each in node.bus._subscriptions))
            raws = burst(count=size)
            await publish(fleet, raws)
            async with asyncio.timeout(120):
                got = [(await first).digest, *[(await anext(receiving)).digest for _ in raws[1:]]]
    assert (got, drops) == ([wire.digest(raw) for raw in raws], [])


@pytest.mark.long
async def test_of_10000_replies_at_once_a_requester_gets_10000(server):
    numbers = range(10, 10_010)
    peers = tuple(make_peer(number, f"com.p{number}") for number in numbers)
    config = replace(make_config(1, peers=peers), servers=(server.url,))
    async with remaphore.connect(config) as node, remaphore.connect(config) as others:
        async with node.request("ping", to="**", timeout=300) as request:
            where = subject.for_replies("remaphore", request.message.digest)
            now = time.time_ns()
            raws = [make_encoded_reply(number, request.message, time_ns=now) for number in numbers]
            await asyncio.gather(*(others.bus.publish(where, raw) for raw in raws))
            got = [reply.peer async for reply in request]
        assert got == [f"com.p{number}" for number in numbers]
        assert request.summary().missing == ()


@pytest.mark.long
async def test_a_receiver_keeps_60000_messages_without_a_payload(fleet, nodes):
    receiver = fleet.start("receive", "-c", nodes["two"], "sh", "-c", "exec sleep 300")
    now = time.time_ns()
    raws = [make_encoded(1, verb="v", time_ns=now + number) for number in range(60_000)]
    await publish(fleet, raws)
    assert len(await accept(receiver, len(raws))) == len(raws)
    assert peak_mib(receiver.popen.pid) < 256
