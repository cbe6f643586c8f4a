"""What a plugin would do with a message: the result of `remaphore_plan`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What would happen to a step.

    run: it runs. fail: it would be tried, and cannot be started. skip: it is skipped. unsafe: every message of its verb
    is rejected because of it.
    """

    RUN = "run"
    FAIL = "fail"
    SKIP = "skip"
    UNSAFE = "unsafe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that a plugin would do or skip.

    action: what would happen. name: what is done, such as the name of a handler. argv: the exact arguments, if it is
    started. reason: why it would not run, or a remark on how it runs. hint: how to change that.
    """

    action: Action
    name: str
    argv: tuple[str, ...] = ()
    reason: str = ""
    hint: str = ""
