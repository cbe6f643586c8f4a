"""A remaphore plugin: answers the verb `greet` with a greeting from its settings, and notes what else it sees."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from remaphore import Message, Outcome, Reply, Status, hookimpl

KNOWN = {"greeting", "notes"}


class Greeter:
    """Greets who asks. greeting: the words; notes: a file that gets a line for each event."""

    def __init__(self) -> None:
        self._greeting = "Hello"
        self._notes: Path | None = None

    @hookimpl
    def remaphore_configure(self, settings: Mapping[str, Any]) -> None:
        unknown = set(settings) - KNOWN
        if unknown:
            raise ValueError(f"unknown keys: {', '.join(sorted(unknown))}; known are {', '.join(sorted(KNOWN))}")
        self._greeting = settings.get("greeting", self._greeting)
        self._notes = Path(settings["notes"]) if "notes" in settings else None

    @hookimpl
    async def remaphore_startup(self, status: Status) -> None:
        self._note(f"startup {'connected' if status.connected else 'away'}")

    @hookimpl
    async def remaphore_message(self, message: Message) -> Reply | None:
        if message.verb != "greet":
            return None
        return Reply(0, f"{self._greeting}, {message.sender_name}: {message.payload.decode()}\n".encode())

    @hookimpl
    def remaphore_handled(self, message: Message, outcome: Outcome) -> None:
        if isinstance(outcome.result, Reply):
            self._note(f"handled {message.verb} by {outcome.plugin}")

    @hookimpl
    def remaphore_shutdown(self, reason: str) -> None:
        self._note(f"shutdown {reason}")

    def _note(self, line: str) -> None:
        if self._notes is not None:
            with self._notes.open("a") as notes:
                notes.write(line + "\n")
