"""The daemon: receives as a service that stays up for months. It wires admission, execution and responses together.

The path of a message: `Admission.deliver` (gate, signature, replay window), `Execution.accept` (queue, ledger,
plugins), `Responses.send`. A message that is not accepted leaves that path at `Responses.drop` or `Responses.reject`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from remaphore.config.settings import Config
from remaphore.errors import RemaphoreError, describe, hint_of
from remaphore.hooks.context import PluginNode
from remaphore.hooks.dispatch import emit, emit_each, emit_plain
from remaphore.hooks.plugin_tasks import CallGuard
from remaphore.hooks.stats import DaemonStats
from remaphore.messaging.signer import Clock, Signer
from remaphore.protocol.ping import INVOCATION_BYTES, Invocation
from remaphore.protocol.status import Status
from remaphore.receiving.activity import Activity, waiting
from remaphore.receiving.admission import Admission
from remaphore.receiving.contexts import PluginContexts
from remaphore.receiving.counters import DaemonCounters
from remaphore.receiving.default_reply import DefaultReply
from remaphore.receiving.execution import Execution
from remaphore.receiving.ledger.ledger import Ledger
from remaphore.receiving.ledger.state import DEFAULT_INSTANCE
from remaphore.receiving.plugin_errors import PluginErrorReporter
from remaphore.receiving.rejections import Rejections
from remaphore.receiving.responses import Responses
from remaphore.receiving.throttle import DropThrottle
from remaphore.tasks import spawn
from remaphore.transport.bus import Bus

if TYPE_CHECKING:
    import pluggy

# After SIGTERM, what runs may finish within DRAIN_SECONDS. Then the plugins are asked to end it, and have STOP_SECONDS
# for that; what is left has STOP_SECONDS to be replied to, and the tasks of plugins have the same time to end.
DRAIN_SECONDS = 5.0
STOP_SECONDS = 5.0
# How long `remaphore_startup` of a plugin may take.
HOOK_SECONDS = 5.0
# How often memory and ledger forget what is older than the replay window, also of senders that are silent.
EXPIRE_SECONDS = 60.0

_NEED_RESTART = ("servers", "auth", "tls", "subject", "state_dir", "enabled_plugins", "plugins")

# Makes the node for the plugins, of the daemon's connection and signer; it is above this package.
MakeNode = Callable[[Bus, Signer, Clock, CallGuard], PluginNode]

_log = structlog.get_logger()


class Daemon:
    """Receives, queues by verb, acts and replies until it is stopped; can apply a new configuration while it runs."""

    def __init__(
        self,
        bus: Bus,
        config: Config,
        *,
        plugins: pluggy.PluginManager,
        ledger: Ledger,
        folder: Path,
        make_node: MakeNode,
        instance: str = DEFAULT_INSTANCE,
        clock: Clock = time.time_ns,
    ) -> None:
        """For the plugins are *folder*, the state directory, *make_node* and *instance*, the name of this daemon."""
        self._counters = counters = DaemonCounters()
        self._activity = activity = Activity(clock=clock)
        self._invocation = Invocation(secrets.token_hex(INVOCATION_BYTES), instance)
        self._bus = bus
        self._clock = clock
        self._ledger = ledger
        self._config = config
        self._hook = hook = plugins.hook
        self._errors = errors = PluginErrorReporter()
        report = partial(errors.report, blocking=True)
        self._drops = DropThrottle(lambda drop: report(emit_plain(hook.remaphore_dropped, drop=drop)))
        self._rejections = Rejections(
            lambda rejected, count: report(emit_plain(hook.remaphore_rejected, **rejected._asdict(), count=count))
        )
        self._responses = Responses(
            bus, config, ledger, counters, activity, drops=self._drops, rejections=self._rejections, clock=clock
        )
        reply = DefaultReply(self._invocation, self.status)
        self._execution = Execution(
            config, plugins, ledger, counters, activity, responses=self._responses, errors=errors, default_reply=reply
        )
        self._admission = Admission(
            config,
            ledger,
            counters,
            on_accept=self._execution.accept,
            on_drop=self._responses.drop,
            may_reject=self._responses.may_reject,
            clock=clock,
        )
        self._stopping = asyncio.Event()
        own_node = partial(make_node, bus, self._responses.signer, clock)
        self._contexts = PluginContexts(folder, self._invocation, errors, make_node=own_node)
        self._receiving = False
        self._version = version("remaphore")

    @property
    def destination(self) -> str:
        """The name of this node in the configuration that is in effect."""
        return self._config.destination

    def stats(self) -> DaemonStats:
        """Return the current statistics."""
        counters = self._counters
        return DaemonStats(
            received=counters.received,
            checking=self._admission.checking,
            dropped=dict(counters.dropped),
            dropped_exact=dict(counters.dropped_exact),
            rejected=dict(counters.rejected),
            rejected_exact=dict(counters.rejected_exact),
            handled=dict(counters.handled),
            replies=dict(counters.replies),
            receipts=dict(counters.receipts),
            queues=self._execution.queues,
            connected=self._bus.connected,
            reconnects=self._bus.reconnects,
            problem=self._ledger.problem,
            locks=self._contexts.lock_stats,
        )

    def status(self, leave_out: bytes = b"") -> Status:
        """Return what the daemon does now. leave_out: the digest of a message that is not listed: the one that asks."""
        running, running_omitted = self._activity.running(leave_out=leave_out)
        queued, queued_omitted = waiting(self._execution.queues)
        return Status(
            destination=self._config.destination,
            version=self._version,
            invocation=self._invocation,
            state="stopping" if self._stopping.is_set() else "receiving" if self._receiving else "starting",
            problem=self._ledger.problem,
            time_ns=self._clock(),
            uptime_seconds=self._activity.uptime_seconds,
            running=running,
            waiting=queued,
            ended=self._activity.ended(),
            omitted=(running_omitted, queued_omitted, 0),
        )

    @property
    def changes(self) -> object:
        """What differs whenever `status` reports something else than ages."""
        state = self._receiving, self._stopping.is_set()
        return self._activity.changes, self._execution.held, self.destination, state, self._ledger.problem

    def stop(self) -> None:
        """End `run`: accept no more messages, finish or end the running handlers, reject the rest."""
        self._execution.stop()
        self._stopping.set()

    async def run(self, *, ready: Callable[[], None]) -> None:
        """Receive until `stop`; call *ready* once the broker has confirmed. Raise TransportError at startup only.

        `stop` also ends the wait for a broker that never confirms. What it has delivered by then is handled as usual.
        """
        expiring = spawn(self._expire_old(), name="expire", vital=True)
        try:
            subscribing = self._bus.subscribe_batches(self._admission.subject, self._admission.deliver)
            if await self._unless_stopped(subscribing) and await self._unless_stopped(self._start_plugins()):
                self._receiving = True
                ready()
                self._responses.report_unfinished()
                await self._stopping.wait()
        finally:
            expiring.cancel()
            await self._end()

    def reload(self, load: Callable[[], Config]) -> bool:
        """Apply the configuration that *load* returns, or keep the old one if that raises any exception.

        Return whether all of it is in effect, in the plugins too. Peers, identities, verbs and hook directories change
        at once, also for messages that wait; what runs continues. The replay window is kept, so that nothing runs a
        second time. It may be called before `run`, and while that waits for the broker.
        """
        previous = self._config
        try:
            config = load()
            changed = list(_needing_restart(previous, config))
            self._apply_config(replace(config, **{name: getattr(previous, name) for name in _NEED_RESTART}))
        except Exception as error:  # noqa: BLE001 - whatever is wrong, the daemon continues as before
            self._apply_config(previous)
            _log.error(
                "reload_rejected",
                error=describe(error, str) if isinstance(error, RemaphoreError) else describe(error),
                effect="the old configuration stays in effect",
                hint=hint_of(error) or "report this bug, and restart the daemon to apply the new configuration",
            )
            return False
        for name in changed:
            _log.warning("restart_needed", setting=name)
        if not self._errors.report_reload(emit_plain(self._hook.remaphore_reloaded, config=self._config)):
            return False
        _log.info("reloaded", peers=len(self._config.peers), source=self._config.source)
        return True

    def _apply_config(self, config: Config) -> None:
        self._config = config
        for part in (self._admission, self._execution, self._responses):
            part.apply_config(config)

    async def _expire_old(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_SECONDS)
            try:
                self._ledger.expire(self._clock())
            except Exception as error:  # noqa: BLE001 - tried again a minute later; without it, memory would only grow
                _log.error("expire_failed", error=describe(error))

    async def _start_plugins(self) -> None:
        startup = emit_each(
            self._hook.remaphore_startup,
            lambda plugin: {"stats": self.stats, "context": self._contexts.make(plugin, self._config)},
            timeout=HOOK_SECONDS,
        )
        self._errors.report(await startup)

    async def _unless_stopped(self, starting: Coroutine[Any, Any, None]) -> bool:
        """Wait for *starting*; return False if `stop` was called before it was done. It is then cancelled."""
        task = spawn(starting, name="starting")
        stopping = spawn(self._stopping.wait(), name="stop")
        try:
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return task.done() and task.result() is None
        finally:
            task.cancel()
            stopping.cancel()

    async def _end(self) -> None:
        self._responses.receipts.close()
        await self._bus.unsubscribe(self._admission.subject)
        await self._admission.join()
        await self._execution.reject_waiting()
        await self._drain(DRAIN_SECONDS)
        self._show_held()  # while plugins can still send
        self._errors.report(await emit(self._hook.remaphore_shutdown, timeout=STOP_SECONDS, reason="stopped"))
        await asyncio.gather(self._contexts.end_tasks(STOP_SECONDS), self._drain(STOP_SECONDS))
        self._show_held()
        self._contexts.close()
        self._admission.close()

    def _show_held(self) -> None:
        """Show the plugins the drops and rejections that are held back for being many."""
        self._drops.close()
        self._rejections.close()

    async def _drain(self, seconds: float) -> None:
        """Return when all that was accepted has ended and been replied to, or after *seconds*."""

        async def drained() -> None:
            await self._execution.join()
            await self._responses.join()

        waiting = spawn(drained(), name="drain")
        await asyncio.wait({waiting}, timeout=seconds)
        waiting.cancel()


def _needing_restart(running: Config, new: Config) -> Iterator[str]:
    """Yield the keys of the file that differ and need a restart; of plugins that the daemon did not load, none."""
    for name in _NEED_RESTART:
        old, changed = getattr(running, name), getattr(new, name)
        if name == "plugins":
            loaded = running.enabled_plugins  # the others that a daemon loads have no settings
            yield from (f"plugins.{each}" for each in loaded if old.get(each, {}) != changed.get(each, {}))
        elif old != changed:
            yield "plugins.enable" if name == "enabled_plugins" else name
