"""What a daemon has done so far, in numbers, as plugins see it. The daemon itself counts in `receiving.counters`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from remaphore.protocol.drop import DropReason


def _none() -> Mapping[Any, Any]:
    return MappingProxyType({})


class QueueState(NamedTuple):
    """The queue of one verb.

    waiting: messages that wait. running: messages that are being handled. oldest_seconds: the age of the oldest message
    that waits, 0 if none does.
    """

    waiting: int
    running: int
    oldest_seconds: float


class LockStats(NamedTuple):
    """One lock, or semaphore, as one node uses it.

    held: leases that it holds now. waiting: tries that wait for one. acquired: leases that it got. not_acquired: tries
    whose time was up. renewals_failed: series of renewals that failed; most of them end well. lost: leases that were
    lost, by reason (evicted, expired, set-back, taken). wait_seconds: the sum of the waits for those that it got.
    wait_buckets: the number of these waits in each bucket, by its upper bound in seconds, in order; the last is inf.
    """

    held: int
    waiting: int
    acquired: int
    not_acquired: int
    renewals_failed: int
    lost: Mapping[str, int]
    wait_seconds: float
    wait_buckets: Mapping[float, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStats:
    """A snapshot of the daemon's counters, counted from its start.

    Every message that arrived is in exactly one place: received = checking + sum(dropped) + sum(rejected)
    + sum(handled) + the messages that wait or run in queues.

    received: messages of any kind that arrived on our subject. checking: messages whose signatures are being
    checked. dropped: messages that the gate dropped, by reason. dropped_exact: those of them whose pattern is exactly
    our destination, by reason. rejected: messages that were verified and rejected, by reason (busy, evicted, expired,
    stopping, ledger, error, not-permitted, or a `DropReason`). rejected_exact: as dropped_exact. handled: messages that
    were passed to the plugins, by verb; "" stands for all further verbs once there are 1000. replies: replies,
    including rejections, by result (sent, failed). receipts: confirmations that a request has started, by result
    (sent, failed). queues: the queue of each verb that has messages. connected: whether
    there is a connection to the broker. reconnects: connections after the first one. problem: why nothing can run, such
    as a ledger that cannot be written; empty if all is well. locks: those that its plugins use, by name; "" stands for
    all further ones once there are 100.
    """

    received: int = 0
    checking: int = 0
    dropped: Mapping[DropReason, int] = field(default_factory=_none)
    dropped_exact: Mapping[DropReason, int] = field(default_factory=_none)
    rejected: Mapping[str, int] = field(default_factory=_none)
    rejected_exact: Mapping[str, int] = field(default_factory=_none)
    handled: Mapping[str, int] = field(default_factory=_none)
    replies: Mapping[str, int] = field(default_factory=_none)
    receipts: Mapping[str, int] = field(default_factory=_none)
    queues: Mapping[str, QueueState] = field(default_factory=_none)
    connected: bool = False
    reconnects: int = 0
    problem: str = ""
    locks: Mapping[str, LockStats] = field(default_factory=_none)
