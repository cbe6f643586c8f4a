"""Rejected messages, as plugins see them: each one that was queued, and a bounded number of those that were not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from remaphore.protocol.message import Message
from remaphore.receiving.throttle import Throttle

# Messages of one peer and reason that are reported individually in an interval of `Throttle`, although they were never
# queued: enough to find each of a requester's mistake by its id, too few for a flood to fill a disk.
BURST = 20


class Rejected(NamedTuple):
    """A verified message that is not handled. message: without its payload; reason: see `DaemonStats`."""

    message: Message
    reason: str
    detail: str


class Rejections:
    """Passes rejections on to *emit*, with their number.

    A message that was queued has been reported to the plugins, so its rejection always is, too: their number is
    bounded by that of the messages that the plugins got. Those that were never queued are throttled, by peer and
    reason.
    """

    def __init__(self, emit: Callable[[Rejected, int], object]) -> None:
        self._emit = emit
        self._throttle = Throttle(emit, kind=lambda rejected: (rejected.message.sender, rejected.reason), burst=BURST)

    def add(self, message: Message, reason: str, detail: str, *, admitted: bool) -> None:
        """Report that *message* was rejected. *admitted*: whether it was queued before.

        Not at once: in between its queue and the counters a message is in no place or in two, and a plugin that is
        called may read the numbers.
        """
        # Without the payload: a plugin or the throttle may keep many, and none needs it.
        rejected = Rejected(replace(message, payload=b""), reason, detail)
        report = partial(self._emit, rejected, 1) if admitted else partial(self._throttle.add, rejected)
        asyncio.get_running_loop().call_soon(report)

    def close(self) -> None:
        """Report what the throttle holds."""
        self._throttle.close()
