"""The plugin `exec-script`: runs a program for each message, and answers with its exit code and output.

`process` runs one program; `script` says how the one on the command line of `receive` is called.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from remaphore import Message, Reply, UsageError, hookimpl
from remaphore_plugins.exec_script import process, script


class ExecScript:
    """Runs the script of the command line. The caller sees to it that messages come one at a time."""

    def __init__(self) -> None:
        self._command: tuple[str, ...] = ()
        self._stop: asyncio.Future[None] | None = None  # made when first needed: a future belongs to a loop
        self._running: set[asyncio.Future[None]] = set()

    @hookimpl
    def remaphore_configure(self, settings: Mapping[str, Any]) -> None:
        """Take the script and its arguments, `argv` in *settings*. Raises UsageError if there is none."""
        argv = settings.get("argv")
        if not isinstance(argv, list | tuple) or not argv or not all(isinstance(word, str) for word in argv):
            raise UsageError(
                "exec-script has no script to run; name it, and its arguments, after the options of receive"
            )
        self._command = tuple(argv)

    @hookimpl
    async def remaphore_message(self, message: Message) -> Reply | None:
        """Run the script for *message*. Without an exit code of its own, and once stopping, the reply's is -1."""
        running = asyncio.get_running_loop().create_future()
        self._running.add(running)
        try:
            return script.make_reply(await self._run(message))
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

    async def _run(self, message: Message) -> process.Finished:
        return await process.run(
            script.make_argv(self._command, message),
            env=script.make_environment(message, path=os.environ.get("PATH", "")),
            timeout=None,
            cap=script.OUTPUT_CAP,
            stop=self._stopping(),
        )

    def _stopping(self) -> asyncio.Future[None]:
        if self._stop is None:
            self._stop = asyncio.get_running_loop().create_future()
        return self._stop
