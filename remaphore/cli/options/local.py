"""The options of the commands that need no other machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from remaphore.cli.options import Options


@dataclass(frozen=True, slots=True)
class Example(Options):
    """Print an example of the original's configuration."""

    command: ClassVar[str] = "example"


@dataclass(frozen=True, slots=True)
class Broker(Options):
    """Run the embedded broker. data: its folder; port: 0 for a free one."""

    command: ClassVar[str] = "broker"

    data: str
    port: int


@dataclass(frozen=True, slots=True)
class Demo(Options):
    """Show the main job, on this machine, and leave nothing behind."""

    command: ClassVar[str] = "demo"


@dataclass(frozen=True, slots=True)
class Completion(Options):
    """Print what a shell has to read once, so that it completes our command lines."""

    command: ClassVar[str] = "completion"

    shell: Literal["bash", "zsh", "fish"]
