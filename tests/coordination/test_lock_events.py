"""What is logged of a lock: all that an administrator has to know, once, and never in a flood."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest

from remaphore.coordination import lock_events
from remaphore.coordination.lock_counters import LockCounters
from remaphore.coordination.lock_events import LockEvents, Waiting
from remaphore.coordination.lock_records import Holder
from remaphore.logs import LibraryLogger
from remaphore.protocol.lease import EVICTED, SET_BACK, TAKEN, Lease, Terms
from remaphore.protocol.record import Entry
from tests.harness.waiting import until


class Log(LibraryLogger):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, object]]] = []

    def _log(self, level: str, event: str, values: Any) -> None:
        self.lines.append((level, event, {key: value for key, value in values.items() if value is not None}))

    def names(self) -> list[str]:
        return [event for _, event, _ in self.lines]


def holder(who: str, session: str, *, known: bool = True) -> Holder:
    return Holder(0, who, known, 0.0, "web1", 1, "a note", 7, 30.0, session)


def lease_of(session: str = "s", ttl: float = 30.0) -> Lease:
    terms = Terms("a", 1, ttl, lambda _key, _verb: True)
    return Lease(0, session, terms, 7, Entry(7, "r", b""), 100.0)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def events(log: Log) -> LockEvents:
    return LockEvents("a", log=log, counters=LockCounters())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[float]:
    monkeypatch.setattr(lock_events, "ANNOUNCE_EVERY", 0.2)
    return 0.2


async def test_waiting_is_logged_when_the_holder_changes_and_not_in_a_flood(
    events: LockEvents, log: Log, quick: float
) -> None:
    with events.waiting() as attempt:
        began = time.monotonic()
        for number in range(1000):  # hands change faster than once in ANNOUNCE_EVERY
            attempt.note(Waiting((holder(f"com.node{number}", f"s{number}"),), ahead=1000 - number))
            await asyncio.sleep(0)
        assert len(log.lines) <= (time.monotonic() - began) / quick  # none, unless this machine is busy
        await until(lambda: log.lines and log.lines[-1][2]["held_by"] == "com.node999")
        log.lines = log.lines[-1:]
        attempt.note(Waiting((holder("com.node999", "s999"),), ahead=0))  # one less before us
        await asyncio.sleep(1.5 * quick)
        assert len(log.lines) == 1
        for known in (True, False):
            attempt.note(Waiting((holder("the key", "new", known=known),), ahead=0))
        await asyncio.sleep(1.5 * quick)
        assert log.lines[1:] == [("info", "lock_waiting", {"lock": "a", "held_by": "unknown", "ahead": 0})]
        attempt.note(Waiting((), ahead=0, problems=("slot 0: it is no record",)))
    await asyncio.sleep(1.5 * quick)
    assert log.names() == ["lock_waiting"] * 2  # nothing after the end of the try


async def test_a_junk_flood_is_one_line(events: LockEvents, log: Log, quick: float) -> None:
    with events.waiting() as attempt:
        for _ in range(5):
            attempt.note(Waiting((), ahead=0, problems=("slot 0: it is no record",)))
            await asyncio.sleep(quick)
    assert log.names() == ["lock_waiting"]


async def test_all_holders_of_a_semaphore_are_folded_to_one_value(events: LockEvents, log: Log, quick: float) -> None:
    with events.waiting() as attempt:
        attempt.note(Waiting(tuple(holder(f"com.node{number}", "s") for number in range(9)), ahead=0))
        await asyncio.sleep(1.5 * quick)
    assert log.lines[0][2]["held_by"] == "com.node[0-8]"


def test_a_series_of_failed_renewals_is_two_lines(events: LockEvents, log: Log) -> None:
    lease = lease_of()
    events.acquired(lease, 0.0)
    for _ in range(100):
        events.renewal_failed(lease, "no answer", left=19.0)
    events.renewed(lease, left=3.0)
    events.renewed(lease, left=20.0)
    events.renewed(lease, left=14.9)  # late: the machine slept, or the process hung
    assert [(level, event) for level, event, _ in log.lines[1:]] == [
        ("warning", "lock_renewal_failed"),
        ("warning", "lock_renewal_recovered"),
        ("debug", "lock_renewed"),
        ("warning", "lock_renewal_late"),
    ]
    assert events._counters is not None
    assert events._counters.stats()["a"].renewals_failed == 1


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (EVICTED, "evicted"),
        (TAKEN, "taken"),
        (SET_BACK, "set-back"),
        ("not renewed in time", "expired"),
        ("", "expired"),
    ],
)
def test_the_end_of_a_lease_is_logged_and_counted_once_with_its_reason(
    cause: str, reason: str, events: LockEvents, log: Log
) -> None:
    lease = lease_of()
    events.acquired(lease, 0.3)
    lease.lost = cause
    for _ in range(2):  # by the renewals, and by the guardian
        events.lost(lease, detail="why", by="com.node3")
    events.released(lease, done=False)
    assert log.names() == ["lock_acquired", "lock_lost"]
    assert (log.lines[1][0], log.lines[1][2]["reason"], log.lines[1][2]["by"]) == ("warning", reason, "com.node3")
    assert events._counters is not None
    stats = events._counters.stats()["a"]
    assert (stats.held, stats.acquired, stats.lost) == (0, 1, {reason: 1})


@pytest.mark.parametrize(("done", "event"), [(True, "lock_released"), (False, "lock_not_released")])
def test_a_release_is_logged_as_it_ended(done: bool, event: str, events: LockEvents, log: Log) -> None:
    lease = lease_of()
    events.acquired(lease, 0.3)
    events.released(lease, done=done)
    assert log.names() == ["lock_acquired", event]
    assert events._counters is not None
    assert (events._counters.stats()["a"].held, events._counters.stats()["a"].lost) == (0, {})


def test_without_a_log_and_counters_nothing_happens() -> None:
    events = LockEvents("a")
    events.acquired(lease_of(), 0.1)
    events.renewal_failed(lease_of(), "no answer", left=1)
    events.lost(lease_of(), detail="why")
    events.released(lease_of(), done=True)


def test_in_a_program_without_structlog_the_standard_library_gets_the_events(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(__import__("sys").modules, "structlog")
    with caplog.at_level(logging.INFO, logger="remaphore"):
        LockEvents("a", log=LibraryLogger()).acquired(lease_of(), 0.25)
        LibraryLogger().debug("lock_renewed")
    assert [record.getMessage() for record in caplog.records] == [
        "lock_acquired lock=a slot=0 token=7 waited_seconds=0.25"
    ]
