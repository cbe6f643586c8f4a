"""The line of those who wait for a lock. Pure: tickets and the time are passed in.

A ticket is a record (see `record`) on the subject of a session in the stream of waiters. Its place is the sequence
number that its first one got there; the waiter repeats it while it waits. Only fairness depends on tickets: one that is
lost, forged or sent again makes a node try too early or too late, and compare-and-set on the slot decides.

Example: A waits at place 7, B at 9, and the only slot is freed. A tries at once, B after HANDOVER, in which A has taken
the slot, unless A is dead. So a dead waiter costs the next one HANDOVER, and not a time to live.

While the connection is lost, tickets are repeated and withdrawn unheard, and those in the stream expire. So after it
(`after_gap`), what was known counts a little longer, in which all who still wait repeat their tickets. That happens
once for each time that a ticket is heard: else the tickets of those who have left would count for ever on a broker that
is restarted again and again, and who waits long would let all newcomers, who do not know them, go first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from remaphore.protocol.lease import Terms
from remaphore.protocol.record import Entry

TICKET_TTL = 15.0  # seconds for which a ticket counts
REFRESH = 5.0  # seconds after which a waiter repeats its ticket
EXPIRY = 2.0  # seconds by which the broker, which counts whole seconds, may remove a ticket too early
HANDOVER = 0.4  # seconds by which each waiter lets the one before it go first
MAX_TURN = 5.0  # seconds: old tickets that are sent again delay no node longer
MAX_TICKETS = 1000  # that are remembered; those of the last places are forgotten
_LAST_PLACE = 2**53


@dataclass(frozen=True, slots=True)
class Ticket:
    """A node that waits. place: smaller is earlier. count: of its record. heard: when. until: when it ends to count."""

    session: str
    place: int
    sender: str
    host: str
    pid: int
    count: int
    heard: float
    until: float


class Line:
    """The line, as one waiter knows it. All times are seconds of one clock that is never set."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._tickets: dict[str, Ticket] = {}

    def note(self, entry: Entry, *, now: float) -> bool:
        """Take note of a ticket that came at *now*; return whether the line is another one by that.

        entry: its sequence number is 0 if it is not known.
        """
        found = self._terms.read(entry, self._terms.lock_verb)
        if found is None or not self._terms.may(found.sender, self._terms.lock_verb):
            return False
        session, count = found.text("session"), found.number("n")
        known = self._tickets.get(session)
        if entry.subject.rpartition(".")[2] != session or (known is not None and count < known.count):
            return False  # carried to another subject, or sent again
        if found.text("do") == "leave":
            return self._tickets.pop(session, None) is not None
        place = found.number("place")
        place = place if place > 0 else entry.sequence
        if found.text("do") != "wait" or place == 0:
            return False
        pid = found.number("pid")
        if known is None:
            self._tickets = {each: ticket for each, ticket in self._tickets.items() if ticket.until > now}
        host, until = found.text("host"), now + TICKET_TTL
        self._tickets[session] = Ticket(session, place, found.sender, host, pid, count, now, until)
        if len(self._tickets) > MAX_TICKETS:
            self._tickets = {ticket.session: ticket for ticket in self.waiting(now)[:MAX_TICKETS]}
        return known is None or known.place != place

    def after_gap(self, now: float) -> None:
        """Take note that nothing was heard for some time: no node is out of the line by that alone."""
        for session, ticket in self._tickets.items():
            if ticket.until == ticket.heard + TICKET_TTL:
                self._tickets[session] = replace(ticket, until=max(ticket.until, now + REFRESH))

    def reconcile(self, stored: Iterable[Entry], *, asked: float, now: float) -> None:
        """Take note of all tickets in the stream, which was *asked* at that time, and came at *now*.

        A ticket that is not there any more, although it has not expired, was withdrawn.
        """
        sessions = set()
        for entry in stored:
            sessions.add(entry.subject.rpartition(".")[2])
            self.note(entry, now=now)
        self._tickets = {
            session: ticket
            for session, ticket in self._tickets.items()
            if session in sessions or ticket.heard > asked or ticket.heard <= asked - TICKET_TTL + EXPIRY
        }

    def waiting(self, now: float) -> list[Ticket]:
        """Return the tickets that count, in order."""
        alive = (ticket for ticket in self._tickets.values() if ticket.until > now)
        return sorted(alive, key=lambda ticket: (ticket.place, ticket.session))

    def place(self, sequence: int, *, now: float) -> int:
        """Return the place of a ticket that was stored with this *sequence* number: after all that are known.

        Sequence numbers start again if the stream of waiters is lost.
        """
        return min(_LAST_PLACE, max([sequence, *(ticket.place + 1 for ticket in self.waiting(now))]))

    def ahead(self, session: str, place: int, *, now: float) -> int:
        """Return how many others wait before the *session* with this *place*; 0 for a session without a ticket yet."""
        others = (ticket for ticket in self.waiting(now) if ticket.session != session)
        return sum(1 for ticket in others if not place or (ticket.place, ticket.session) < (place, session))


def turn(ahead: int, free: int) -> float:
    """Return how many seconds after a slot became free we try it, with so many waiters *ahead* and slots *free*."""
    return min(MAX_TURN, max(0, ahead - free + 1) * HANDOVER)
