"""The running part of `request`: asks the destinations, and calls the hooks of the plugins with what happens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from remaphore.cli import output
from remaphore.cli.route import Route
from remaphore.cli.writer import MAX_BEHIND, Writer
from remaphore.errors import RemaphoreError, cause
from remaphore.hooks.dispatch import PreparedHook, emit_failures, emit_plain
from remaphore.node import CONNECT_SECONDS
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.exchange import Summary
from remaphore.protocol.message import random_id
from remaphore.protocol.quorum import ReplyQuorum
from remaphore.requesting.requester import Request as Collected
from remaphore.requesting.rollout import Rollout
from remaphore.tasks import deadline_after, seconds_until

if TYPE_CHECKING:
    import pluggy

    from remaphore.cli.commands.request import Request

HOOK_SECONDS = 5.0


class Reporter:
    """Calls hooks, and waits until what the plugins write has been written: its reader may be slow."""

    def __init__(self, plugins: pluggy.PluginManager, writer: Writer) -> None:
        self.requested = PreparedHook(plugins.hook.remaphore_requested)
        self.reply = PreparedHook(plugins.hook.remaphore_reply)
        self.receipt = PreparedHook(plugins.hook.remaphore_receipt)
        self.finished = PreparedHook(plugins.hook.remaphore_finished)
        self._shutdown = PreparedHook(plugins.hook.remaphore_shutdown)
        self._dropped = plugins.hook.remaphore_dropped
        self._writer = writer

    def report_drop(self, drop: Drop) -> None:
        """Report *drop*; a plugin's error in this costs nothing else."""
        emit_plain(self._dropped, drop=drop)

    async def report(self, hook: PreparedHook, *values: object, more: bool = False) -> None:
        """Call *hook*, one of ours; return once everything that it wrote has been written.

        If *more* events follow at once, it returns before that, unless much waits for the reader already.

        An error of a plugin, such as a full disk, ends the command: its output would be incomplete.
        """
        await self._call(hook, *values)
        if not more or self._writer.behind > MAX_BEHIND:
            await self._drain()

    async def report_end(self, requests: Iterable[Collected], reason: str) -> None:
        """Report that *requests* and the command end, for this *reason*.

        After Ctrl-C this waits for the reader too; `tasks.run` ends the process if it does not read.
        """
        for request in requests:
            await self._call(self.finished, request.message, request.summary())
        await self._call(self._shutdown, reason)
        await self._drain()

    async def _call(self, hook: PreparedHook, *values: object) -> None:
        for outcome in await emit_failures(hook, *values, timeout=HOOK_SECONDS):
            if isinstance(outcome.error, BrokenPipeError | KeyboardInterrupt):  # the second Ctrl-C while it writes
                raise outcome.error
            assert outcome.error is not None
            hint = "report it to the author of the plugin; remaphore plugins shows its version"
            if isinstance(outcome.error, OSError):
                hint = "check the disk or the pipe to which the output is written"
            message = f"plugin {outcome.plugin!r} failed: {cause(outcome.error)}"
            raise RemaphoreError(message, hint=hint) from outcome.error

    async def _drain(self) -> None:
        try:
            await self._writer.drained()
        except BrokenPipeError:
            raise
        except OSError as error:
            hint = "free some space and run the command again"
            raise RemaphoreError(f"cannot write output: {error.strerror}", hint=hint) from error


async def collect(
    options: Request,
    route: Route,
    reporter: Reporter,
    destinations: Sequence[str],
    quorum: ReplyQuorum | None,
    *,
    payload: str | bytes,
    dropped: set[DropReason],
) -> Summary:
    """Ask *destinations* and report all that happens, until *quorum* is decided; return the summary.

    *dropped* gets the reasons of the drops.
    """
    plan = options.batch_plan()
    deadline = deadline_after(options.timeout)

    def on_drop(drop: Drop) -> None:
        dropped.add(drop.reason)
        if options.verbose:  # otherwise anyone who can publish could fill the terminal
            reporter.report_drop(drop)

    limit = min(options.timeout or CONNECT_SECONDS, CONNECT_SECONDS)
    async with route.connect(timeout=limit, on_notice=output.notice) as node:
        ask = partial(
            node.request,
            options.verb,
            payload=payload,
            id=options.id or (random_id() if options.report else ""),  # of all batches
            key=options.key,
            subject_name=options.subject,
            receipts=options.report,  # remaphore -r shows none, as the Go program
            on_drop=on_drop,
        )
        left = seconds_until(deadline)
        rollout = Rollout(
            ask,
            destinations,
            timeout=options.timeout if plan else left,
            to="" if options.selection else options.to,
            plan=plan,
            quorum=quorum,
        )
        await _report_all(rollout, reporter)
    return rollout.summary()


async def _report_all(rollout: Rollout, reporter: Reporter) -> None:
    """Report the events of *rollout*, and how it ended, also after an error or an interrupt."""
    pending: dict[bytes, Collected] = {}
    reason = "failed"
    try:
        async with aclosing(rollout.events()) as events:
            async for request, reply, ended, receipt, more in events:
                if ended:
                    del pending[request.message.digest]
                    await reporter.report(reporter.finished, request.message, request.summary())
                elif receipt is not None:
                    await reporter.report(reporter.receipt, request.message, receipt, more=more)
                elif reply is not None:
                    await reporter.report(reporter.reply, request.message, reply, more=more)
                else:
                    pending[request.message.digest] = request
                    await reporter.report(reporter.requested, request.message, request.expected)
        reason = "done"
    except asyncio.CancelledError:
        reason = "interrupted"
        raise
    finally:
        await reporter.report_end(pending.values(), reason)
