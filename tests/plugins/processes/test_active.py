"""The runs that are under way, and their common end."""

import asyncio

from remaphore import Reply
from remaphore_plugins.processes.active import ActiveRuns
from tests.harness.waiting import until


async def test_end_asks_all_runs_to_stop_and_waits_for_each():
    runs, ended = ActiveRuns(), []

    async def run() -> Reply:
        await runs.stop
        await asyncio.sleep(0)
        ended.append(None)
        return Reply(0, b"")

    tasks = [asyncio.get_running_loop().create_task(runs.track(run)) for _ in range(3)]
    await until(lambda: len(runs._active) == 3)
    await runs.end()
    assert len(ended) == 3
    assert [await task for task in tasks] == [Reply(0, b"")] * 3


async def test_end_may_be_repeated_and_needs_no_run():
    runs = ActiveRuns()
    await runs.end()
    await runs.end()
    assert runs.stop.done()


async def test_failed_run_is_not_waited_for():
    runs = ActiveRuns()
    task = asyncio.get_running_loop().create_task(runs.track(lambda: 1 / 0))
    await asyncio.wait({task})
    assert isinstance(task.exception(), ZeroDivisionError)
    await runs.end()
