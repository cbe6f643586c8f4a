"""One message and the plugins: they act on it, a reply is chosen, and they are notified of the result."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from remaphore.errors import describe
from remaphore.hooks.dispatch import Outcome, PreparedHook, detach, emit_plain, emit_prepared
from remaphore.protocol.message import EXIT_CODE_LIMIT, Message, Reply
from remaphore.receiving.plugin_errors import PluginErrorReporter

if TYPE_CHECKING:
    import pluggy

# How long `remaphore_handled` of a plugin may take.
NOTE_SECONDS = 5.0
# `remaphore_handled` hooks that may be running, and the payloads and outputs that they keep in memory, before the
# queues wait for them: a plugin that is slower than messages arrive must not fill the memory.
MAX_NOTING = 100
MAX_NOTING_BYTES = 16 * 1024 * 1024

# The name of a class, which code of its metaclass cannot change.
_class_name = type.__dict__["__name__"].__get__

_log = structlog.get_logger()


class Result(NamedTuple):
    """The result of a message: each plugin's outcome, and the reply; None if none was requested and none returned."""

    outcomes: tuple[Outcome, ...]
    reply: Reply | None


PASSED = Result((), None)  # of a message on which nothing acts


class MessageProcessor:
    """Passes messages to the plugins. *default_reply*: returns what a requester gets if no plugin returned a reply."""

    def __init__(
        self,
        plugins: pluggy.PluginManager,
        errors: PluginErrorReporter,
        *,
        default_reply: Callable[[Message], Reply],
    ) -> None:
        self._hook = plugins.hook
        self._message = PreparedHook(plugins.hook.remaphore_message)
        self._handled = PreparedHook(plugins.hook.remaphore_handled)
        self._errors = errors
        self._default_reply = default_reply
        self._noting: set[asyncio.Task[None]] = set()
        self._noting_bytes = 0

    def acts(self, verb: str) -> bool:
        """Return whether a plugin may act on messages of *verb* now.

        One that has `remaphore_message` and not `remaphore_acts` acts on all of them.
        """
        asked = {impl.plugin_name for impl in self._hook.remaphore_acts.get_hookimpls()}
        if any(impl.plugin_name not in asked for impl in self._hook.remaphore_message.get_hookimpls()):
            return True
        outcomes = emit_plain(self._hook.remaphore_acts, verb=verb)
        self._errors.report(outcomes, blocking=True)
        return any(outcome.result is not False for outcome in outcomes)

    @property
    def notifying_too_much(self) -> bool:
        """Whether so many `remaphore_handled` hooks are running that no more messages should be handled."""
        return len(self._noting) > MAX_NOTING or self._noting_bytes > MAX_NOTING_BYTES

    async def run(self, message: Message, *, timeout: float | None) -> Result:
        """Let the plugins act on *message*, for *timeout* seconds at most, and choose the reply."""
        acting = self.start(message, timeout=timeout)
        return acting if isinstance(acting, Result) else await acting

    def start(
        self, message: Message, *, timeout: float | None, in_task: bool = True
    ) -> Result | Coroutine[Any, Any, Result]:
        """Do as `run`, but if no plugin waits for anything, return the result at once: that needs no task.

        in_task: as for `PreparedHook.call`.
        """
        called = emit_prepared(self._message, message, timeout=timeout, in_task=in_task)
        return self._result(message, called) if isinstance(called, list) else self._result_later(message, called)

    async def _result_later(self, message: Message, called: Awaitable[list[Outcome]]) -> Result:
        return self._result(message, await called)

    def _result(self, message: Message, called: list[Outcome]) -> Result:
        outcomes = tuple(map(validate_outcome, called))
        return Result(
            outcomes, choose_reply(outcomes) or (self._default_reply(message) if message.wants_reply else None)
        )

    def notify_handled(
        self, message: Message, result: Result, *, sent: bool, in_task: bool = True
    ) -> asyncio.Task[None] | None:
        """Call `remaphore_handled`, once a message, after its reply was *sent* or none was requested. Does not wait.

        Return None, or, if too many of these hooks are running, what to wait for before the next message is handled.
        This never raises: the messages behind this one are to be handled. in_task: as for `PreparedHook.call`.
        """
        event = (message, result.outcomes, result.reply, sent)
        try:
            called = self._handled.call(event, slow=math.inf, in_task=in_task)
            return self._await_hooks(called, message, result) if called else None
        except Exception as error:  # noqa: BLE001 - costs this notification
            _log.error("notification_lost", **message.log_fields, error=describe(error))
            return None

    def _await_hooks(self, called: list[Outcome], message: Message, result: Result) -> asyncio.Task[None] | None:
        noting = detach(called, timeout=NOTE_SECONDS, report=self._errors.report)
        if noting is None:
            return None
        size = _held_bytes(message, result)

        def done(task: asyncio.Task[None]) -> None:
            self._noting.discard(task)
            self._noting_bytes -= size

        self._noting_bytes += size
        noting.add_done_callback(done)
        self._noting.add(noting)  # last: what is never removed would be waited for at the end
        return noting if self.notifying_too_much else None

    async def join(self, *, timeout: float | None = None) -> None:
        """Return when no `remaphore_handled` hook is running, or after *timeout* seconds."""
        ends = None if timeout is None else time.monotonic() + timeout
        while self._noting:
            left = None if ends is None else ends - time.monotonic()
            if left is not None and left <= 0:
                return
            await asyncio.wait(self._noting, timeout=left)


def _held_bytes(message: Message, result: Result) -> int:
    """Return how much memory a hook keeps that has *message* and *result*. One object is counted once."""
    replies = {id(each.result): each.result for each in result.outcomes if isinstance(each.result, Reply)}
    if result.reply is not None:  # mostly that of a plugin, and then it is in already
        replies[id(result.reply)] = result.reply
    return len(message.payload) + sum(len(reply.output) for reply in replies.values())


def validate_outcome(outcome: Outcome) -> Outcome:
    """Return *outcome* of `remaphore_message`, as an error if its result is neither None nor a valid Reply.

    The types must be these exactly. A subclass could behave differently each time, such as an int that is no number
    when it is formatted, or raise, in code of ours that trusts it later.
    """
    result = outcome.result
    if result is None:
        return outcome
    if type(result) is not Reply:
        problem = f"remaphore_message returned {_class_name(type(result))}, not a Reply or None"
    else:
        # Whatever the annotations promise: a plugin need not have been checked against them.
        exit_code: object = result.exit_code
        output: object = result.output
        if exit_code is not None and type(exit_code) is not int:
            problem = f"the reply's exit_code is {_class_name(type(exit_code))}, not int"
        elif exit_code is not None and abs(exit_code) >= EXIT_CODE_LIMIT:
            problem = "the reply's exit_code has more than ten digits"
        elif type(output) is not bytes:
            problem = f"the reply's output is {_class_name(type(output))}, not bytes"
        else:
            return outcome
    return replace(outcome, result=None, error=TypeError(problem))


def choose_reply(outcomes: Sequence[Outcome]) -> Reply | None:
    """Return the first reply that a plugin returned; -1 if there are only errors; else None."""
    replies = [outcome.result for outcome in outcomes if isinstance(outcome.result, Reply)]
    if len(replies) > 1:
        _log.warning("replies_dropped", kept=replies[0].exit_code, dropped=[reply.exit_code for reply in replies[1:]])
    if replies:
        return replies[0]
    return Reply(-1) if any(outcome.error is not None for outcome in outcomes) else None
