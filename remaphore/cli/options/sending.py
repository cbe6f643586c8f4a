"""The options of `send`, which `request` has too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from remaphore.cli.options import DEFAULT_VERB, Common


@dataclass(frozen=True, slots=True, kw_only=True)
class Send(Common):
    """Send and forget. to: the pattern; id: the user's text; key: the identity that signs.

    source: the file that holds the payload, `-` for stdin; empty: it is *payload*.
    """

    command: ClassVar[str] = "send"

    to: str
    verb: str = DEFAULT_VERB
    id: str = ""
    key: str = ""
    payload: str = ""
    source: str = ""
    timeout: float | None = None
