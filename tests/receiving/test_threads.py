"""Threads are started beforehand, or their absence is an error with a hint: nothing waits for one that never starts."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from remaphore.errors import RemaphoreError
from remaphore.protocol.message import Reply
from remaphore.receiving import threads
from remaphore.receiving.ledger.ledger import Ledger
from remaphore.receiving.threads import CallThread, start_threads
from tests.harness.factories import make_message
from tests.harness.ledgers import make_ledger
from tests.harness.threads import threads_allowed


def test_all_threads_are_started_and_are_idle():
    with ThreadPoolExecutor(3) as executor:
        start_threads(executor, 3)
        with threads_allowed(0):
            assert list(executor.map(abs, range(-50, 0))) == list(range(50, 0, -1))


@pytest.mark.parametrize("allowed", [0, 1])
def test_a_machine_without_threads_is_an_error_that_names_the_limits(allowed):
    before = threading.active_count()
    executor = ThreadPoolExecutor(2)
    with threads_allowed(allowed), pytest.raises(RemaphoreError, match="cannot start a thread") as caught:
        start_threads(executor, 2)
    assert "TasksMax" in caught.value.hint
    executor.shutdown()  # returns: nothing waits in it
    assert threading.active_count() == before


def test_a_ledger_is_not_opened_without_its_thread(tmp_path):
    with threads_allowed(0), pytest.raises(RemaphoreError, match="cannot start a thread"):
        Ledger(tmp_path, allow_skew_ns=10**9, now=time.time_ns())


async def test_a_ledger_needs_no_other_thread_later(tmp_path):
    async with Ledger(tmp_path, allow_skew_ns=10**9, now=time.time_ns()) as ledger:
        with threads_allowed(0):
            await ledger.rejected(b"d" * 32)
    assert ledger.problem == "ledger is closed: the daemon is stopping"


@pytest.fixture
def thread():
    made = CallThread("calls")
    yield made
    made.close()


def fail():
    raise OSError("the disk fails")


async def test_calls_are_made_in_order_and_give_results_and_errors(thread):
    made = []
    calls = [thread.submit(call) for call in (lambda: made.append(1), fail, lambda: made.append(2), lambda: 3)]
    assert await calls[0].wait() is None
    with pytest.raises(OSError, match="the disk fails"):
        await calls[1].wait(alone=True)
    assert [await calls[3].wait(), made] == [3, [1, 2]]


async def test_a_call_that_is_closed_off_raises():
    thread = CallThread("calls")
    call = thread.submit(lambda: "before")
    thread.close()
    assert await call.wait() == "before"
    with pytest.raises(RuntimeError, match="ended"):
        thread.submit(int)


async def test_the_loop_waits_itself_for_a_quick_call_if_it_has_nothing_else_to_do(thread, monkeypatch):
    monkeypatch.setattr(threads, "BLOCKING_SECONDS", 20.0)
    turns = []
    asyncio.get_running_loop().call_soon(turns.append, "a turn of the loop")
    assert await thread.submit(lambda: 1).wait(alone=True) == 1
    assert turns == []


@pytest.mark.parametrize("why", ["it hangs", "others wait", "the last one was slow"])
async def test_the_loop_goes_on_while_a_call_takes_long(thread, monkeypatch, why):
    if why == "the last one was slow":
        await thread.submit(lambda: time.sleep(2 * threads.BLOCKING_SECONDS)).wait()
    go = threading.Event()
    call = thread.submit(lambda: go.wait(10))
    if why != "it hangs":
        monkeypatch.setattr(threads, "BLOCKING_SECONDS", 20.0)
    asyncio.get_running_loop().call_soon(go.set)
    assert await call.wait(alone=why != "others wait"), "the loop waited for a call that waited for the loop"


def accept(ledger, message):
    ledger.accepted(
        message.sender,
        message.digest,
        digest=message.digest,
        time_ns=message.time_ns,
        verb=message.verb,
        wants_reply=message.wants_reply,
        uuid=message.uuid,
    )


async def test_only_the_write_of_the_only_message_is_waited_for(tmp_path, monkeypatch):
    waits, wait = [], threads.Call.wait

    def noted(self, *, alone=False):
        waits.append(alone)
        return wait(self, alone=alone)

    monkeypatch.setattr(threads.Call, "wait", noted)
    async with make_ledger(tmp_path) as ledger:
        first, second, third = (make_message(payload=payload, digest=payload * 32) for payload in (b"1", b"2", b"3"))
        accept(ledger, first)
        accept(ledger, second)
        await asyncio.gather(ledger.started(first), ledger.started(second))
        await ledger.done(first.digest, Reply(0))
        await ledger.done(second.digest, Reply(0))
        accept(ledger, third)
        await ledger.started(third)
    assert waits[:4] == [False, True, True, True]


async def test_without_memory_what_waits_for_a_call_is_woken_later(thread, monkeypatch):
    loop, failed, go = asyncio.get_running_loop(), [], threading.Event()
    wake = loop.call_soon_threadsafe

    def no_memory(*arguments):
        if len(failed) < 3:
            failed.append(arguments)
            raise MemoryError
        return wake(*arguments)

    monkeypatch.setattr(loop, "call_soon_threadsafe", no_memory)
    loop.call_soon(go.set)
    async with asyncio.timeout(10):
        assert await thread.submit(lambda: go.wait(10)).wait()
        assert await thread.submit(lambda: 1).wait() == 1
    assert len(failed) == 3
