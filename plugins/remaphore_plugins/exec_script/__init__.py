"""The plugin `exec-script`: runs programs for each message, and answers with their exit code and output.

Two modes. With `argv` among its settings, the script on the command line of `receive`: `script` says how it is called.
Without, the handlers under hooks.d: `scan` finds them, `trust` judges them, `plan` says what would run, `handlers` runs
them. Both run one program with `process`, whose relatives `kin` and `orphans` find; `account` is the user of a verb.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

from remaphore import Action, Config, Message, Reply, Step, UsageError, hookimpl
from remaphore_plugins.exec_script import process, script
from remaphore_plugins.exec_script.handlers import Handlers


class ExecScript:
    """Runs the script of the command line, or the handlers of hooks.d. The caller keeps the order of messages."""

    def __init__(self) -> None:
        self._command: tuple[str, ...] = ()
        self._handlers: Handlers | None = None
        self._stop: asyncio.Future[None] | None = None  # made when first needed: a future belongs to a loop
        self._running: set[asyncio.Future[None]] = set()

    @hookimpl
    def remaphore_configure(self, config: Config, options: Mapping[str, object]) -> None:
        """Accept the script and its arguments, `argv` in *options*; without it, the hook directories of *config*.

        Raises UsageError if there is no script, PluginError for a user that cannot be had.
        """
        argv = cast("tuple[str, ...] | None", options.get("argv"))
        if argv is None:
            self._handlers = Handlers(config)
        elif argv:
            self._command = argv
        else:
            raise UsageError(
                "exec-script has no script to run; name it, and its arguments, after the options of receive"
            )

    @hookimpl
    def remaphore_reloaded(self, config: Config) -> None:
        """Use the hook directories and verbs of *config* from now on. What runs goes on as it began."""
        if self._handlers is not None:
            self._handlers.take(config)

    @hookimpl
    def remaphore_plan(self, message: Message) -> list[Step]:
        """Say what *message* would make run, with which arguments, and what would be passed over, and why."""
        if self._handlers is not None:
            return self._handlers.plan(message)
        argv = tuple(map(os.fsdecode, script.make_argv(self._command, message)))
        return [Step(action=Action.RUN, name=self._command[0], argv=argv)]

    @hookimpl
    def remaphore_message(self, message: Message) -> Awaitable[Reply | None] | None:
        """Run the script, or the handlers of its verb, for *message*; None if the verb has none.

        No `async def`: a task of its own costs more than all the rest of a message that has no handlers.
        """
        handlers = self._handlers
        if handlers is None:
            return self._noted(lambda: self._run(message))
        plan = handlers.prepare(message.verb)
        return None if plan is None else self._noted(lambda: handlers.run(message, plan, stop=self._stopping()))

    async def _noted(self, run: Callable[[], Awaitable[Reply | None]]) -> Reply | None:
        """Let `remaphore_shutdown` wait for *run*."""
        running = asyncio.get_running_loop().create_future()
        self._running.add(running)
        try:
            return await run()
        finally:
            self._running.remove(running)
            running.set_result(None)

    @hookimpl
    async def remaphore_shutdown(self, reason: str) -> None:  # noqa: ARG002 - the hook's own argument
        """End what still runs, and return when it has ended. What comes later is not started."""
        stop = self._stopping()
        if not stop.done():
            stop.set_result(None)
        if self._running:
            await asyncio.wait(self._running)
        if self._handlers is not None:
            await self._handlers.end()

    async def _run(self, message: Message) -> Reply:
        finished = await process.run(
            script.make_argv(self._command, message),
            env=script.make_environment(message, path=os.environ.get("PATH", "")),
            timeout=None,
            cap=script.OUTPUT_CAP,
            stop=self._stopping(),
        )
        return script.make_reply(finished)

    def _stopping(self) -> asyncio.Future[None]:
        if self._stop is None:
            self._stop = asyncio.get_running_loop().create_future()
        return self._stop
