"""A task started by spawn() runs to its end, and its exceptions are not lost; run() ends, and Ctrl-C ends it."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import weakref

import pytest

from remaphore.tasks import run, spawn


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


HELD = """
import time
from remaphore.tasks import run

async def main():
    print("held", flush=True)
    while True:
        {hold}

run(main())
"""


@pytest.mark.parametrize(
    "hold", ["time.sleep(3600)", "__import__('os').read(0, 1)"], ids=["a call that waits", "a read that waits"]
)
def test_one_ctrl_c_ends_a_process_whose_loop_is_blocked(hold: str) -> None:
    command = [sys.executable, "-c", HELD.format(hold=hold)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        process.send_signal(signal.SIGINT)  # once; what holds the loop would hold it for ever
        try:
            assert process.wait(30) == 130
        finally:
            process.kill()


def test_what_ends_at_ctrl_c_by_itself_is_not_cut_short() -> None:
    code = """
import asyncio
from remaphore.tasks import run

async def main():
    print("waiting", flush=True)
    try:
        await asyncio.sleep(3600)
    finally:
        print("ended", flush=True)

try:
    run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "ended\ninterrupted\n"
        assert process.wait(30) == 0
