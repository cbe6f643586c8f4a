"""What the records of a slot say, and what ends a lease."""

import pytest

from remaphore.errors import LeaseLostError
from remaphore.protocol import lease, record
from remaphore.protocol.lease import Lease, ObservedSlot, Sendings, Terms, judge
from remaphore.protocol.record import Entry
from tests.harness.factories import make_key

LEFT, RIGHT, ADMIN, STRANGER = (make_key(number) for number in range(1, 5))
MAY = {
    LEFT.public: {"lock:deploy"},
    RIGHT.public: {"lock:deploy"},
    ADMIN.public: {"evict:deploy"},
}
TERMS = Terms("deploy", 1, 30.0, lambda sender, verb: verb in MAY.get(sender, ()))
JUNK = b"junk"


class Stream:
    """The records of one slot; `add` stores what is signed to follow the last one."""

    def __init__(self):
        self.entries = []

    @property
    def last(self):
        return self.entries[-1] if self.entries else None

    def put(self, raw):
        entry = Entry(100 + len(self.entries), "remaphore.coord.lock.deploy.0", raw)
        self.entries.append(entry)
        return entry

    def add(self, key, do, *, verb="lock:deploy", follows="last", **fields):
        follows = self.last if follows == "last" else follows
        said = {"do": do, "slot": 0, "slots": 1, "session": key.public[:8], "ttl_ms": 20_000, **fields}
        return self.put(record.make(key, verb, said, count=len(self.entries), follows=follows))

    def evict(self, key, session, **fields):
        return self.add(key, "evict", verb="evict:deploy", session=session, **fields)

    def judge(self, terms=TERMS):
        return judge(self.entries, slot=0, terms=terms)


@pytest.fixture
def stream():
    return Stream()


def test_a_slot_without_records_is_free(stream):
    assert stream.judge() == lease.Judgement(free=True)


def test_a_held_slot_is_quiet_for_the_holders_time_to_live_and_not_for_ours(stream):
    stream.add(LEFT, "hold", ttl_ms=7_500)
    found = stream.judge()
    assert (found.free, found.quiet, found.holder.sender, found.problem) == (False, 7.5, LEFT.public, "")


def test_a_time_to_live_that_is_absurd_or_missing_blocks_for_an_hour_and_no_longer(stream):
    stream.add(LEFT, "hold", ttl_ms=10**9)
    assert stream.judge().quiet == lease.MAX_TTL
    stream.add(LEFT, "hold", ttl_ms="soon")
    assert stream.judge().quiet == lease.MAX_TTL


def test_a_slot_is_free_after_the_free_of_its_session_and_of_no_other(stream):
    stream.add(LEFT, "hold")
    stream.add(RIGHT, "free")
    assert stream.judge().problem == "it is about another session"
    stream.add(LEFT, "free")
    assert stream.judge().free


def test_an_eviction_ends_nothing_for_a_waiter_until_the_holder_has_freed_the_slot(stream):
    stream.add(LEFT, "hold", session="one")
    stream.evict(ADMIN, "one")
    assert (stream.judge().free, stream.judge().quiet) == (False, 30.0)
    stream.add(LEFT, "free", session="one")
    assert stream.judge().free


def test_an_eviction_with_now_frees_the_slot_of_the_session_that_it_names(stream):
    stream.add(LEFT, "hold", session="one")
    stream.evict(ADMIN, "another", now=True)
    assert not stream.judge().free
    stream.evict(ADMIN, "one", now=True)
    assert stream.judge().free


def test_an_administrator_frees_a_slot_whose_history_is_full_of_junk(stream):
    for _ in range(lease.HISTORY):
        stream.put(JUNK)
    assert stream.judge().quiet == lease.MAX_TTL
    stream.evict(ADMIN, "whoever", now=True)
    assert judge(stream.entries[-lease.HISTORY :], slot=0, terms=TERMS).free


@pytest.mark.parametrize(
    ("add", "problem"),
    [
        (lambda stream: stream.put(JUNK), "it is no record, or its signature is invalid"),
        (lambda stream: stream.add(STRANGER, "free"), "its sender may not use lock:deploy"),
        (lambda stream: stream.evict(LEFT, "one", now=True), "its sender may not use evict:deploy"),
        (lambda stream: stream.add(LEFT, "free", session="one", slot=1), "it was signed for another slot"),
        (lambda stream: stream.add(LEFT, "free", session="one", slots=2), "it was signed for 2 slots"),
        (lambda stream: stream.add(LEFT, "define", session="one"), "its action is unknown"),
        (
            lambda stream: stream.add(ADMIN, "free", verb="evict:deploy", session="one", now=True),
            "its action is unknown",
        ),
        (
            lambda stream: stream.add(LEFT, "free", session="one", follows=None),
            "it was signed for another place: a copy of an older record",
        ),
    ],
)
def test_what_is_not_valid_is_junk_that_blocks_and_does_not_hide_the_holder(stream, add, problem):
    stream.add(LEFT, "hold", session="one", ttl_ms=50_000)
    add(stream)
    found = stream.judge()
    assert (found.free, found.problem, found.quiet, found.holder.sender) == (False, problem, 50.0, LEFT.public)


def test_a_free_that_is_stored_again_over_a_later_hold_frees_nothing(stream):
    stream.add(LEFT, "hold", session="one")
    freed = stream.add(LEFT, "free", session="one")
    stream.add(RIGHT, "hold")
    stream.put(freed.raw)
    found = stream.judge()
    assert (found.free, found.holder.sender) == (False, RIGHT.public)


def test_junk_that_has_pushed_the_holder_out_of_the_history_blocks_for_the_longest_time(stream):
    stream.add(LEFT, "hold", ttl_ms=3_000_000)
    for _ in range(lease.HISTORY):
        stream.put(JUNK)
    found = judge(stream.entries[-lease.HISTORY :], slot=0, terms=TERMS)
    assert (found.holder, found.quiet) == (None, lease.MAX_TTL)


def test_of_junk_alone_that_pushed_nothing_out_our_own_time_to_live_is_enough(stream):
    stream.put(JUNK)
    assert stream.judge().quiet == TERMS.ttl


def test_a_slot_may_be_taken_after_the_quiet_time_with_its_margin_by_our_clock(stream):
    slot = ObservedSlot(0, TERMS)
    assert slot.free_from() == float("inf")
    stream.add(LEFT, "hold")
    assert slot.observe(stream.entries, now=1000.0)
    due = 1000.0 + 20 * lease.CLOCK_RATE + lease.MARGIN
    assert slot.free_from() == due
    assert not slot.may_take(due - 0.001)
    assert slot.may_take(due)
    slot.observe(stream.entries, now=1010.0)
    assert slot.free_from() == due  # seen again, not new
    stream.add(LEFT, "hold")
    slot.observe(stream.entries, now=1010.0)
    assert slot.free_from() == due + 10


def test_a_slot_that_is_free_may_be_taken_at_once(stream):
    slot = ObservedSlot(0, TERMS)
    assert slot.observe([], now=5.0)
    assert slot.last is None
    assert slot.may_take(5.0)


def test_an_older_answer_changes_nothing_unless_the_leader_gives_it(stream):
    slot = ObservedSlot(0, TERMS)
    first = stream.add(LEFT, "hold")
    second = stream.add(LEFT, "free")
    slot.observe(stream.entries, now=1.0)
    assert not slot.observe([first], now=2.0)
    assert not slot.observe([], now=2.0)
    assert slot.last == second
    assert slot.observe([first], now=3.0, from_leader=True)
    assert (slot.last, slot.since, slot.may_take(3.0)) == (first, 3.0, False)


def test_another_record_with_a_known_sequence_number_starts_the_quiet_time_again(stream):
    slot = ObservedSlot(0, TERMS)
    stream.put(JUNK)
    slot.observe(stream.entries, now=1.0)
    slot.observe([stream.last._replace(raw=b"set back")], now=9.0)
    assert slot.since == 9.0


@pytest.fixture
def held(stream):
    """A lease of LEFT, taken by a record that was sent at 1000."""
    slot, sendings = ObservedSlot(0, TERMS), Sendings()
    slot.observe([], now=999.0)
    stored = stream.add(LEFT, "hold", session="one")
    sendings.note(stored.raw, now=1000.0)
    sendings.note(stored.raw, now=1005.0)  # sent again: the first time counts
    return Lease.taken(slot, stored, session="one", sendings=sendings)


def test_a_lease_lasts_its_time_to_live_from_the_first_sending(held):
    assert (held.token, held.deadline) == (100, 1030.0)


def test_a_confirmed_renewal_moves_the_deadline_and_an_older_one_does_not_move_it_back(held, stream):
    late = stream.add(LEFT, "hold", session="one")
    held.sendings.note(late.raw, now=1003.0)
    renewed = stream.add(LEFT, "hold", session="one")
    held.sendings.note(renewed.raw, now=1010.0)
    held.confirm(renewed)
    assert (held.last, held.deadline, held.token) == (renewed, 1040.0, 100)
    held.confirm(late)
    assert held.deadline == 1040.0


def test_a_renewal_whose_confirmation_was_lost_counts_and_junk_is_followed(held, stream):
    renewed = stream.add(LEFT, "hold", session="one")
    held.sendings.note(renewed.raw, now=1010.0)
    junk = stream.put(JUNK)
    held.review([renewed, junk], now=1039.0)
    assert (held.last, held.deadline, held.lost, held.sendings.empty) == (junk, 1040.0, "", False)
    held.sendings.forget()
    assert held.sendings.empty
    assert held.sendings.first(renewed.raw) is None


@pytest.mark.parametrize(
    ("add", "message", "by"),
    [
        (lambda stream: stream.add(RIGHT, "hold"), "taken", RIGHT),
        (lambda stream: stream.evict(ADMIN, "one"), "evicted", ADMIN),
    ],
)
def test_a_lease_is_lost_to_a_holder_that_may_hold_and_to_an_eviction_of_its_session(held, stream, add, message, by):
    stream.put(JUNK)
    add(stream)
    with pytest.raises(LeaseLostError) as caught:
        held.review(stream.entries[1:], now=1029.0)
    assert (str(caught.value), caught.value.by, held.lost) == (message, by.public, message)


def test_after_the_deadline_anything_that_is_not_ours_ends_the_lease(held, stream):
    renewed = stream.add(LEFT, "hold", session="one")
    held.sendings.note(renewed.raw, now=1010.0)
    held.review([renewed], now=1045.0)
    with pytest.raises(LeaseLostError, match="its time to live is over"):
        held.review([stream.put(JUNK)], now=1040.0)


@pytest.mark.parametrize(
    "add",
    [
        lambda stream: stream.add(STRANGER, "hold"),
        lambda stream: stream.add(RIGHT, "hold", follows=None),
        lambda stream: stream.add(RIGHT, "free"),
        lambda stream: stream.add(LEFT, "hold", session="one"),  # ours, of a copy of this process
        lambda stream: stream.evict(ADMIN, "two", now=True),
        lambda stream: stream.evict(RIGHT, "one"),
    ],
)
def test_nothing_else_ends_a_lease(held, stream, add):
    add(stream)
    held.review(stream.entries[1:], now=1029.0)
    assert (held.last, held.deadline) == (stream.last, 1030.0)
