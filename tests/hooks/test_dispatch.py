"""An event reaches every plugin, whatever the others do."""

import asyncio
import itertools
import math
import sys
import threading
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from remaphore.hooks.dispatch import PreparedHook, detach, emit, emit_failures, emit_plain, emit_prepared
from remaphore.hooks.markers import hookimpl
from remaphore.protocol.message import Reply
from tests.harness.plugins import plugin_manager


def plugins(**functions):
    """Return a manager with one plugin for each keyword: its name and its `remaphore_shutdown`."""
    return plugin_manager(
        **{
            name: type(name, (), {"remaphore_shutdown": staticmethod(hookimpl(function))})
            for name, function in functions.items()
        }
    )


async def outcomes(timeout=10.0, **functions):
    results = await emit(plugins(**functions).hook.remaphore_shutdown, timeout=timeout, reason="why")
    return {outcome.plugin: outcome for outcome in results}


async def good(reason):
    return f"saw {reason}"


async def test_every_plugin_sees_the_event_even_after_others_raise():
    def plain_error(reason):
        raise ValueError("plain")

    async def late_error(reason):
        raise KeyError("late")

    seen = await outcomes(a=good, b=plain_error, c=good, d=late_error, e=good)
    assert [seen[name].result for name in "ace"] == ["saw why"] * 3
    assert isinstance(seen["b"].error, ValueError)
    assert isinstance(seen["d"].error, KeyError)


async def test_outcomes_come_in_the_order_of_registration():
    results = await emit(plugins(z=good, a=good, m=good).hook.remaphore_shutdown, timeout=None, reason="x")
    assert [outcome.plugin for outcome in results] == ["z", "a", "m"]
    assert {outcome.hook for outcome in results} == {"remaphore_shutdown"}


async def test_a_plugin_that_hangs_is_cancelled_and_the_others_are_not():
    async def hanging(reason):
        await asyncio.Event().wait()

    seen = await outcomes(timeout=0.05, hanging=hanging, good=good)
    assert isinstance(seen["hanging"].error, TimeoutError)
    assert seen["good"].result == "saw why"


async def test_a_plugin_that_swallows_cancellation_does_not_hang_its_host():
    release = asyncio.Event()

    async def stubborn(reason):
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with asyncio.timeout(5):
        seen = await outcomes(timeout=0.05, stubborn=stubborn, good=good)
    release.set()
    assert isinstance(seen["stubborn"].error, TimeoutError)
    assert seen["good"].error is None


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_sys_exit_in_a_plugin_does_not_end_its_host(kind):
    def leave(reason):
        sys.exit(3)

    async def leave_later(reason):
        sys.exit(3)

    seen = await outcomes(bye=leave if kind == "plain" else leave_later, good=good)
    assert isinstance(seen["bye"].error, SystemExit)
    assert seen["good"].result == "saw why"


async def test_a_plugin_that_cancels_itself_is_an_error_and_does_not_cancel_the_host():
    async def odd(reason):
        raise asyncio.CancelledError

    seen = await outcomes(odd=odd, good=good)
    assert isinstance(seen["odd"].error, asyncio.CancelledError)
    assert seen["good"].result == "saw why"


async def test_cancelling_the_caller_cancels_the_tasks_of_the_plugins():
    started, ended = asyncio.Event(), asyncio.Event()

    async def slow(reason):
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting = asyncio.get_running_loop().create_task(outcomes(timeout=None, slow=slow))
    await started.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(5):
        await ended.wait()


async def test_asynchronous_plugins_run_at_the_same_time():
    meeting = asyncio.Barrier(3)

    async def meet(reason):
        await meeting.wait()
        return "met"

    seen = await outcomes(a=meet, b=meet, c=meet)
    assert {outcome.result for outcome in seen.values()} == {"met"}


async def test_a_plain_function_runs_in_place():
    seen = await outcomes(plain=lambda reason: threading.get_ident())
    assert seen["plain"].result == threading.get_ident()


async def test_a_coroutine_that_a_plain_function_returns_runs_as_its_own_task():
    def later(reason):
        return hanging() if reason == "why" else None

    async def hanging():
        assert asyncio.current_task().get_name() == "later:remaphore_shutdown"
        await asyncio.Event().wait()

    seen = await outcomes(timeout=0.05, later=later, good=good)
    assert isinstance(seen["later"].error, TimeoutError)
    assert seen["good"].result == "saw why"


async def test_a_plugin_gets_only_the_arguments_that_it_names():
    assert (await outcomes(none=lambda: "nothing asked"))["none"].result == "nothing asked"


async def test_an_event_without_plugins_has_no_outcomes():
    assert await emit(plugins().hook.remaphore_shutdown, timeout=None, reason="x") == []


def test_plain_events_isolate_each_plugin_too():
    def boom(reason):
        raise RuntimeError("boom")

    results = emit_plain(plugins(boom=boom, fine=lambda reason: reason).hook.remaphore_shutdown, reason="x")
    assert isinstance(results[0].error, RuntimeError)
    assert results[1].result == "x"


async def test_only_what_failed_has_an_outcome_if_only_failures_are_of_interest():
    seen = []

    def plain(reason):
        seen.append(asyncio.current_task())

    def plain_result(reason):
        return "result"

    def plain_error(reason):
        raise ValueError("plain")

    def leaving(reason):
        sys.exit("leaving")

    async def late_error(reason):
        await asyncio.sleep(0)
        raise KeyError("late")

    async def hanging(reason):
        await asyncio.Event().wait()

    async def failures(**functions):
        hook = PreparedHook(plugins(**functions).hook.remaphore_shutdown)
        results = await emit_failures(hook, "why", timeout=0.05)
        return {(outcome.plugin, type(outcome.error)) for outcome in results}

    assert await failures(a=plain, b=plain_result, c=good) == set()
    assert seen == [None]  # the task of the host is hidden, as in `emit`
    assert await failures(a=plain_error, b=good, c=late_error, d=plain, e=hanging, f=leaving) == {
        *(("a", ValueError), ("c", KeyError), ("e", TimeoutError), ("f", SystemExit)),
    }
    assert len(seen) == 2


class Kinds:
    """Plugins that do each of what a plugin can do with a message, and note what they see."""

    def __init__(self):
        self.seen = []

    def make(self, kind):
        class Plugin:
            @hookimpl
            def remaphore_message(plugin, message):  # noqa: N805
                task = asyncio.current_task()
                self.seen.append((kind, message, task and task.get_name()))
                return getattr(self, kind)()

        return Plugin()

    def none(self):
        return None

    def reply(self):
        return Reply(0, b"x")

    def number(self):
        return 3

    def broken(self):
        raise ValueError("broken")

    def leave(self):
        sys.exit(3)

    def cancel(self):
        asyncio.current_task().cancel()

    async def at_once(self):
        self.seen.append(asyncio.current_task().get_name())
        return Reply(1)

    async def later(self):
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
        return Reply(2)

    async def fail(self):
        await asyncio.sleep(0)
        raise ValueError("failed")

    async def end(self):
        asyncio.current_task().cancel()

    def future(self):
        done = asyncio.get_running_loop().create_future()
        done.set_result(Reply(4))
        return done


KINDS = sorted(name for name in vars(Kinds) if not name.startswith("_") and name != "make")


@settings(max_examples=max(60, settings.default.max_examples // 2))
@given(st.lists(st.sampled_from(KINDS), max_size=5))
@example(KINDS)
def test_a_prepared_hook_has_the_outcomes_of_the_ordinary_one(kinds):
    async def outcomes(*, prepared):
        plugins = Kinds()
        hook = plugin_manager(**{f"p{n}": plugins.make(kind) for n, kind in enumerate(kinds)}).hook.remaphore_message
        if prepared:
            called = emit_prepared(PreparedHook(hook), "m", timeout=60)
            called = called if isinstance(called, list) else await called
        else:
            called = await emit(hook, timeout=60, message="m")
        shown = [(each.hook, each.plugin, each.result, type(each.error)) for each in called]
        return shown, plugins.seen, asyncio.current_task().cancelling()

    ordinary, prepared = (asyncio.run(outcomes(prepared=each)) for each in (False, True))
    assert prepared == ordinary
    assert len(prepared[0]) == len(kinds)
    assert prepared[2] == 0


async def test_of_a_prepared_hook_too_what_hangs_is_cancelled_and_the_others_are_not():
    class Hanging:
        @hookimpl
        async def remaphore_message(self):
            await asyncio.Event().wait()

    hook = plugin_manager(hanging=Hanging(), good=Kinds().make("reply")).hook.remaphore_message
    called = {each.plugin: each for each in await emit_prepared(PreparedHook(hook), "m", timeout=0.01)}
    assert isinstance(called["hanging"].error, TimeoutError)
    assert called["good"].result == Reply(0, b"x")


HANDLED = ("message", "outcomes", "reply", "sent")


@pytest.mark.parametrize(
    "names", [names for count in range(5) for names in itertools.permutations(HANDLED, count)], ids=",".join
)
def test_a_prepared_hook_gets_the_arguments_that_it_names(names):
    function = eval(f"lambda {', '.join(names)}: ({''.join(f'{name}, ' for name in names)})")
    manager = plugin_manager(picky=type("Picky", (), {"remaphore_handled": staticmethod(hookimpl(function))}))
    (outcome,) = PreparedHook(manager.hook.remaphore_handled).call(HANDLED, slow=1.0)
    assert (outcome.hook, outcome.plugin, outcome.result) == ("remaphore_handled", "picky", names)


async def test_a_prepared_hook_reaches_every_plugin_and_reports_what_is_of_interest():
    seen, reported = [], []

    def cancelling(reason):
        seen.append(asyncio.current_task())
        asyncio.current_task().cancel()

    def leaving(reason):
        sys.exit(reason)

    def slow(reason):
        time.sleep(0.01)

    functions = {"a": cancelling, "b": leaving, "c": lambda reason: None, "d": slow, "e": lambda: "result"}
    hook = PreparedHook(plugins(**functions).hook.remaphore_shutdown)
    found = hook.call(("why",), slow=0.005)
    assert [(each.plugin, type(each.error), each.result) for each in found if each.plugin != "c"] == [
        *(("a", AttributeError, None), ("b", SystemExit, None), ("d", type(None), None), ("e", type(None), "result")),
    ]
    assert {each.plugin for each in hook.call(("why",), slow=60.0)} == {"a", "b", "e"}
    assert seen == [None, None]
    assert asyncio.current_task() is not None
    waits = PreparedHook(plugins(f=good, **functions).hook.remaphore_shutdown)
    await detach(waits.call(("why",), slow=math.inf), timeout=10.0, report=reported.extend)
    assert {each.plugin: type(each.error) for each in reported} == {
        "f": type(None),
        "a": AttributeError,
        "b": SystemExit,
        "e": type(None),
    }
    assert {each.result for each in reported if each.plugin == "f"} == {"saw why"}
