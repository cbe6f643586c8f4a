"""A flood of drops is passed on once, then in numbers, and none is lost from the count."""

import asyncio

import pytest

from remaphore.protocol.drop import Drop, DropKind, DropReason
from remaphore.receiving import throttle
from remaphore.receiving.throttle import DropGroups, DropThrottle


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


async def test_a_drop_that_stands_for_several_is_passed_on_once_and_the_others_are_counted():
    passed = []
    groups = DropThrottle(passed.append)
    for count in (3, 1, 10):
        groups.add(Drop(DropReason.UNKNOWN_SENDER, "x", count, count=count))
    groups.add(Drop(DropReason.MALFORMED, "x", 5, count=1))
    assert [(drop.reason, drop.count) for drop in passed] == [
        (DropReason.UNKNOWN_SENDER, 1),
        (DropReason.MALFORMED, 1),
    ]
    groups.close()
    assert [(drop.count, drop.size) for drop in passed[2:]] == [(13, 10)]


def test_drops_that_arrive_together_are_one_for_each_kind_in_the_order_of_their_first():
    passed = []
    groups = DropGroups(passed.append)
    kinds = [DropKind(DropReason.UNKNOWN_SENDER, "x", "subject", exact=exact) for exact in (True, False)]
    for size in range(1, 5):
        groups.add(kinds[size % 2], size)
    groups.flush()
    groups.flush()
    assert passed == [kinds[1].drop(3, 2), kinds[0].drop(4, 2)]


def test_what_raises_while_drops_are_passed_on_costs_the_others_nothing():
    passed = []

    def fail_once(drop):
        passed.append(drop.size)
        if len(passed) == 1:
            raise MemoryError

    groups = DropGroups(fail_once)
    for size in (1, 2, 3):
        groups.add(DropKind(DropReason.UNKNOWN_SENDER, "x", "subject", exact=True), size)
    with pytest.raises(MemoryError):
        groups.flush()
    groups.flush()
    assert passed == [1, 2, 3]
