"""Execution: an accepted message waits in the queue of its verb, is recorded as started and passed to the plugins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING

import structlog

from remaphore.config.settings import Config
from remaphore.errors import LedgerError, describe, hint_of
from remaphore.hooks.dispatch import PreparedHook
from remaphore.hooks.stats import QueueState
from remaphore.protocol.message import Message, Reply
from remaphore.protocol.peers import Peer, by_key
from remaphore.receiving.activity import REPLYING, RUNNING, Activity
from remaphore.receiving.counters import DaemonCounters
from remaphore.receiving.ledger.ledger import Ledger
from remaphore.receiving.plugin_errors import BLOCKED_SECONDS, PluginErrorReporter
from remaphore.receiving.processor import PASSED, MessageProcessor, Result
from remaphore.receiving.queues import COSTS_A_MESSAGE, MAX_TURNS, EndTurn, VerbQueues
from remaphore.receiving.responses import BUSY, NOT_PERMITTED, Responses
from remaphore.tasks import spawn

if TYPE_CHECKING:
    import pluggy

EVICTED = "it made room for a peer with fewer messages waiting"
# Seconds on top of a verb's own limit, so that a plugin that keeps the limit itself can still report that.
GRACE_SECONDS = 5.0

_log = structlog.get_logger()


class Execution:
    """Queues accepted messages by verb and runs each at most once. Each ends as handled or as rejected.

    A message is handled in this order: its start is durable in the ledger, the plugins act on it, its completion is
    durable with the reply, the reply is sent, `remaphore_handled` is called.
    """

    def __init__(
        self,
        config: Config,
        plugins: pluggy.PluginManager,
        ledger: Ledger,
        counters: DaemonCounters,
        activity: Activity,
        *,
        responses: Responses,
        errors: PluginErrorReporter,
        default_reply: Callable[[Message], Reply],
    ) -> None:
        """*default_reply*: returns the reply to a request that no plugin replied to."""
        self._config = config
        self._peers = by_key(config.peers)
        self._admitted = PreparedHook(plugins.hook.remaphore_admitted)
        self._ledger = ledger
        self._counters = counters
        self._activity = activity
        self._responses = responses
        self._errors = errors
        self._processor = MessageProcessor(plugins, errors, default_reply=default_reply)
        self._queues = VerbQueues(
            lambda verb: self._config.verb(verb),  # noqa: PLW0108 - of the configuration at the time
            on_message=self._start,
            on_expired=lambda message: responses.reject(
                message,
                BUSY,
                "expired",
                f"it waited longer than {self._config.verb(message.verb).max_wait_seconds:g} s",
            ),
            on_evicted=lambda message: responses.reject(message, BUSY, "evicted", EVICTED),
        )
        self._closing = False

    @property
    def queues(self) -> Mapping[str, QueueState]:
        """The state of the queue of each verb that has messages."""
        return self._queues.state()

    @property
    def held(self) -> int:
        """The number of messages that wait or are being handled."""
        return self._queues.held

    def apply_config(self, config: Config) -> None:
        """Use *config* for waiting messages and for later ones."""
        self._config = config
        self._peers = by_key(config.peers)
        self._queues.apply_settings()

    def accept(self, messages: Iterable[Message]) -> None:
        """Queue *messages*, which had all arrived before this, or end them at once if nothing acts on them.

        Those for which there is no room are rejected, and all of them if the daemon stops.
        """
        # Asked after the arrival of all, so that a new handler gets its message.
        acts, may_send = cache(self._processor.acts), cache(self._may_send)
        waiting = self._queues.verbs
        in_task = asyncio.current_task() is not None
        # In this iteration of the loop, the ledger cannot change, and hooks that pile up do so here.
        may_pass = not self._ledger.problem and not self._processor.notifying_too_much
        for message in messages:
            if self._closing:
                self._responses.reject(message, BUSY, "stopping", "shutting down", admitted=False)
                continue
            try:
                passed = may_pass and not message.wants_reply and message.verb not in waiting
                passed = passed and not acts(message.verb) and may_send(message.sender, message.verb)
                if passed:
                    self._pass(message)
                full = None if passed else self._queues.put(message)
            except Exception as error:  # noqa: BLE001 - it costs this message, not those behind it
                self._reject_for(error, message, admitted=False)
                continue
            if full is not None:
                self._responses.reject(message, BUSY, "busy", full, admitted=False)
                continue
            admitted = self._admitted.call((message,), slow=BLOCKED_SECONDS, in_task=in_task)
            if admitted:
                self._errors.report(admitted, blocking=True)
            if passed:
                wait_for = self._processor.notify_handled(message, PASSED, sent=False, in_task=in_task)
                may_pass = wait_for is None

    def _may_send(self, sender: str, verb: str) -> bool:
        """Return whether *sender* may send *verb*, with any payload; the queue checks the others.

        The configuration may have changed while the signature was verified.
        """
        peer = self._peers.get(sender)
        return peer is not None and peer.may_send(verb) and not peer.only

    def _pass(self, message: Message) -> None:
        """Record that *message* is handled, on which nothing acts; all of it or nothing."""
        self._ledger.note_handled(message.digest)
        self._activity.passed(message)
        self._counters.count_handled(message.verb)

    def stop(self) -> None:
        """Reject all messages that are accepted from now on."""
        self._closing = True

    async def reject_waiting(self) -> None:
        """Reject every waiting message. The event loop does other things in between: it must not seem to be blocked."""
        for number, message in enumerate(self._queues.pop_all(), 1):
            self._responses.reject(message, BUSY, "stopping", "shutting down")
            if not number % MAX_TURNS:
                await asyncio.sleep(0)

    async def join(self) -> None:
        """Return when nothing waits or runs, all replies are sent, and all `remaphore_handled` hooks have ended."""
        await self._queues.join()
        await self._processor.join()

    def _start(self, message: Message, end: EndTurn) -> None:
        """Record the start of *message*; once that is durable, let the plugins act on it. *end*: ends its turn."""
        peer = self._peers.get(message.sender)
        # The configuration may have changed while it waited.
        permitted = peer is not None and peer.may_send(message.verb)
        if peer is None or not permitted or not peer.may_send_payload(message.verb, message.payload):
            detail = f"no longer among the {'payloads' if permitted else 'verbs'} of this peer"
            self._responses.reject(message, NOT_PERMITTED, "not-permitted", detail)
            end(None)
            return
        try:
            self._activity.begin(message)
            durable = self._ledger.started(message)
            durable.add_done_callback(partial(self._act, message, peer, end))
        except COSTS_A_MESSAGE as error:  # whatever it is, the message is counted and its sender is notified
            self._reject_for(error, message)
            end(None)

    def _act(self, message: Message, peer: Peer, end: EndTurn, durable: asyncio.Future[bool]) -> None:
        """Let the plugins act on *message*, unless its start is not *durable*. The loop calls this, in no task."""
        try:
            durable.result()
            self._activity.advance(message, RUNNING)
        except BaseException as error:  # noqa: BLE001 - whatever it is, as in `_start`
            try:
                self._reject_for(error, message)
            finally:
                end(None)
            return
        result: Result | None = None
        try:
            self._responses.receipts.begin(message, legacy=peer.legacy)
            limit = self._config.verb(message.verb).timeout_seconds + GRACE_SECONDS
            acting = self._processor.start(message, timeout=limit, in_task=False)
            if not isinstance(acting, Result):
                # Not at the end of the task's own code: a task that is cancelled before it begins runs none of it.
                spawn(acting, name=f"verb {message.verb}").add_done_callback(partial(self._acted, message, end))
                return
            result = acting
        except COSTS_A_MESSAGE as error:
            result = self._lost(message, error)
        self._end_turn(message, result, end)

    def _acted(self, message: Message, end: EndTurn, acting: asyncio.Task[Result]) -> None:
        result: Result | None = None
        try:
            result = acting.result()
        except asyncio.CancelledError:
            self._activity.interrupted(message)
        except Exception as error:  # noqa: BLE001 - costs this message, not those behind it
            result = self._lost(message, error)
        finally:
            self._end_turn(message, result, end)

    @staticmethod
    def _lost(message: Message, error: BaseException) -> Result:
        _log_failure("message_lost", message, error)
        return Result((), Reply(-1) if message.wants_reply else None)

    def _end_turn(self, message: Message, result: Result | None, end: EndTurn) -> None:
        try:
            self._counters.count_handled(message.verb)
        finally:
            # After the turn: until then this message counts as running, and it is counted as handled already.
            end(None if result is None else lambda: self._end(message, result))

    def _reject_for(self, error: BaseException, message: Message, *, admitted: bool = True) -> None:
        """Reject *message*, which cannot be started because of *error*. *admitted*: whether it was queued before."""
        if isinstance(error, LedgerError):
            why, detail = "ledger", "the ledger cannot be written, see the log of the daemon"
        else:
            why, detail = "error", "an unexpected error, see the log of the daemon"
            _log_failure("message_lost", message, error)
        self._responses.reject(message, BUSY, why, detail, admitted=admitted)

    def _end(self, message: Message, result: Result) -> asyncio.Task[None] | None:
        """Complete *message*, in no task; return what its verb's queue need not wait for before the next message."""
        if message.wants_reply and result.reply is not None:
            self._activity.advance(message, REPLYING)
            try:
                # In a separate task, so that the completion of this message and the start of the next are one write.
                completing = spawn(self._complete(message, result, result.reply), name="complete")
            except BaseException:
                self._activity.interrupted(message)
                raise
            completing.add_done_callback(partial(self._completed, message))
            return completing
        self._activity.handled(message, None if result.reply is None else result.reply.exit_code, sent=False)
        self._responses.receipts.end(message.digest)  # a plugin that ended the run may leave it without a reply
        try:
            self._ledger.note_done(message.digest)
        except Exception as error:  # noqa: BLE001 - the hook is called all the same
            _log_failure("completion_not_recorded", message, error)
        return self._processor.notify_handled(message, result, sent=False, in_task=False)

    async def _complete(self, message: Message, result: Result, reply: Reply) -> None:
        sent = False
        try:
            try:
                await self._ledger.done(message.digest, reply)
            except Exception as error:  # noqa: BLE001 - most of them LedgerErrors
                # It ran, and the requester is notified. After a restart it counts as interrupted, and does not run
                # again.
                _log_failure("completion_not_recorded", message, error)
            sent = await self._responses.send(message, reply)
        except Exception as error:  # noqa: BLE001 - costs this reply, not the messages behind it
            _log_failure("message_lost", message, error)
        finally:
            self._activity.handled(message, reply.exit_code, sent=sent)
        pending = self._processor.notify_handled(message, result, sent=sent)
        if pending is not None:
            await pending

    def _completed(self, message: Message, completing: asyncio.Task[None]) -> None:
        if completing.cancelled() and message.digest in self._activity:  # before it began
            self._activity.interrupted(message)


def _log_failure(event: str, message: Message, error: BaseException) -> None:
    shown = str(error) if isinstance(error, LedgerError) else describe(error)
    _log.error(event, **message.log_fields, error=shown, hint=hint_of(error) or None)
