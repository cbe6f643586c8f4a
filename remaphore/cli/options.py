"""What each command was asked to do, whichever syntax it was written in. Times are in seconds; None is no limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DEFAULT_VERB = "ping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What every command on the bus takes: the configuration's path, and the subject's last part."""

    config: str | None = None
    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Send(Common):
    """Send and forget. to: the pattern; id: the user's text; key: the identity that signs."""

    to: str
    verb: str = DEFAULT_VERB
    id: str = ""
    key: str = ""
    payload: str = ""
    timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Send):
    """Send, and print the replies. timeout limits the whole of it; verbose: say why a reply was not taken."""

    verbose: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Receive(Common):
    """Wait for messages. pattern: exactly this one; script: run for each message, with its arguments."""

    verbs: tuple[str, ...] = ()
    once: bool = False
    id: str = ""
    timeout: float | None = None
    any_destination: bool = False
    pattern: str = ""
    key: str = ""
    script: tuple[str, ...] = ()
    log_format: Literal["console", "json"] = "console"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Run the daemon. hooks: directories of handlers, later ones replace earlier ones; check: only say if it could."""

    config: str | None = None
    hooks: tuple[str, ...] = ()
    instance: str
    check: bool = False
    log_format: Literal["console", "json"] = "console"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """List what would run, for one verb or for all that have a directory."""

    config: str | None = None
    hooks: tuple[str, ...] = ()
    verb: str = ""
    json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain:
    """Explain the verdict on messages: of files (none: stdin), or of a question if *sender*, a key or a name, is given.

    receiver: in whose place it is judged, for its filters. at: Unix nanoseconds, None for now. verb, to: of a question.
    """

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
class Plugins:
    """List what is installed, and whether it can be loaded."""

    config: str | None = None
    json: bool = False


@dataclass(frozen=True, slots=True)
class Example:
    """Print an example of the original's configuration."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Run the embedded broker. data: its folder; port: 0 for a free one."""

    data: str
    port: int


@dataclass(frozen=True, slots=True)
class Demo:
    """Show the main job, on this machine, and leave nothing behind."""


Options = Send | Request | Receive | Run | Hooks | Explain | Plugins | Example | Broker | Demo
