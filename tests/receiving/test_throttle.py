"""A flood of drops is passed on once, then in numbers, and none is lost from the count."""

import asyncio

from remaphore.protocol.drop import Drop, DropReason
from remaphore.receiving import throttle
from remaphore.receiving.throttle import DropThrottle


async def test_the_first_of_each_reason_is_passed_on_at_once_and_the_others_as_one_with_their_count():
    passed = []
    groups = DropThrottle(passed.append)
    for _ in range(1000):
        groups.add(Drop(DropReason.UNKNOWN_SENDER, "x", 10))
    groups.add(Drop(DropReason.MALFORMED))
    assert [(drop.reason, drop.count) for drop in passed] == [
        (DropReason.UNKNOWN_SENDER, 1),
        (DropReason.MALFORMED, 1),
    ]
    groups.close()
    assert sum(drop.count for drop in passed) == 1001
    assert len(passed) == 3


async def test_a_flood_of_messages_to_many_does_not_hide_one_to_this_node_alone():
    passed = []
    groups = DropThrottle(passed.append)
    for _ in range(1000):
        groups.add(Drop(DropReason.UNKNOWN_SENDER))
    groups.add(Drop(DropReason.UNKNOWN_SENDER, exact=True))
    assert [(drop.exact, drop.count) for drop in passed] == [(False, 1), (True, 1)]
    groups.close()
    assert [(drop.exact, drop.count) for drop in passed[2:]] == [(False, 999)]


async def test_while_a_flood_continues_one_drop_is_passed_on_every_interval(monkeypatch):
    monkeypatch.setattr(throttle, "INTERVAL_SECONDS", 0.01)
    passed: asyncio.Queue[Drop] = asyncio.Queue()
    groups = DropThrottle(passed.put_nowait)
    counted = 0
    async with asyncio.timeout(10):
        for _ in range(3):
            groups.add(Drop(DropReason.MALFORMED))
            groups.add(Drop(DropReason.MALFORMED))
            counted += (await passed.get()).count
        while counted < 6:
            counted += (await passed.get()).count
    groups.close()
    assert counted == 6
    assert passed.empty()
