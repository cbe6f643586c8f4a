"""Who is before whom in the line of a lock."""

import pytest

from remaphore.protocol import line as lines
from remaphore.protocol import record
from remaphore.protocol.lease import Terms
from remaphore.protocol.line import HANDOVER, MAX_TURN, REFRESH, TICKET_TTL, Line, turn
from remaphore.protocol.record import Entry
from tests.harness.factories import make_key

STRANGER = 9
TERMS = Terms("a", 1, 30.0, lambda sender, verb: sender != make_key(STRANGER).public and verb == "lock:a")


def ticket(number, place=0, *, do="wait", count=1, sequence=0, at=None, verb="lock:a"):
    """The ticket of a node, whose session is its number."""
    said = {"do": do, "session": str(number), "place": place, "host": "web1", "pid": 7}
    raw = record.make(make_key(number), verb, said, count=count, follows=None)
    return Entry(sequence, f"remaphore.queue.lock.a.{number if at is None else at}", raw)


@pytest.fixture
def line():
    return Line(TERMS)


def test_places_decide_not_the_order_of_arrival(line):
    assert line.note(ticket(2, 20), now=1.0)
    assert line.note(ticket(1, 10), now=2.0)
    assert line.note(ticket(3, sequence=15), now=3.0)  # read from the stream: its first one
    assert [each.session for each in line.waiting(3.0)] == ["1", "3", "2"]
    assert (line.waiting(3.0)[0].host, line.waiting(3.0)[0].pid) == ("web1", 7)
    assert line.ahead("2", 20, now=3.0) == 2
    assert line.ahead("1", 10, now=3.0) == 0
    assert line.ahead("new", 0, now=3.0) == 3
    assert line.ahead("0", 10, now=3.0) == 0  # of two with one place, the same is first everywhere
    assert line.ahead("11", 10, now=3.0) == 1


def test_a_ticket_ends_by_leaving_and_when_it_is_not_repeated(line):
    line.note(ticket(1, 10), now=0.0)
    line.note(ticket(2, 20), now=0.0)
    assert not line.note(ticket(1, 10, count=2), now=10.0)
    assert line.ahead("3", 30, now=TICKET_TTL) == 1
    assert line.note(ticket(1, 10, do="leave", count=3), now=TICKET_TTL)
    assert not line.note(ticket(1, 10, do="leave", count=4), now=TICKET_TTL)
    assert line.waiting(TICKET_TTL) == []


def test_nobody_is_out_of_the_line_because_the_broker_was_away(line):
    line.note(ticket(1, 10), now=0.0)
    line.after_gap(100.0)
    line.reconcile([], asked=100.0, now=100.1)  # it has expired meanwhile, and may be repeated every moment
    assert line.ahead("2", 20, now=100.0) == 1
    line.note(ticket(1, 10, count=2), now=101.0)
    line.after_gap(200.0)
    assert line.ahead("2", 20, now=200.0) == 1


@pytest.mark.parametrize("gaps", [(1.0,), (14.0, 18.0), range(100)])
def test_a_ticket_that_is_not_repeated_ends_however_often_the_connection_is_lost(line, gaps):
    line.note(ticket(1, 10), now=0.0)
    for gap in gaps:
        line.after_gap(gap)
    assert line.ahead("2", 20, now=gaps[0]) == 1
    assert line.ahead("2", 20, now=TICKET_TTL + REFRESH) == 0


def test_a_ticket_that_ended_before_the_connection_was_lost_does_not_count_again(line):
    line.note(ticket(1, 10), now=0.0)
    line.note(ticket(2, 20), now=TICKET_TTL)
    line.after_gap(TICKET_TTL + 1)
    assert [each.session for each in line.waiting(TICKET_TTL + 1)] == ["2"]


def test_who_left_unheard_is_out_of_the_line_as_soon_as_it_is_read_again(line):
    for number in (1, 2, 3, 4):
        line.note(ticket(number, 10 * number), now=0.0)
    line.after_gap(5.0)
    line.note(ticket(4, 40, count=2), now=6.0)  # heard after we asked, so not yet in the answer
    line.reconcile([ticket(2, 20), ticket(3, 30, do="leave", count=2)], asked=5.5, now=6.1)
    assert [each.session for each in line.waiting(6.1)] == ["2", "4"]


@pytest.mark.parametrize(
    "entry",
    [
        ticket(STRANGER, 1),
        ticket(1, 1, verb="lock:b"),
        ticket(1, 1, at=2),  # carried to the subject of another session
        ticket(1, 1, do="hold"),
        ticket(1),  # its place is not known yet
        ticket(1, 2**60),
        Entry(5, "remaphore.queue.lock.a.1", b"junk"),
    ],
)
def test_anything_else_is_no_ticket(line, entry):
    assert not line.note(entry, now=0.0)
    assert line.waiting(0.0) == []


def test_an_old_ticket_that_is_sent_again_changes_nothing(line):
    line.note(ticket(1, 10, count=5), now=0.0)
    assert not line.note(ticket(1, 10, do="leave", count=4), now=1.0)
    assert not line.note(ticket(1, 3, count=4), now=1.0)
    assert line.ahead("2", 5, now=1.0) == 0


def test_a_new_place_is_after_all_others_also_where_sequence_numbers_start_again(line):
    assert line.place(7, now=0.0) == 7
    line.note(ticket(1, 1000), now=0.0)
    assert line.place(8, now=0.0) == 1001
    assert line.place(2000, now=0.0) == 2000
    line.note(ticket(2, 2**53), now=0.0)
    assert line.place(8, now=0.0) == 2**53


def test_the_first_places_are_remembered_of_too_many(line, monkeypatch):
    monkeypatch.setattr(lines, "MAX_TICKETS", 3)
    for number in (5, 4, 3, 2, 1):
        line.note(ticket(number, number), now=0.0)
    assert [each.place for each in line.waiting(0.0)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("ahead", "free", "steps"), [(0, 1, 0), (1, 1, 1), (2, 1, 2), (2, 3, 0), (3, 3, 1), (4, 3, 2), (0, 3, 0)]
)
def test_as_many_try_at_once_as_slots_are_free(ahead, free, steps):
    assert turn(ahead, free) == pytest.approx(steps * HANDOVER)


def test_nobody_waits_long_for_others_who_do_not_come():
    assert turn(1000, 1) == MAX_TURN
