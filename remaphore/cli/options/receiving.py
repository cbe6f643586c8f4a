"""The options of `receive`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from remaphore.cli.options import Common


@dataclass(frozen=True, slots=True, kw_only=True)
class Receive(Common):
    """Wait for messages. pattern: exactly this one; script: run for each message, with its arguments."""

    command: ClassVar[str] = "receive"

    verbs: tuple[str, ...] = ()
    once: bool = False
    id: str = ""
    timeout: float | None = None
    any_destination: bool = False
    pattern: str = ""
    key: str = ""
    script: tuple[str, ...] = ()
    log_format: Literal["console", "json"] = "console"
