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

from remaphore.hooks.stats import QueueState
from remaphore.messaging.signer import Clock
from remaphore.protocol.duration import SECOND
from remaphore.protocol.message import Message
from remaphore.protocol.status import Ended, Running, Waiting
from remaphore.receiving.default_reply import BUILT_IN

# How many ends are remembered, and how many rows of the other two lists are reported.
MAX_ENDS = 20
MAX_ROWS = 100
DIGEST_BYTES = 8  # that are reported, as in the log

STARTING, RUNNING, REPLYING = "starting", "running", "replying"
HANDLED, REJECTED, INTERRUPTED = "handled", "rejected", "interrupted"


# Verb, uuid, sender, digest, result, reason, exit code, whether a reply was sent.
_End = tuple[str, bytes, str, bytes, str, str, int | None, bool | None]


class _Run:
    """A message that is being handled, and since when by the monotonic clock."""

    __slots__ = ("message", "since", "state")

    def __init__(self, message: Message, since: float) -> None:
        self.message = message
        self.since = since
        self.state = STARTING


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
        self._ends: deque[tuple[_End, float | None, float]] = deque(maxlen=MAX_ENDS)

    @property
    def uptime_seconds(self) -> float:
        """Seconds since this was created."""
        return self._monotonic() - self._created

    def __contains__(self, digest: bytes) -> bool:
        """Return whether the message with *digest* is being handled."""
        return digest in self._runs

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
        # What monitoring sends all day would displace all other ends: an answer that it got is not remembered.
        if exit_code == 0 and sent and message.verb in BUILT_IN:
            self.changes += 1
            self._runs.pop(message.digest, None)
        else:
            self._end(message, HANDLED, "", exit_code, sent=sent if message.wants_reply else None)

    def passed(self, message: Message) -> None:
        """Note that *message* has ended as handled without having waited or run: nothing acts on it."""
        self.changes += 1
        now = self._monotonic()
        end = (message.verb, message.uuid, message.sender_name, message.digest, HANDLED, "", None, None)
        self._ends.append((end, now, now))

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
        # Of the message only what is reported, as payloads may be large. A plain tuple, which is made twice as fast.
        end = (message.verb, message.uuid, message.sender_name, message.digest, result, reason, exit_code, sent)
        self._ends.append((end, since, self._monotonic()))

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
                verb=verb,
                uuid=uuid,
                peer=peer,
                digest=digest[:DIGEST_BYTES],
                result=result,
                reason=reason,
                exit_code=exit_code,
                reply_sent=sent,
                seconds=None if since is None else ended - since,
                ended_ns=_before(now_ns, now - ended),
                ago_seconds=now - ended,
            )
            for (verb, uuid, peer, digest, result, reason, exit_code, sent), since, ended in reversed(self._ends)
        )


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
