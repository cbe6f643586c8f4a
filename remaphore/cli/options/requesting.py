"""The options of `request`; apart from those of `send`, which should not pay for them at its start."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from remaphore.cli.options.sending import Send


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Send):
    """Send, and show the replies.

    timeout limits the whole of it, or each batch. verbose: say why a reply was not taken. failed: show only replies
    that are no success. check: let the exit code tell who is missing, failed or rejected. batch: destinations asked
    together, 0 for all, with *percent* that share of all; pause: seconds between two; stop_after: destinations without
    success that end it. dry_run: only say who would be asked. report: tell on stderr how it goes and how it ended; as
    it does not change what is asked, it does not count when options are compared.
    """

    command: ClassVar[str] = "request"

    verbose: bool = False
    format: Literal["lines", "json", "jsonl", "fold"] = "lines"
    failed: bool = False
    check: bool = False
    batch: int = 0
    percent: bool = False
    pause: float = 0.0
    stop_after: int | None = None
    dry_run: bool = False
    report: bool = field(default=False, compare=False)
