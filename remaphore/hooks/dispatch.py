"""How an event reaches every plugin.

pluggy calls hooks one after the other, lets the first exception end the chain, and does not await coroutines. An event
must reach every plugin, so `emit` walks the public `HookCaller.get_hookimpls()` itself: a plain function is called in
place, an `async def` runs in its own task, and the result of each, or its error, is its own `Outcome`. Implementations
are called in the order in which their plugins were enabled.

Example: `emit(hook, timeout=5)` with plugin a (a `def`), b (an `async def` that returns), c (one that hangs):

    _start a   called in place; an Outcome at once
    _start b   called, returns a coroutine; a task "b:remaphore_message" runs it in `_finish`
    _start c   likewise
    _finish_all waits until b is done and 5 seconds are over, then cancels c without waiting for it
    [Outcome a, Outcome b, Outcome c with TimeoutError]
"""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from remaphore.protocol.message import Reply
from remaphore.tasks import spawn

if TYPE_CHECKING:
    import pluggy

ALL = -math.inf


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one plugin did with one event.

    hook: the hook's name. plugin: the plugin's name. seconds: how long it took. result: what it returned, a `Reply` or
    None of `remaphore_message`. error: what it raised instead, TimeoutError if it exceeded its limit; else None.
    """

    hook: str
    plugin: str
    seconds: float
    result: object = None
    error: BaseException | None = None


class _OutcomeDraft:
    """An `Outcome` that is being made, as `MessageDraft`: one is made for each message on which a plugin acts."""

    __slots__ = Outcome.__slots__

    def __init__(self, hook: str, plugin: str, seconds: float, result: object, error: BaseException | None) -> None:
        self.hook = hook
        self.plugin = plugin
        self.seconds = seconds
        self.result = result
        self.error = error
        self.__class__ = Outcome  # type: ignore[assignment]


async def emit(hook: pluggy.HookCaller, *, timeout: float | None, **event: object) -> list[Outcome]:
    """Call every implementation of *hook* with *event*; return one outcome for each, in the order of the plugins.

    timeout: seconds for those that wait; one that is not done by then is cancelled and abandoned, with a TimeoutError
    as its error. No action of a plugin makes this raise. Cancelling the caller does, and cancels the plugins'
    tasks.
    """
    return await emit_each(hook, lambda _plugin: event, timeout=timeout)


async def emit_each(
    hook: pluggy.HookCaller, event: Callable[[str], Mapping[str, object]], *, timeout: float | None
) -> list[Outcome]:
    """Do as `emit`, with arguments of each plugin's own: those that *event* returns for its name."""
    started = time.monotonic()
    calls = [_start(hook.name, impl, event(impl.plugin_name)) for impl in hook.get_hookimpls()]
    return await _finish_all(calls, started, timeout) if _any_waits(calls) else calls  # type: ignore[return-value]


def emit_prepared(
    hook: PreparedHook, *values: object, timeout: float | None, in_task: bool = True
) -> list[Outcome] | Coroutine[Any, Any, list[Outcome]]:
    """Do as `emit`, with a hook that is called for each message; return the outcomes, or what has them later.

    What no plugin waits for needs no task, and no coroutine. in_task: as for `PreparedHook.call`.
    """
    called = hook.call(values, slow=ALL, in_task=in_task)
    for outcome in called:
        if outcome.result is not None and type(outcome.result) is not Reply:
            return _finish_called(called, timeout)
    return called


async def _finish_called(called: Sequence[Outcome], timeout: float | None) -> list[Outcome]:
    # The coroutines of plugins begin here: whoever has no task for this has not begun anything.
    started = time.monotonic()
    return await _finish_all([_started(outcome) for outcome in called], started, timeout)


async def emit_failures(hook: PreparedHook, *values: object, timeout: float | None) -> list[Outcome]:
    """Do as `emit_prepared`, but return only the outcomes with an error.

    An implementation that returns None, as nearly all do, needs no Outcome here, which would cost as much as its call.
    """
    called = hook.call(values, slow=math.inf)
    outcomes = await _finish_called(called, timeout) if called else []
    return [outcome for outcome in outcomes if outcome.error is not None]


class PreparedHook:
    """The implementations of a hook that is called for each message: which arguments each gets is found out once.

    Picking them by name costs more than most implementations. Plugins that are registered later are not called.
    """

    def __init__(self, hook: pluggy.HookCaller) -> None:
        """Prepare to call *hook*, which is specified, with values in the order of its specification."""
        assert hook.spec is not None  # `manager.empty` adds all specifications
        self.name = hook.name
        self._calls = [
            (impl.plugin_name, impl.function, _picker(hook.spec.argnames, impl.argnames))
            for impl in hook.get_hookimpls()
        ]

    def call(self, values: tuple[object, ...], *, slow: float, in_task: bool = True) -> list[Outcome]:
        """Call every implementation. No plugin can make this raise, or cancel the current task (see `_run`).

        Return the outcomes of those that returned something else than None, failed, or took more than *slow* seconds;
        those of all if *slow* is ALL.
        in_task: False if the caller has found out that there is no current task, for many calls.
        """
        outcomes: list[Outcome] = []
        loop = asyncio._get_running_loop() if in_task else None  # noqa: SLF001 - as in `_run`
        host = asyncio.current_task(loop) if loop else None
        if loop and host:
            asyncio._leave_task(loop, host)  # noqa: SLF001 - the same
        try:
            before = time.monotonic()
            for plugin, function, pick in self._calls:
                result, error = None, None
                try:
                    result = function(*pick(values))
                except BaseException as exc:  # noqa: BLE001 - sys.exit() in a plugin must not end its host
                    error = exc
                after = time.monotonic()
                if result is not None or error is not None or after - before > slow:
                    outcome = _OutcomeDraft(self.name, plugin, after - before, result, error)
                    outcomes.append(outcome)  # type: ignore[arg-type] # it has become one
                before = after
        finally:
            if loop and host:
                asyncio._enter_task(loop, host)  # noqa: SLF001 - the same
        return outcomes


def _picker(given: Sequence[str], wanted: Sequence[str]) -> Callable[[tuple[object, ...]], Iterable[object]]:
    """Return a function that picks the values of the names *wanted* out of those of the names *given*."""
    places = [given.index(name) for name in wanted]
    first = places[0] if places else 0
    if places == [*range(first, first + len(places))]:
        return itemgetter(slice(first, first + len(places)))
    return itemgetter(*places)


def detach(
    called: Sequence[Outcome], *, timeout: float | None, report: Callable[[list[Outcome]], None]
) -> asyncio.Task[None] | None:
    """Let *report* have the outcomes of a hook once all that it *called* is done, without waiting for that.

    called: at least one outcome, as `PreparedHook.call` returns them. Return the task that waits for the coroutines
    among the results, or None if there are none: then *report* has been called already, and no task was made, which
    would cost more than most events.
    """
    started = time.monotonic()
    calls = [_started(outcome) for outcome in called]
    if not _any_waits(calls):
        report(calls)  # type: ignore[arg-type]
        return None

    async def finish() -> None:
        report(await _finish_all(calls, started, timeout))

    return spawn(finish(), name=called[0].hook)


def emit_plain(hook: pluggy.HookCaller, **event: object) -> list[Outcome]:
    """Call every implementation of a plain hook in place; return the outcomes. No plugin can make this raise."""
    return [call(hook.name, impl, event) for impl in hook.get_hookimpls()]


def _start(hook: str, impl: pluggy.HookImpl, event: Mapping[str, object]) -> Outcome | asyncio.Task[Outcome]:
    return _started(call(hook, impl, event))


def _started(called: Outcome) -> Outcome | asyncio.Task[Outcome]:
    """Return *called*, or the task that runs the coroutine which it has returned."""
    if called.result is None:
        return called
    try:
        if not inspect.isawaitable(called.result):
            return called
    except BaseException as error:  # noqa: BLE001 - it reads `__class__`, which may be code of the plugin
        return Outcome(called.hook, called.plugin, called.seconds, error=error)
    return spawn(_finish(called, called.result), name=f"{called.plugin}:{called.hook}")


def call(hook: str, impl: pluggy.HookImpl, event: Mapping[str, object]) -> Outcome:
    """Call one implementation of *hook* with the values of *event* that it names. It cannot make this raise."""
    started = time.monotonic()
    result, error = _run(impl, event)
    return Outcome(hook, impl.plugin_name, time.monotonic() - started, result, error)


def _run(impl: pluggy.HookImpl, event: Mapping[str, object]) -> tuple[object, BaseException | None]:
    """Return the result of *impl*, or its error.

    Meanwhile there is no current task: `asyncio.current_task().cancel()` in a plain function would otherwise cancel the
    host's task, such as the worker of a verb. `_leave_task` and `_enter_task` are asyncio's functions for other
    implementations of tasks (its documentation, "Extending"). With the task hidden, `current_task()` returns None, the
    plugin gets an AttributeError, and that becomes its Outcome.
    """
    loop = asyncio._get_running_loop()  # noqa: SLF001 - documented, despite its name
    host = asyncio.current_task(loop) if loop else None
    if loop and host:
        asyncio._leave_task(loop, host)  # noqa: SLF001 - the same
    try:
        return impl.function(*[event[name] for name in impl.argnames]), None
    except BaseException as error:  # noqa: BLE001 - sys.exit() in a plugin must not end its host
        return None, error
    finally:
        if loop and host:
            asyncio._enter_task(loop, host)  # noqa: SLF001 - the same


def _any_waits(calls: Sequence[Outcome | asyncio.Task[Outcome]]) -> bool:
    return any(isinstance(call, asyncio.Task) for call in calls)


async def _finish_all(
    calls: Sequence[Outcome | asyncio.Task[Outcome]], started: float, timeout: float | None
) -> list[Outcome]:
    waiting = [call for call in calls if isinstance(call, asyncio.Task)]
    if waiting:
        await _settle(waiting, timeout)
    return [_collect(call, started) if isinstance(call, asyncio.Task) else call for call in calls]


async def _finish(called: Outcome, result: Awaitable[object]) -> Outcome:
    started = time.monotonic() - called.seconds
    try:
        value, error = await result, None
    except BaseException as exc:  # noqa: BLE001 - a task lets SystemExit out of the loop, which would end the host
        value, error = None, exc
    return Outcome(called.hook, called.plugin, time.monotonic() - started, value, error)


async def _settle(tasks: list[asyncio.Task[Outcome]], timeout: float | None) -> None:
    # Not wait_for or a TaskGroup: these wait for what they cancel, and a coroutine may swallow its cancellation.
    try:
        _, late = await asyncio.wait(tasks, timeout=timeout)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        raise
    for task in late:
        task.cancel()


def _collect(task: asyncio.Task[Outcome], started: float) -> Outcome:
    if task.done() and not task.cancelled():
        return task.result()
    plugin, _, hook = task.get_name().partition(":")
    seconds = time.monotonic() - started
    # `_finish` catches CancelledError, so a done task is cancelled only if the plugin cancelled its own task and then
    # returned without another await: asyncio then marks the finished task as cancelled.
    error = asyncio.CancelledError() if task.done() else TimeoutError(f"did not finish within {seconds:.1f} s")
    return Outcome(hook, plugin, seconds, error=error)
