"""A remaphore plugin: replies to the verb `greet` with a greeting from its settings, and records other events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from remaphore import DaemonStats, Message, Outcome, PluginContext, Reply, hookimpl


class Greeter:
    """Greets the sender of a message."""

    @dataclass(frozen=True)
    class Settings:
        """greeting: the words. notes: a file that gets a line for each event."""

        greeting: str = "Hello"
        notes: Path | None = None

    @hookimpl
    def remaphore_configure(self, settings: Settings) -> None:
        self._settings = settings

    @hookimpl
    async def remaphore_startup(self, stats: Callable[[], DaemonStats], context: PluginContext) -> None:
        self._note(f"startup of {context.config.destination}: {'connected' if stats().connected else 'disconnected'}")

    @hookimpl
    async def remaphore_message(self, message: Message) -> Reply | None:
        if message.verb != "greet":
            return None
        return Reply(0, f"{self._settings.greeting}, {message.sender_name}: {message.payload.decode()}\n".encode())

    @hookimpl
    def remaphore_handled(self, message: Message, outcomes: tuple[Outcome, ...]) -> None:
        for outcome in outcomes:
            if isinstance(outcome.result, Reply):
                self._note(f"handled {message.verb} by {outcome.plugin}")

    @hookimpl
    def remaphore_shutdown(self, reason: str) -> None:
        self._note(f"shutdown {reason}")

    def _note(self, line: str) -> None:
        if self._settings.notes is not None:
            with self._settings.notes.open("a") as notes:
                notes.write(line + "\n")
