"""The daemon's own counters; plugins get a copy of them, as `DaemonStats`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from remaphore.protocol.drop import DropReason

# A peer that may send any verb could make us count without limit. No node has this many verbs with handlers.
MAX_VERBS = 1_000


@dataclass(slots=True)
class DaemonCounters:
    """Counts from the start of the daemon on. `DaemonStats` states what each number means."""

    received: int = 0
    dropped: Counter[DropReason] = field(default_factory=Counter)
    dropped_exact: Counter[DropReason] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    rejected_exact: Counter[str] = field(default_factory=Counter)
    handled: Counter[str] = field(default_factory=Counter)
    replies: Counter[str] = field(default_factory=Counter)
    receipts: Counter[str] = field(default_factory=Counter)

    def count_handled(self, verb: str) -> None:
        """Count a message of *verb*; under the empty name if `MAX_VERBS` others have been counted already."""
        known = verb in self.handled or len(self.handled) < MAX_VERBS
        self.handled[verb if known else ""] += 1
