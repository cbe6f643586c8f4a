"""Signatures are verified in batches, in the order of arrival; what waits is bounded and shared fairly."""

import asyncio
import os
import sys
import tracemalloc

import pytest

from remaphore.protocol import wire
from remaphore.receiving import batches
from remaphore.receiving import verifier as module
from remaphore.receiving.batches import Arrival
from remaphore.receiving.verifier import Verifier
from remaphore.receiving.verifying_processes import VerifyingProcess, VerifyingProcesses
from tests.harness.factories import NOW, make_encoded, make_gate
from tests.harness.processes import own_children
from tests.harness.verifying import for_each

GATE = make_gate()


def arrival(number=1, *, good=True, **fields):
    raw = make_encoded(number, **fields)
    return Arrival(GATE, wire.decode(raw if good else raw[:-1] + b"?"), NOW)


@pytest.fixture
def settled():
    return []


@pytest.fixture
async def verifier(settled):
    own = Verifier(for_each(lambda arrived, verified: settled.append((arrived.frame.payload, verified))))
    yield own
    await own.join()
    own.close()


async def test_results_come_in_the_order_of_arrival_however_long_each_takes(verifier, settled):
    sizes = [200_000 if number % 40 == 0 else 1 for number in range(400)]
    expected = []
    for number, size in enumerate(sizes):
        payload = b"%d " % number + b"x" * size
        good = number % 3 != 0
        expected.append((payload if good else payload[:-1] + b"?", good))
        assert verifier.put(arrival(payload=payload, good=good))
    await verifier.join()
    assert settled == expected
    assert verifier.waiting == 0


@pytest.mark.parametrize("processors", [1, 2])
async def test_few_are_verified_in_the_loop_and_many_in_processes_if_there_are_processors(
    settled, monkeypatch, processors
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(processors)))
    before = own_children()  # such as a broker that all tests share
    own = Verifier(for_each(lambda arrived, verified: settled.append(verified)))
    here = []

    def noted(frame, verify=wire.verify):
        here.append(frame.payload)
        return verify(frame)

    monkeypatch.setattr(wire, "verify", noted)
    for number in range(module.WORTH_A_PROCESS - 1):
        assert own.put(arrival(payload=b"few %d" % number))
    await own.join()
    assert len(here) == len(settled) == module.WORTH_A_PROCESS - 1
    assert not own_children() - before
    for number in range(200):
        own.put(arrival(payload=b"%d" % number))
    await own.join()
    assert len(here) == (module.WORTH_A_PROCESS - 1 if processors == 2 else len(settled))
    assert len(own_children() - before) == (2 if processors == 2 else 0)
    assert settled == [True] * (200 + module.WORTH_A_PROCESS - 1)
    own.close()
    assert not own_children() - before


async def test_a_turn_of_the_loop_is_short_without_processes(settled, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0})
    monkeypatch.setattr(module, "TURN_SECONDS", 0)  # a batch
    own = Verifier(for_each(lambda arrived, verified: settled.append(verified)))
    for number in range(200):
        own.put(arrival(payload=b"%d" % number))
    seen = []
    while own.waiting:
        await asyncio.sleep(0)
        seen.append(len(settled))
    assert len(seen) > 1
    assert settled == [True] * 200


async def test_an_exception_costs_its_own_message_and_keeps_the_order_of_the_others(verifier, settled, monkeypatch):
    monkeypatch.setattr(sys, "executable", "")  # there are no processes

    def failing(frame, verify=wire.verify):
        if frame.payload == b"7":
            raise MemoryError if settled else RuntimeError("broken on purpose")
        return verify(frame)

    monkeypatch.setattr(wire, "verify", failing)
    for count in (1, 200):
        for number in range(200):
            if number < count or number == 7:
                verifier.put(arrival(payload=b"%d" % number))
        await verifier.join()
        numbers = [number for number in range(200) if number < count or number == 7]
        assert settled == [(b"%d" % number, number != 7) for number in numbers]
        assert verifier.waiting == 0
        settled.clear()


@pytest.mark.parametrize("processors", [1, 2])
@pytest.mark.parametrize(("error", "count"), [(MemoryError, 0), (RuntimeError, 4)])
async def test_an_error_that_was_not_expected_is_reported_once_a_batch(settled, monkeypatch, processors, error, count):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(processors)))
    monkeypatch.setattr(sys, "executable", "")  # there are no processes
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context["exception"]))

    def failing(frame):
        raise error("broken on purpose")

    monkeypatch.setattr(wire, "verify", failing)
    own = Verifier(for_each(lambda arrived, verified: settled.append(verified)))
    for number in range(200):
        own.put(arrival(payload=b"%d" % number))
    await own.join()
    own.close()
    assert settled == [False] * 200
    assert [type(each) for each in reported] == [error] * count


@pytest.mark.parametrize("where", ["the loop", "a process that is lost", "a process that cannot be asked"])
async def test_no_memory_for_the_results_of_a_batch_keeps_nothing_behind_it_waiting(settled, monkeypatch, where):
    def no_memory(results):
        if not asked:
            asked.append(results)
            raise MemoryError
        return bytearray(results)

    asked = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(1 if where == "the loop" else 2)))
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    monkeypatch.setattr(batches, "bytearray", no_memory, raising=False)
    if where != "the loop":
        step = "transfer" if where == "a process that is lost" else "send"
        monkeypatch.setattr(VerifyingProcess, step, lambda *_: (_ for _ in ()).throw(OSError("broken on purpose")))
    own = Verifier(for_each(lambda arrived, verified: settled.append(verified)))
    for number in range(256):
        own.put(arrival(payload=b"%d" % number))
    async with asyncio.timeout(20):
        await own.join()
    own.close()
    assert (settled.count(False), settled.count(True)) == (64, 192)


async def test_what_is_broken_in_the_loop_is_reported_and_keeps_no_message_waiting(settled, monkeypatch):
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context["exception"]))

    def failing(*_arguments):
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(VerifyingProcesses, "feed", failing)
    own = Verifier(for_each(lambda arrived, verified: settled.append(arrived.frame.payload)))
    for number in range(200):
        own.put(arrival(payload=b"%d" % number))
    async with asyncio.timeout(20):
        await own.join()
    own.close()
    assert settled == [b"%d" % number for number in range(200)]
    assert {str(error) for error in reported} == {"broken on purpose"}


async def test_a_flood_under_the_name_of_one_peer_does_not_block_the_others(verifier, settled, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES_FORGED_KEY", 8_000)
    assert verifier.put(arrival(1, good=False, payload=b"first"))
    await verifier.join()
    flood = [verifier.put(arrival(1, good=False, payload=b"x" * 1_000)) for _ in range(100)]
    assert 2 < sum(flood) < 6
    assert verifier.put(arrival(2, payload=b"y" * 8_000))
    await verifier.join()
    assert (b"y" * 8_000, True) in settled
    assert verifier.put(arrival(1, payload=b"later"))  # what is checked makes room again
    await verifier.join()
    monkeypatch.setattr(module, "FORGED_SECONDS", 0)  # and the flood is over
    assert [verifier.put(arrival(1, payload=b"x" * 1_000)) for _ in range(20)] == [True] * 20
    assert verifier._forged == {}


async def test_one_sender_may_send_a_burst(verifier):
    burst = arrival(payload=b"x" * 200)
    accepted = [verifier.put(burst) for _ in range(50_000)]
    assert all(accepted[:30_000])
    assert verifier.put(arrival(2))
    verifier.close()  # none of them is verified
    assert verifier.waiting == 0


@pytest.mark.parametrize(("limit", "keys"), [("MAX_BYTES", 20), ("MAX_BYTES_PER_KEY", 1)])
async def test_what_waits_is_bounded_in_all_and_for_each_key(verifier, monkeypatch, limit, keys):
    monkeypatch.setattr(module, limit, 20 * (1_200 + module.OVERHEAD_BYTES))
    accepted = [verifier.put(arrival(number % keys, payload=b"x" * 1_000)) for number in range(100)]
    assert 19 <= sum(accepted) <= 21
    assert verifier.put(arrival(50)) == (limit == "MAX_BYTES_PER_KEY")
    await verifier.join()
    assert verifier.waiting == verifier._bytes == 0
    assert verifier._per_key == {}


def test_a_message_counts_for_the_memory_that_it_needs():
    tracemalloc.start()
    try:
        raws = [bytes(make_encoded(payload=b"x" * 200)) for _ in range(200)]
        before = tracemalloc.get_traced_memory()[0]
        arrivals = [Arrival(GATE, wire.decode(raw), NOW + number, bytes(32)) for number, raw in enumerate(raws)]
        held = (tracemalloc.get_traced_memory()[0] - before) / len(arrivals)
    finally:
        tracemalloc.stop()
    assert 0.7 * module.OVERHEAD_BYTES < held - 200 < module.OVERHEAD_BYTES
