"""What the daemon does at the moment: the messages that are being handled, and how the last ones ended.

Each message costs a few operations on a dictionary here. Times are monotonic; they become times of day when they are
read, by the clock of that moment.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from typing import NamedTuple

from remaphore.hooks.stats import QueueState
from remaphore.messaging.signer import Clock
from remaphore.protocol.duration import SECOND
from remaphore.protocol.message import Message
from remaphore.protocol.status import Ended, Running, Waiting

# How many ends are remembered, and how many rows of the other two lists are reported.
MAX_ENDS = 20
MAX_ROWS = 100
DIGEST_BYTES = 8  # that are reported, as in the log

STARTING, RUNNING, REPLYING = "starting", "running", "replying"
HANDLED, REJECTED, INTERRUPTED = "handled", "rejected", "interrupted"


class _Run:
    """A message that is being handled, and since when by the monotonic clock."""

    __slots__ = ("message", "since", "state")

    def __init__(self, message: Message, since: float) -> None:
        self.message = message
        self.since = since
        self.state = STARTING


class _End(NamedTuple):
    """The end of a message: of the message only what is reported, as payloads may be large."""

    verb: str
    uuid: bytes
    peer: str
    digest: bytes
    result: str
    reason: str
    exit_code: int | None
    reply_sent: bool | None
    since: float | None
    ended: float


class Activity:
    """Records each message from the moment it leaves its queue to its end, and the last ends.

    changes: grows with everything that is recorded.
    """

    def __init__(self, *, clock: Clock = time.time_ns, monotonic: Callable[[], float] = time.monotonic) -> None:
        """*monotonic*: seconds of a clock that is never set."""
        self.changes = 0
        self._clock = clock
        self._monotonic = monotonic
        self._created = monotonic()
        self._runs: dict[bytes, _Run] = {}
        self._ends: deque[_End] = deque(maxlen=MAX_ENDS)

    @property
    def uptime_seconds(self) -> float:
        """Seconds since this was created."""
        return self._monotonic() - self._created

    def begin(self, message: Message) -> None:
        """Note that *message* has left its queue, to be started."""
        self.changes += 1
        self._runs[message.digest] = _Run(message, self._monotonic())

    def advance(self, message: Message, state: str) -> None:
        """Note the next *state* of *message*, which has begun."""
        self.changes += 1
        self._runs[message.digest].state = state

    def handled(self, message: Message, exit_code: int | None, *, sent: bool) -> None:
        """Note that *message* has ended with *exit_code*, None if it has none. *sent*: whether its reply was sent."""
        self._end(message, HANDLED, "", exit_code, sent=sent if message.wants_reply else None)

    def rejected(self, message: Message, reason: str) -> None:
        """Note that *message*, which was queued, will not be handled."""
        self._end(message, REJECTED, reason)

    def interrupted(self, message: Message) -> None:
        """Note that *message* was interrupted: by the end of the last daemon, or of its own task."""
        self._end(message, INTERRUPTED, "")

    def _end(
        self, message: Message, result: str, reason: str, exit_code: int | None = None, *, sent: bool | None = None
    ) -> None:
        self.changes += 1
        run = self._runs.pop(message.digest, None)
        since = None if run is None else run.since
        digest = message.digest[:DIGEST_BYTES]
        what = (message.verb, message.uuid, message.sender_name, digest)
        self._ends.append(_End(*what, result, reason, exit_code, sent, since, self._monotonic()))

    def running(self, *, leave_out: bytes = b"") -> tuple[tuple[Running, ...], int]:
        """Return the messages that are being handled, the oldest first, and how many more there are.

        leave_out: the digest of one that is not reported: the one that asks.
        """
        now, now_ns = self._monotonic(), self._clock()
        runs = [run for run in islice(self._runs.values(), MAX_ROWS + 1) if run.message.digest != leave_out][:MAX_ROWS]
        rows = tuple(
            Running(
                verb=run.message.verb,
                uuid=run.message.uuid,
                peer=run.message.sender_name,
                digest=run.message.digest[:DIGEST_BYTES],
                state=run.state,
                since_ns=_before(now_ns, now - run.since),
                seconds=now - run.since,
            )
            for run in runs
        )
        return rows, len(self._runs) - len(rows) - (leave_out in self._runs)

    def ended(self) -> tuple[Ended, ...]:
        """Return the last ends, the latest first."""
        now, now_ns = self._monotonic(), self._clock()
        return tuple(
            Ended(
                **{name: getattr(end, name) for name in _REPORTED},
                seconds=None if end.since is None else end.ended - end.since,
                ended_ns=_before(now_ns, now - end.ended),
                ago_seconds=now - end.ended,
            )
            for end in reversed(self._ends)
        )


_REPORTED = [name for name in _End._fields if name not in ("since", "ended")]


def _before(now_ns: int, seconds: float) -> int:
    return max(0, now_ns - int(seconds * SECOND))


def waiting(queues: Mapping[str, QueueState]) -> tuple[tuple[Waiting, ...], int]:
    """Return what waits in *queues*, the oldest first, and in how many more queues something waits."""
    found = [(verb, queue) for verb, queue in queues.items() if queue.waiting]
    first = heapq.nlargest(MAX_ROWS, found, key=lambda each: each[1].oldest_seconds)
    rows = tuple(
        Waiting(verb=verb, messages=queue.waiting, oldest_seconds=queue.oldest_seconds) for verb, queue in first
    )
    return rows, len(found) - len(rows)
