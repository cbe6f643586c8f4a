"""The options of the daemon, and of the commands that ask what it would do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from remaphore.cli.options import DEFAULT_VERB, Options
from remaphore.cli.options.receiving import Receive


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Options):
    """Run the daemon. hooks: directories of handlers, later ones replace earlier ones; check: only say if it could."""

    command: ClassVar[str] = "run"

    config: str | None = None
    hooks: tuple[str, ...] = ()
    instance: str
    check: bool = False
    log_format: Literal["console", "json"] = "console"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks(Options):
    """List what would run, for one verb or for all that have a directory."""

    command: ClassVar[str] = "hooks"

    config: str | None = None
    hooks: tuple[str, ...] = ()
    verb: str = ""
    json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain(Options):
    """Explain the verdict on messages: of files (none: stdin), or of a question if *sender*, a key or a name, is given.

    receiver: in whose place it is judged, for its filters. at: Unix nanoseconds, None for now. verb, to: of a question.
    """

    command: ClassVar[str] = "explain"

    receiver: Receive
    hooks: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    base64: bool = False
    at: int | None = None
    sender: str = ""
    verb: str = DEFAULT_VERB
    to: str = "**"
    json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugins(Options):
    """List what is installed, and whether it can be loaded."""

    command: ClassVar[str] = "plugins"

    config: str | None = None
    json: bool = False
