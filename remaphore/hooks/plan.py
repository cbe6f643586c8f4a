"""What a plugin would do with a message, as it answers `remaphore_plan`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What would become of a step: it runs, it is passed over, or it makes the whole verb be rejected."""

    RUN = "run"
    SKIP = "skip"
    UNSAFE = "unsafe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that would be done, or not: what it is called, the exact argv, and otherwise why not, and the hint."""

    action: Action
    name: str
    argv: tuple[str, ...] = ()
    reason: str = ""
    hint: str = ""
