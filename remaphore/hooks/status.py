"""What a daemon is doing, in numbers. Plugins get `Status`, which reads; the daemon alone writes the `Tally`.

Everything that arrived is in exactly one place: received = checking + dropped + rejected + handled + waiting + running.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from remaphore.protocol.drop import DropReason

# A peer that may send any verb could make us count for ever; what has handlers is far less.
MAX_VERBS = 1_000


class QueueState(NamedTuple):
    """How a verb's queue is: messages that wait, messages that are being handled, age of the oldest that waits."""

    waiting: int
    running: int
    oldest_seconds: float


@dataclass(slots=True)
class Tally:
    """The counters, from the start of the daemon on."""

    received: int = 0
    dropped: Counter[DropReason] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    handled: Counter[str] = field(default_factory=Counter)
    replies: Counter[str] = field(default_factory=Counter)

    def count_handled(self, verb: str) -> None:
        """Count a message of *verb*; of more verbs than anybody means, under the empty name."""
        known = verb in self.handled or len(self.handled) < MAX_VERBS
        self.handled[verb if known else ""] += 1


class Status:
    """A read-only view of a running daemon."""

    def __init__(
        self,
        tally: Tally,
        *,
        queues: Callable[[], Mapping[str, QueueState]],
        connected: Callable[[], bool],
        reconnects: Callable[[], int],
        problem: Callable[[], str],
        checking: Callable[[], int] = int,
    ) -> None:
        self._tally = tally
        self._queues = queues
        self._connected = connected
        self._reconnects = reconnects
        self._problem = problem
        self._checking = checking

    @property
    def received(self) -> int:
        """Messages that arrived on our subject, whatever they were."""
        return self._tally.received

    @property
    def checking(self) -> int:
        """Messages whose signatures are being checked."""
        return self._checking()

    @property
    def dropped(self) -> Mapping[DropReason, int]:
        """Messages that the gate did not take, by reason."""
        return dict(self._tally.dropped)

    @property
    def rejected(self) -> Mapping[str, int]:
        """Verified messages that were not acted on, by why: busy, expired, stopping, ledger, or a `DropReason`."""
        return dict(self._tally.rejected)

    @property
    def handled(self) -> Mapping[str, int]:
        """Messages that went through the plugins, by verb: what permitted peers wrote, empty for the rest."""
        return dict(self._tally.handled)

    @property
    def replies(self) -> Mapping[str, int]:
        """Replies: sent, and failed."""
        return dict(self._tally.replies)

    @property
    def queues(self) -> Mapping[str, QueueState]:
        """The queue of each verb that has messages: how many wait, how many run, how old the oldest is."""
        return self._queues()

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the broker now."""
        return self._connected()

    @property
    def reconnects(self) -> int:
        """How many connections there were after the first."""
        return self._reconnects()

    @property
    def problem(self) -> str:
        """Why nothing runs: the ledger cannot be written. Empty if all is well."""
        return self._problem()
