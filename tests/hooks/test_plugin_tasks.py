"""The tasks of plugins cost only themselves, whatever they raise, and end with the daemon."""

import asyncio
import gc
import threading

import pytest

from remaphore.errors import UsageError
from remaphore.hooks.plugin_tasks import PluginTasks
from tests.harness.waiting import until, wait_despite_cancelling


class UnshowableError(BaseException):
    def __repr__(self):
        raise SystemExit(1)


@pytest.fixture
def reported():
    return []


@pytest.fixture
def tasks(reported):
    return PluginTasks(lambda *failure: reported.append(failure))


def raising(error):
    async def poll():
        raise error

    return poll()


async def test_an_error_is_reported_once_with_its_plugin_and_task_and_raised_where_it_is_awaited(tasks, reported):
    unhandled = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unhandled.append(context))
    error = OSError("no route")
    task = tasks.spawn("mine", raising(error), "poller")
    with pytest.raises(OSError, match="no route"):
        await task
    tasks.spawn("mine", raising(error), "")
    await until(lambda: len(reported) == 2)
    del task
    gc.collect()
    assert [(plugin, name, type(found)) for plugin, name, found in reported] == [
        ("mine", "poller", OSError),
        ("mine", "raising.<locals>.poll", OSError),
    ]
    assert unhandled == []


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), UnshowableError(), GeneratorExit()])
async def test_what_would_end_the_process_costs_only_the_task(error, tasks, reported):
    other = tasks.spawn("other", asyncio.sleep(0, "done"), "")
    tasks.spawn("mine", raising(error), "")
    assert await other == "done"
    await until(lambda: reported)
    (failure,) = reported
    assert failure[0] == "mine"
    assert type(error).__name__ in f"{failure[2]!s} {type(failure[2]).__name__}"


async def test_a_task_that_is_cancelled_by_the_plugin_or_by_itself_is_no_error(tasks, reported):
    async def end():
        asyncio.current_task().cancel()
        await asyncio.Event().wait()

    own, other = tasks.spawn("mine", end(), ""), tasks.spawn("mine", asyncio.Event().wait(), "")
    other.cancel()
    await asyncio.wait({own, other})
    assert (own.cancelled(), other.cancelled(), reported) == (True, True, [])


async def test_a_coroutine_that_is_started_twice_fails_the_second_time_only(tasks, reported):
    release = asyncio.Event()
    coroutine = release.wait()
    first, second = tasks.spawn("mine", coroutine, ""), tasks.spawn("mine", coroutine, "")
    await asyncio.wait({second})
    await until(lambda: reported)
    release.set()
    assert await first
    assert [type(error) for _, _, error in reported] == [RuntimeError]


async def test_a_task_that_nothing_refers_to_is_kept_alive(tasks):
    ended = []

    async def wait():
        await asyncio.get_running_loop().create_future()  # which only the task refers to

    tasks.spawn("mine", wait(), "").add_done_callback(lambda _task: ended.append(True))
    await asyncio.sleep(0)
    gc.collect()
    assert not ended
    assert await tasks.close(10) == []
    assert ended


@pytest.mark.filterwarnings("error")
async def test_at_the_end_all_are_cancelled_also_those_of_tasks_and_those_that_have_not_begun(tasks, reported):
    begun = []

    async def child():
        begun.append("child")
        await asyncio.Event().wait()

    async def parent():
        tasks.spawn("mine", child(), "")
        await asyncio.Event().wait()

    tasks.spawn("mine", parent(), "")
    await until(lambda: begun)
    late = tasks.spawn("mine", parent(), "")
    assert await tasks.close(10) == []
    assert (late.cancelled(), begun, reported) == (True, ["child"], [])


async def test_a_task_that_does_not_end_is_named_and_abandoned(tasks, reported):
    release = asyncio.Event()

    async def refuse():
        await wait_despite_cancelling(release)

    async def fail():
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("in its end")

    task = tasks.spawn("stubborn", refuse(), "forever")
    tasks.spawn("mine", fail(), "")
    await asyncio.sleep(0)
    assert await tasks.close(0.01) == [("stubborn", "forever")]
    assert [plugin for plugin, _, _ in reported] == ["mine"]
    release.set()
    await task


@pytest.mark.filterwarnings("error")
async def test_what_cannot_be_started_is_an_error_with_a_hint_and_no_warning(tasks):
    async def poll():
        pytest.fail("it ran")

    for given in (poll, None, asyncio.get_running_loop().create_future()):
        with pytest.raises(UsageError, match=f"spawn needs a coroutine, not {type(given).__name__}"):
            tasks.spawn("mine", given, "")
    found = []

    def elsewhere():
        try:
            tasks.spawn("mine", poll(), "")
        except UsageError as error:
            found.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "spawn was called outside the daemon's thread" in str(found[0])
    assert "run_coroutine_threadsafe" in found[0].hint
    await tasks.close(10)
    with pytest.raises(UsageError, match="too late: the daemon has stopped") as caught:
        tasks.spawn("mine", poll(), "")
    assert caught.value.hint == "call it before remaphore_shutdown returns"
    gc.collect()
