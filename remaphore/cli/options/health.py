"""The options of the commands that say whether it works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from remaphore.cli.options import Options


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Options):
    """Look at what is on this machine. hooks: directories of handlers, as for `run`."""

    command: ClassVar[str] = "check"

    config: str | None = None
    hooks: tuple[str, ...] = ()
    json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor(Options):
    """Ask the broker and the peers that the pattern *to* reaches. timeout: seconds for each step."""

    command: ClassVar[str] = "doctor"

    config: str | None = None
    to: str = "**"
    timeout: float
    json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping(Options):
    """Ask who is there, *count* times (None: until interrupted), every *interval* seconds."""

    command: ClassVar[str] = "ping"

    config: str | None = None
    to: str = "**"
    count: int | None = None
    interval: float
    timeout: float
    json: bool = False
