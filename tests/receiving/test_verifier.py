"""Signatures are verified in batches and threads, in the order of arrival; what waits is bounded and shared fairly."""

import asyncio
import threading

import pytest

from remaphore.protocol import wire
from remaphore.receiving import verifier as module
from remaphore.receiving.verifier import Arrival, Verifier
from tests.harness.factories import NOW, make_encoded, make_gate

GATE = make_gate()


def arrival(number=1, *, good=True, **fields):
    raw = make_encoded(number, **fields)
    return Arrival(GATE, wire.decode(raw if good else raw[:-1] + b"?"), NOW)


@pytest.fixture
def settled():
    return []


@pytest.fixture
async def verifier(settled):
    own = Verifier(lambda arrived, verified: settled.append((arrived.frame.payload, verified)))
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


async def test_many_are_verified_in_threads_and_few_in_the_loop(verifier, settled, monkeypatch):
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _pid: {0, 1})
    own = Verifier(lambda arrived, verified: settled.append(verified))
    seen = set()

    def noted(frame, verify=wire.verify):
        seen.add(threading.get_ident() == threading.main_thread().ident)
        return verify(frame)

    monkeypatch.setattr(wire, "verify", noted)
    assert own.put(arrival(payload=b"alone"))
    await own.join()
    assert seen == {True}
    seen.clear()
    for number in range(200):
        own.put(arrival(payload=b"%d" % number))
    await own.join()
    own.close()
    assert seen == {False}
    assert settled == [True] * 201


async def test_on_one_processor_there_are_no_threads(settled, monkeypatch):
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _pid: {0})
    before = threading.active_count()
    own = Verifier(lambda arrived, verified: settled.append(verified))
    for number in range(200):
        own.put(arrival(payload=b"%d" % number))
    await own.join()
    assert settled == [True] * 200
    assert threading.active_count() == before
    own.close()


async def test_an_exception_costs_its_own_message_and_keeps_the_order_of_the_others(verifier, settled, monkeypatch):
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
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _pid: set(range(processors)))
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context["exception"]))

    def failing(frame):
        raise error("broken on purpose")

    monkeypatch.setattr(wire, "verify", failing)
    own = Verifier(lambda arrived, verified: settled.append(verified))
    for number in range(200):
        own.put(arrival(payload=b"%d" % number))
    await own.join()
    own.close()
    assert settled == [False] * 200
    assert [type(each) for each in reported] == [error] * (min(count, 1) if processors == 1 else count)


async def test_a_batch_that_is_broken_in_the_loop_is_reported_and_keeps_no_other_waiting(settled, monkeypatch):
    def failing(batch, check=module.check):
        if batch[0].frame.payload == b"0":
            raise RuntimeError("broken on purpose")
        return check(batch)

    class NoThread:
        def submit(self, *_call):
            raise RuntimeError("can't start new thread")

        def shutdown(self):
            pass

    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
    monkeypatch.setattr(module, "check", failing)
    for threads, number in ((None, 1), (NoThread(), 200)):
        own = Verifier(lambda arrived, verified: settled.append((arrived.frame.payload, verified)))
        own.close()
        own._threads = threads
        for at in range(number):
            own.put(arrival(payload=b"%d" % at))
        async with asyncio.timeout(20):
            await own.join()
        own.put(arrival(payload=b"behind"))
        await own.join()
        batch = min(number, module.BATCH)
        assert settled == [(b"%d" % at, at >= batch) for at in range(number)] + [(b"behind", True)]
        settled.clear()
    assert [str(error) for error in reported] == ["broken on purpose"] * 2


async def test_a_batch_that_no_thread_can_verify_keeps_no_other_waiting(settled, monkeypatch):
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _pid: {0, 1})
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context["exception"]))

    def failing(batch, check=module.check):
        if batch[0].frame.payload == b"0":
            raise RuntimeError("broken on purpose")
        return check(batch)

    monkeypatch.setattr(module, "check", failing)
    own = Verifier(lambda arrived, verified: settled.append((arrived.frame.payload, verified)))
    for number in range(200):
        own.put(arrival(payload=b"%d" % number))
    async with asyncio.timeout(20):
        await own.join()
    own.close()
    assert settled == [(b"%d" % number, number >= module.BATCH) for number in range(200)]
    assert [str(error) for error in reported] == ["broken on purpose"]
    assert own.waiting == 0


async def test_a_flood_under_the_name_of_one_peer_does_not_block_the_others(verifier, settled, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES_PER_KEY", 5_000)
    flood = [verifier.put(arrival(1, good=False, payload=b"x" * 1_000)) for _ in range(100)]
    assert sum(flood) < 5
    assert verifier.put(arrival(2, payload=b"mine"))
    await verifier.join()
    assert (b"mine", True) in settled
    assert verifier.put(arrival(1, payload=b"later"))  # what is checked makes room again


async def test_what_waits_in_all_is_bounded(verifier, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 20_000)
    accepted = [verifier.put(arrival(number % 20, payload=b"x" * 1_000)) for number in range(200)]
    assert 10 < sum(accepted) < 20
    await verifier.join()
    assert verifier.waiting == 0
