"""A flood of rejections is told once, then in numbers, and none is lost from the count."""

import asyncio

from remaphore.protocol.rejection import Reason, Rejection
from remaphore.runtime import rejections
from remaphore.runtime.rejections import RejectionGroups


async def test_the_first_of_each_reason_is_told_at_once_and_the_others_in_one_with_their_count():
    told = []
    groups = RejectionGroups(told.append)
    for _ in range(1000):
        groups.add(Rejection(Reason.UNKNOWN_SENDER, "x", 10))
    groups.add(Rejection(Reason.MALFORMED))
    assert [(rejection.reason, rejection.count) for rejection in told] == [
        (Reason.UNKNOWN_SENDER, 1),
        (Reason.MALFORMED, 1),
    ]
    groups.close()
    assert sum(rejection.count for rejection in told) == 1001
    assert len(told) == 3


async def test_while_it_goes_on_a_group_is_told_every_interval(monkeypatch):
    monkeypatch.setattr(rejections, "INTERVAL_SECONDS", 0.01)
    told: asyncio.Queue[Rejection] = asyncio.Queue()
    groups = RejectionGroups(told.put_nowait)
    counted = 0
    async with asyncio.timeout(10):
        for _ in range(3):
            groups.add(Rejection(Reason.MALFORMED))
            groups.add(Rejection(Reason.MALFORMED))
            counted += (await told.get()).count
        while counted < 6:
            counted += (await told.get()).count
    groups.close()
    assert counted == 6
    assert told.empty()
