"""`remaphore -r`, `remaphore request`: send, and show the replies as they arrive."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from remaphore import logs, tasks
from remaphore.cli import console
from remaphore.cli.options.requesting import Request
from remaphore.cli.writer import Writer
from remaphore.config.settings import Config
from remaphore.errors import RemaphoreError
from remaphore.hooks.dispatch import emit, emit_plain
from remaphore.hooks.manager import cause, configure, load
from remaphore.node import CONNECT_SECONDS, connect
from remaphore.protocol.drop import Drop
from remaphore.protocol.exchange import Summary
from remaphore.requesting.requester import Request as Collected
from remaphore.requesting.requester import Target, expect, names, preview
from remaphore.requesting.rollout import BatchPlan, Rollout

if TYPE_CHECKING:
    import pluggy

PLUGINS = ("log", "reply-collector")
HOOK_SECONDS = 5.0
EXIT_MISSING, EXIT_FAILED, EXIT_REJECTED = 4, 5, 6  # with --check


def run(options: Request) -> int:
    """Send and collect; return 0 if a reply came that is no rejection, else 1; with --check see `exit_code`."""
    console.check(key=options.key, subject_name=options.subject)
    config = console.load_config(options.config)
    if options.dry_run:
        _show(preview(config, options.verb, options.to, key=options.key), _plan(options))
    config.sender(options.verb, options.key)
    destinations = names(expect(config, options.to))
    if options.dry_run:
        _say_how_many(destinations, _plan(options))
        return 0
    payload: str | bytes = options.payload
    if options.source:
        payload = import_module("remaphore.cli.payload").read(options.source)
    writer = Writer()
    with writer.streams():
        plugins = load(PLUGINS)
        configure(plugins, config, options={"reply-collector": _wishes(options, destinations)})
        logs.configure("console", level=logging.DEBUG if options.verbose else logging.WARNING)
        summary = tasks.run(_request(options, config, _Reporter(plugins, writer), destinations, payload))
    if summary.dropped and not options.verbose:
        number = "1 reply was" if summary.dropped == 1 else f"{summary.dropped} replies were"
        console.say(f"{number} not taken; --verbose shows why")
    return exit_code(summary, check=options.check)


def exit_code(summary: Summary, *, check: bool) -> int:
    """Return 1 if nothing came (a rejection alone is nothing, unless *check*), else 0; *check*: the first that holds.

    4: some are missing; 5: some failed, or gave what is no exit code; 6: some rejected.
    """
    if not check:
        return 0 if set(summary.answered) - set(summary.rejected) else 1
    if not summary.answered:
        return 1
    if summary.missing:
        return EXIT_MISSING
    if summary.failed or summary.without_code:
        return EXIT_FAILED
    return EXIT_REJECTED if summary.rejected else 0


def _wishes(options: Request, destinations: Sequence[str]) -> dict[str, object]:
    return {
        "format": options.format,
        "failed": options.failed,
        "expected": destinations,
        "summary": options.report,
        "progress": options.report and not options.verbose,  # a log is progress enough
    }


def _plan(options: Request) -> BatchPlan | None:
    if not options.batch:
        return None
    return BatchPlan(size=options.batch, percent=options.percent, pause=options.pause, stop_after=options.stop_after)


def _show(targets: Sequence[Target], plan: BatchPlan | None) -> None:
    asked = [target.destination for target in targets if not target.skip_reason]
    batches = plan.batches(asked) if plan else (asked,)
    for number, batch in enumerate(batches, start=1):
        note = f"  batch {number} of {len(batches)}" if plan else ""
        sys.stdout.writelines(logs.escape(f"ask   {name}{note}") + "\n" for name in batch)
    passed_over = (target for target in targets if target.skip_reason)
    sys.stdout.writelines(logs.escape(f"skip  {name}: {why}") + "\n" for name, why in passed_over)


def _say_how_many(destinations: Sequence[str], plan: BatchPlan | None) -> None:
    batches = f", in batches: {len(plan.batches(destinations))}" if plan else ""
    console.say(f"{len(destinations)} would be asked{batches}")


class _Reporter:
    """Calls the hooks of the plugins, and waits until what they write is written: its reader may be slow."""

    def __init__(self, plugins: pluggy.PluginManager, writer: Writer) -> None:
        self.hook = plugins.hook
        self._writer = writer

    async def report(self, hook: pluggy.HookCaller, **event: object) -> None:
        """Call *hook*, and return once what it writes is written.

        What a plugin cannot do, such as write to a full disk, ends the command: its result is not whole.
        """
        await self._call(hook, **event)
        await self._drained()

    async def report_end(self, requests: Iterable[Collected], reason: str) -> None:
        """Report that *requests* and the command end, for this *reason*.

        After Ctrl-C this too waits for the reader; `tasks.run` ends the process if it does not read.
        """
        for request in requests:
            await self._call(self.hook.remaphore_finished, request=request.message, summary=request.summary())
        await self._call(self.hook.remaphore_shutdown, reason=reason)
        await self._drained()

    async def _call(self, hook: pluggy.HookCaller, **event: object) -> None:
        for outcome in await emit(hook, timeout=HOOK_SECONDS, **event):
            if isinstance(outcome.error, BrokenPipeError | KeyboardInterrupt):  # the second Ctrl-C: nothing is read
                raise outcome.error
            if outcome.error is not None:
                raise RemaphoreError(f"plugin {outcome.plugin!r} failed: {cause(outcome.error)}") from outcome.error

    async def _drained(self) -> None:
        try:
            await self._writer.drained()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise RemaphoreError(f"the output cannot be written: {error.strerror}") from error


async def _request(
    options: Request, config: Config, reporter: _Reporter, destinations: Sequence[str], payload: str | bytes
) -> Summary:
    loop = asyncio.get_running_loop()
    deadline = None if options.timeout is None else loop.time() + options.timeout
    plan = _plan(options)

    def dropped(drop: Drop) -> None:
        if options.verbose:  # anybody can send any number of them
            emit_plain(reporter.hook.remaphore_dropped, drop=drop)

    limit = min(options.timeout or CONNECT_SECONDS, CONNECT_SECONDS)
    async with connect(config, timeout=limit, on_notice=console.say) as node:
        left = None if deadline is None else max(0.0, deadline - loop.time())
        ask = partial(
            node.request,
            options.verb,
            payload=payload,
            id=options.id,
            key=options.key,
            subject_name=options.subject,
            timeout=options.timeout if plan else left,
            on_drop=dropped,
        )
        rollout = Rollout(ask, destinations, to=options.to, plan=plan)
        await _collect(rollout, reporter)
    return rollout.summary()


async def _collect(rollout: Rollout, reporter: _Reporter) -> None:
    """Report all that happens, and how it ended, however it ends."""
    hook = reporter.hook
    under_way: dict[bytes, Collected] = {}
    reason = "failed"
    try:
        async with aclosing(rollout.events()) as events:
            async for request, reply, ended in events:
                if ended:
                    del under_way[request.message.digest]
                    await reporter.report(hook.remaphore_finished, request=request.message, summary=request.summary())
                elif reply is not None:
                    await reporter.report(hook.remaphore_reply, request=request.message, reply=reply)
                else:
                    under_way[request.message.digest] = request
                    await reporter.report(hook.remaphore_requested, request=request.message, expected=request.expected)
        reason = "done"
    except asyncio.CancelledError:
        reason = "interrupted"
        raise
    finally:
        await reporter.report_end(under_way.values(), reason)
