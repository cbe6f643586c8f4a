"""The options of `send` and `request`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from remaphore.cli.options import DEFAULT_VERB, Common


@dataclass(frozen=True, slots=True, kw_only=True)
class Send(Common):
    """Send and forget. to: the pattern; id: the user's text; key: the identity that signs."""

    command: ClassVar[str] = "send"

    to: str
    verb: str = DEFAULT_VERB
    id: str = ""
    key: str = ""
    payload: str = ""
    timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Send):
    """Send, and print the replies. timeout limits the whole of it; verbose: say why a reply was not taken."""

    command: ClassVar[str] = "request"

    verbose: bool = False
