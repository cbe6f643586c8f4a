"""The counts of locks are right, bounded, and a copy."""

from remaphore.coordination.lock_counters import MAX_NAMES, LockCounters


def test_each_wait_is_in_its_bucket():
    counters = LockCounters()
    for seconds in (0.001, 0.01, 0.011, 3600, 3601):
        counters.acquired("a", seconds)
    stats = counters.stats()["a"]
    assert {bound: number for bound, number in stats.wait_buckets.items() if number} == {
        0.01: 2,
        0.05: 1,
        3600: 1,
        float("inf"): 1,
    }
    assert (stats.acquired, stats.held, stats.wait_seconds) == (5, 5, 0.001 + 0.01 + 0.011 + 3600 + 3601)
    counters.acquired("a", 1)
    assert stats.acquired == 5  # a copy


def test_names_without_end_share_one_count():
    counters = LockCounters()
    for number in range(2 * MAX_NAMES):
        counters.waiting(f"lock{number}", +1)
        counters.not_acquired("lock0")
    assert len(counters.stats()) == MAX_NAMES + 1
    assert counters.stats()[""].waiting == MAX_NAMES
    assert counters.stats()["lock0"].not_acquired == 2 * MAX_NAMES
