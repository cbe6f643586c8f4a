"""Threads are started beforehand, or their absence is an error with a hint: nothing waits for one that never starts."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from remaphore.errors import RemaphoreError
from remaphore.receiving.ledger.ledger import Ledger
from remaphore.receiving.threads import start_threads
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
