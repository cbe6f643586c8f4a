"""The plugin `hooks-d`: runs the handlers under hooks.d for each message, and replies with their exit code and output.

`scan` finds the entries of a verb's directories, `trust` checks who could have written them, `plan` decides which run,
`handlers` runs them, and `account` looks up the user of a verb. Running a program, and ending it with all that it has
started, is not done here: that is the library `remaphore_plugins.processes`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from remaphore import Config, Message, Reply, Step, hookimpl
from remaphore_plugins.hooks_d.handlers import Handlers
from remaphore_plugins.processes.account import Account, own_account
from remaphore_plugins.processes.active import ActiveRuns


class HooksD:
    """Runs the handlers of the verb of each message. The caller keeps the order of messages."""

    def __init__(self) -> None:
        self._runs = ActiveRuns()

    @hookimpl
    def remaphore_configure(self, config: Config, options: Mapping[str, Any]) -> None:
        """Use the hook directories and verbs of *config*. Raise PluginError for a user that cannot be used.

        `account` of *options*: the fields of the `Account` for which `remaphore_plan` judges, in place of ours.
        """
        account = options.get("account")
        self._handlers = Handlers(config, Account(**account) if account else own_account())

    @hookimpl
    def remaphore_reloaded(self, config: Config) -> None:
        """Use the hook directories and verbs of *config* from now on. Running handlers keep what they started with.

        If that raises, all messages are rejected until a reload succeeds.
        """
        self._handlers.apply_config(config)

    @hookimpl
    async def remaphore_startup(self) -> None:
        """Begin to reap orphans."""
        self._handlers.start()

    @hookimpl
    def remaphore_plan(self, message: Message) -> list[Step]:
        """Return what *message* would run, with which arguments, and what would be skipped or rejected, and why."""
        return self._handlers.plan(message)

    @hookimpl
    def remaphore_acts(self, verb: str) -> bool:
        """Return whether *verb* has a directory; it is looked for each time, so that a new one is noticed at once."""
        return self._handlers.has_directory(verb)

    @hookimpl
    def remaphore_message(self, message: Message) -> Awaitable[Reply | None] | None:
        """Run the handlers of the verb of *message*; return None if it has none.

        Not an `async def`: a task costs more than everything else that a message without handlers needs.
        """
        handlers = self._handlers
        if not handlers.has_directory(message.verb):
            return None
        return self._runs.track(lambda: handlers.run(message, stop=self._runs.stop))

    @hookimpl
    async def remaphore_shutdown(self, reason: str) -> None:  # noqa: ARG002 - the hook's own argument
        """End all handlers and what they left in the background. No later message starts one."""
        await self._runs.end()
        await self._handlers.end()
