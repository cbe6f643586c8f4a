"""What the tests of a plugin need: messages, replies, a clock, a configuration, a bus in memory, and the plugin's host.

    from remaphore.testing import PluginHarness, make_message

    async def test_it_greets():
        async with PluginHarness(Greeter, settings={"greeting": "Hi"}) as harness:
            reply = await harness.message(make_message("greet", "Ann"))
        assert reply.output == b"Hi, Ann"

No network and no other process, and no file but those that the plugin writes. The names in `__all__` are public, like
those of `remaphore`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from remaphore.config.settings import Config
from remaphore.errors import describe
from remaphore.hooks.context import PluginContext
from remaphore.hooks.dispatch import Outcome, emit, emit_plain
from remaphore.hooks.manager import empty, implemented, register
from remaphore.hooks.plan import Step
from remaphore.hooks.plugin_tasks import CallGuard, PluginTasks
from remaphore.hooks.settings import build
from remaphore.hooks.stats import DaemonStats
from remaphore.protocol.drop import Drop
from remaphore.protocol.exchange import Summary
from remaphore.protocol.message import Message, Reply
from remaphore.protocol.ping import Invocation
from remaphore.protocol.receipt import Receipt
from remaphore.receiving.default_reply import DefaultReply
from remaphore.receiving.processor import choose_reply, validate_outcome
from remaphore.testing.clock import START_NS, Clock
from remaphore.testing.factories import make_config, make_drop, make_message, make_outcome, make_reply, make_summary
from remaphore.testing.node import HarnessNode, make_peer
from remaphore.transport.memory import MemoryBroker, MemoryBus

__all__ = [
    "START_NS",
    "Clock",
    "HarnessNode",
    "MemoryBroker",
    "MemoryBus",
    "PluginHarness",
    "make_config",
    "make_drop",
    "make_message",
    "make_outcome",
    "make_peer",
    "make_reply",
    "make_summary",
]

HARNESS_SECONDS = 10.0
_INVOCATION = Invocation("0123456789abcdef", "main")


class PluginHarness:
    """Runs one plugin as the host does: with the same checks and the same calls, in the same order.

    Only errors are handled differently: here they are raised. *plugin*: an object, a module, or a class whose
    constructor needs no arguments. settings: its table `[plugins.NAME]`, which is checked against its `Settings`;
    relative paths in it start at the current directory. options: what a command would pass. timeout: seconds for each
    call of an `async def`, then TimeoutError, and for the plugin's tasks to end. state_dir: what the plugin gets as
    its state directory, a temporary one if None. The attribute `stats` is what the plugin gets as the daemon's
    statistics: assign another `DaemonStats` to change them. `node` is what it sends with, see `HarnessNode`. Use it in
    `async with`, which configures and starts the plugin, shuts it down, ends its tasks, and raises the exception of a
    task:

    async with PluginHarness(Greeter, settings={"greeting": "Hi"}) as harness:
        reply = await harness.message(make_message("greet", "Ann"))

    Raise TypeError or pluggy's PluginValidationError if the host would not load the plugin; entering it raises
    PluginError if the host would not accept the settings.
    """

    def __init__(
        self,
        plugin: object,
        *,
        settings: Mapping[str, Any] | None = None,
        options: Mapping[str, object] | None = None,
        config: Config | None = None,
        name: str = "plugin",
        timeout: float = HARNESS_SECONDS,
        state_dir: Path | None = None,
    ) -> None:
        self.config = config or make_config()
        self.stats = DaemonStats(connected=True)
        self.name = name
        self._table = dict(settings or {})
        self._options = dict(options or {})
        self._timeout = timeout
        self._state_dir = state_dir
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._guard = CallGuard()
        self._tasks = PluginTasks(lambda _plugin, task, error: self._failed.append((task, error)))
        self._failed: list[tuple[str, BaseException]] = []
        self.node = HarnessNode(self.config, self._guard)
        self._manager = empty()
        register(self._manager, plugin, name=name)
        self.plugin = self._manager.get_plugin(name)
        self.hooks = tuple(implemented(self._manager, name))

    async def __aenter__(self) -> Self:
        """Call `remaphore_configure` and `remaphore_startup`."""
        settings = build(self.plugin, self._table, name=self.name, source=self.config.source)
        self._plain("configure", config=self.config, settings=settings, options=self._options)
        context = PluginContext(
            name=self.name,
            config=self.config,
            instance=_INVOCATION.instance,
            invocation=_INVOCATION.number,
            node=self.node,
            _tasks=self._tasks,
            _open_state_dir=lambda _plugin: self.state_dir,
        )
        try:
            await self._waiting("startup", stats=lambda: self.stats, context=context)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Call `remaphore_shutdown`, then cancel the plugin's tasks. Raise the exception of one that failed.

        If the block has raised already, the exceptions of tasks are notes of that.
        """
        try:
            await self._waiting("shutdown", reason="stopped")
        finally:
            await self._end()
        for task, failure in self._failed:
            if error is None:
                raise failure
            error.add_note(f"task {task!r} of the plugin failed: {describe(failure)}")

    async def _end(self) -> None:
        late = await self._tasks.close(self._timeout)
        self._failed += [(task, TimeoutError(f"task {task!r} of the plugin did not end")) for _, task in late]
        self._guard.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    @property
    def state_dir(self) -> Path:
        """The plugin's state directory; it is created when it is first used."""
        if self._state_dir is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="remaphore-plugin-")
            self._state_dir = Path(self._temporary.name)
        self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._state_dir

    async def message(self, message: Message) -> Reply | None:
        """Pass *message* to the plugin: admitted, message, handled. Return its reply.

        Raise what the plugin raised, after it got that in `remaphore_handled` as from the host; TypeError for a result
        that is neither None nor a Reply of an int and bytes.
        """
        self._plain("admitted", message=message)
        outcome = await self._call("message", message=message)
        if outcome is None:
            return None
        outcome = validate_outcome(outcome)
        handled = {**self.stats.handled, message.verb: self.stats.handled.get(message.verb, 0) + 1}
        self.stats = replace(self.stats, handled=handled)
        default = DefaultReply(_INVOCATION)(message) if message.wants_reply else None
        reply = choose_reply([outcome]) or default
        await self.handled(message, (outcome,), reply, sent=message.wants_reply and reply is not None)
        return cast("Reply | None", _result(outcome))

    async def handled(
        self, message: Message, outcomes: tuple[Outcome, ...], reply: Reply | None = None, *, sent: bool = False
    ) -> None:
        """Report to the plugin that *message* was handled, by itself or by others."""
        await self._waiting("handled", message=message, outcomes=outcomes, reply=reply, sent=sent)

    def rejected(self, message: Message, reason: str, detail: str = "", *, count: int = 1) -> None:
        """Report to the plugin that *message* will not be handled."""
        self._plain("rejected", message=replace(message, payload=b""), reason=reason, detail=detail, count=count)

    def dropped(self, drop: Drop) -> None:
        """Report to the plugin that something was dropped."""
        self._plain("dropped", drop=drop)

    def reloaded(self, config: Config) -> None:
        """Pass a new configuration to the plugin."""
        self.config = config
        self.node.apply_config(config)
        self._plain("reloaded", config=config)

    def acts(self, verb: str) -> bool:
        """Return whether the plugin, as the host understands it, acts on messages of *verb*."""
        if "remaphore_acts" not in self.hooks:
            return "remaphore_message" in self.hooks
        return self._plain("acts", verb=verb) is not False

    def plan(self, message: Message) -> list[Step] | None:
        """Return what the plugin would do with *message*."""
        return cast("list[Step] | None", self._plain("plan", message=message))

    async def requested(self, request: Message, expected: tuple[str, ...]) -> None:
        """Report to the plugin that a request of ours was sent, to the destinations *expected*."""
        await self._waiting("requested", request=request, expected=expected)

    async def reply(self, request: Message, reply: Reply) -> None:
        """Pass a reply to the plugin, as on the requesting side."""
        await self._waiting("reply", request=request, reply=reply)

    async def receipt(self, request: Message, receipt: Receipt) -> None:
        """Pass a receipt to the plugin, as on the requesting side."""
        await self._waiting("receipt", request=request, receipt=receipt)

    async def finished(self, request: Message, summary: Summary) -> None:
        """Report to the plugin that a request of ours has ended."""
        await self._waiting("finished", request=request, summary=summary)

    async def _call(self, event: str, **values: object) -> Outcome | None:
        hook = getattr(self._manager.hook, f"remaphore_{event}")
        return next(iter(await emit(hook, timeout=self._timeout, **values)), None)

    async def _waiting(self, event: str, **values: object) -> object:
        return _result(await self._call(event, **values))

    def _plain(self, event: str, **values: object) -> object:
        hook = getattr(self._manager.hook, f"remaphore_{event}")
        return _result(next(iter(emit_plain(hook, **values)), None))


def _result(outcome: Outcome | None) -> object:
    if outcome is None:
        return None
    if outcome.error is not None:
        raise outcome.error
    return outcome.result
