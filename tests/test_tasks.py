"""A task started by spawn() runs to its end, and its exceptions are not lost; run() ends, and a signal ends it."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from remaphore.interrupts import ENDING
from remaphore.tasks import on_stop, run, spawn


async def test_a_task_without_another_reference_is_not_collected() -> None:
    waiting: list[weakref.ref[asyncio.Future[None]]] = []
    done = asyncio.Event()

    async def work() -> None:
        # Only the task refers to what it waits for: without another reference to the task, both would be garbage.
        future = asyncio.get_running_loop().create_future()
        waiting.append(weakref.ref(future))
        await future
        done.set()

    spawn(work(), name="work")
    await asyncio.sleep(0)
    gc.collect()
    future = waiting[0]()
    assert future is not None
    future.set_result(None)
    await asyncio.wait_for(done.wait(), 5)


async def test_the_task_has_the_name_and_the_result() -> None:
    async def answer() -> int:
        return 42

    task = spawn(answer(), name="answer")
    assert task.get_name() == "answer"
    assert await task == 42


async def test_an_exception_that_is_not_retrieved_reaches_the_loops_handler() -> None:
    reported: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
    error = ValueError("lost?")

    async def fail() -> None:
        raise error

    spawn(fail(), name="fail")
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    assert reported == [error]


async def test_an_exception_is_raised_where_the_task_is_awaited() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))

    async def fail() -> None:
        raise ValueError("mine")

    task = spawn(fail(), name="fail")
    await asyncio.wait({task})
    with pytest.raises(ValueError, match="mine"):
        await task
    del task
    gc.collect()
    assert reported == []


def test_run_ends_what_is_left_over_and_closes_the_loop() -> None:
    seen: list[object] = []

    async def left_over() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("ended")

    async def main() -> str:
        spawn(left_over(), name="left over")
        await asyncio.sleep(0)
        seen.append(asyncio.get_running_loop())
        return "result"

    assert run(main()) == "result"
    loop, ended = seen
    assert ended == "ended"
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert loop.is_closed()


def test_run_lets_an_exception_through() -> None:
    async def main() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        run(main())


@pytest.mark.parametrize("where", ["callback", "vital task"])
def test_no_memory_for_what_others_wait_for_ends_them(where: str) -> None:
    def callback() -> None:
        raise MemoryError

    async def task() -> None:
        raise MemoryError

    async def main() -> None:
        if where == "callback":
            asyncio.get_running_loop().call_soon(callback)
        else:
            spawn(task(), name="vital", vital=True)
        await asyncio.Event().wait()

    with pytest.raises(MemoryError):
        run(main())


def test_an_error_that_cannot_be_logged_for_lack_of_memory_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def starved(_record: logging.LogRecord) -> None:
        raise MemoryError

    async def main() -> str:
        monkeypatch.setattr(logging.getLogger("asyncio"), "handle", starved)
        context = {"message": "Fatal read error on socket transport", "exception": MemoryError()}
        asyncio.get_running_loop().call_exception_handler(context)
        return "result"

    assert run(main()) == "result"


def test_another_error_in_a_callback_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise ValueError("mine")

    async def main() -> str:
        asyncio.get_running_loop().call_soon(broken)
        while "mine" not in caplog.text:
            await asyncio.sleep(0)
        return "result"

    assert run(main()) == "result"


HELD = """
import asyncio, time
from remaphore.tasks import run

async def main():
    print("held", flush=True)
    while True:
        {hold}

try:
    run(main())
except KeyboardInterrupt as interrupt:
    raise SystemExit(128 + interrupt.number)
"""


@pytest.mark.parametrize(
    ("hold", "number"),
    [
        ("time.sleep(3600)", signal.SIGINT),
        ("__import__('os').read(0, 1)", signal.SIGTERM),
        ("await asyncio.sleep(3600)", signal.SIGHUP),
    ],
)
def test_one_signal_ends_a_process_whatever_holds_its_loop(hold: str, number: signal.Signals) -> None:
    with started(HELD.format(hold=hold)) as process:
        process.send_signal(number)  # once; what holds the loop would hold it for ever
        assert process.wait(30) == 128 + number


ENDS = """
import asyncio
from remaphore.interrupts import Interrupted
from remaphore.tasks import run

async def main():
    print("held", flush=True)
    try:
        await asyncio.sleep(3600)
    finally:
        print("ended", flush=True)

try:
    run(main())
except Interrupted as interrupt:
    print("interrupted by", interrupt.number, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_ends_at_a_signal_by_itself_is_not_cut_short(number: signal.Signals) -> None:
    with started(ENDS) as process:
        process.send_signal(number)
        assert process.stdout is not None
        assert process.stdout.read() == f"ended\ninterrupted by {number:d}\n".encode()
        assert process.wait(30) == 0


STUCK = """
import asyncio
from remaphore import tasks
tasks.BLOCKED_SECONDS = 0.2

async def main():
    stop = asyncio.Event()
    tasks.on_stop(lambda number: stop.set(), *tasks.ENDING)
    print("held", flush=True)
    await stop.wait()
    await asyncio.sleep(0.7)  # as while handlers end: the loop runs, and does nothing
    {then}
    print("ended", flush=True)

tasks.run(main())
"""


@pytest.mark.parametrize(("then", "code", "text"), [("pass", 0, b"ended\n"), ("os.read(0, 1)", 128 + 15, b"")])
def test_a_loop_that_waits_is_not_cut_short_and_one_that_is_blocked_is_ended(then: str, code: int, text: bytes) -> None:
    with started(f"import os\n{STUCK.format(then=then)}") as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert (process.stdout.read(), process.wait(30)) == (text, code)


def test_the_handlers_of_the_caller_are_back_after_it() -> None:
    before = [signal.getsignal(number) for number in ENDING]

    async def main() -> None:
        on_stop(lambda _number: None, *ENDING)

    run(main())
    assert [signal.getsignal(number) for number in ENDING] == before


@contextmanager
def started(code: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program, and wait for its first line."""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()
