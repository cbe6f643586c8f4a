"""What each command was asked to do, whichever syntax it was written in: one module a group of commands.

Times are in seconds; None is no limit. A command loads the classes of its own group only, because each costs at start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

DEFAULT_VERB = "ping"


class Options:
    """The options of one command. command: the module of `remaphore.cli` whose `run` takes them."""

    __slots__ = ()

    command: ClassVar[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Common(Options):
    """What every command on the bus takes: the configuration's path, and the subject's last part."""

    config: str | None = None
    subject: str = ""
