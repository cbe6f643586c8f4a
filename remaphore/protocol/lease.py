"""Who may take a slot of a lock, and how long its holder may use it. Pure: records and the time are passed in.

A slot is a subject of an append-only stream; what happens to it is written there as records (see `record`), each with
compare-and-set on the last message. A waiter may write a `hold`, and so take the slot, only if the last message

    is not there at all, or
    frees the slot: `free` by the session that held it, or `evict` with `now` by a peer that may evict, or
    has been the last one for the holder's time to live and a margin, by the waiter's own clock.

Whatever is not understood is junk, and blocks: it makes a waiter wait, and never frees.

Why no two hold a slot: the command of a holder has ended when its time to live is over, and that counts from *before*
its last confirmed record was sent for the first time. A waiter counts a longer time from *after* it saw that record or
a newer one. So no two clocks are compared, only their rates: `CLOCK_RATE` is how much they may differ. A holder that
renews meanwhile changes the last message, and the waiter's compare-and-set fails.

Example, ttl 10 s: the holder sends a renewal at its second 100, the broker confirms it at 103; the command ends at 110
unless a further one is confirmed. A waiter sees that renewal at its second 5003, and writes at 5013.8 at the earliest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from remaphore.errors import LeaseLostError
from remaphore.protocol import record
from remaphore.protocol.record import Entry, Record

CLOCK_RATE = 1.05  # of two machines' clocks that count the same time; quartz differs by 0.0001
MARGIN = 0.3  # seconds
MAX_TTL = 3600.0  # seconds: no record blocks a slot longer
HISTORY = 16  # records that the stream keeps for each slot
# Causes with which a lease is lost. After an eviction, it is still to be freed.
EVICTED = "evicted"
TAKEN = "taken"
SET_BACK = "the broker no longer has our record: its data was lost, or set back"


@dataclass(frozen=True, slots=True)
class Terms:
    """By what the records of one lock are judged.

    name: of the lock. slots: how many nodes may hold it. ttl: our own time to live, in seconds. may: whether the owner
    of a key may use a verb, as we have configured. read: returns the record in an entry if it has this verb.
    """

    name: str
    slots: int
    ttl: float
    may: Callable[[str, str], bool]
    read: Callable[[Entry, str], Record | None] = record.read

    @property
    def lock_verb(self) -> str:
        """The verb of those who take and free the lock."""
        return f"lock:{self.name}"

    @property
    def evict_verb(self) -> str:
        """The verb of those who end a lease of another node."""
        return f"evict:{self.name}"

    def signed(self, entry: Entry) -> Record | None:
        """Return the record in *entry*, whoever signed it."""
        return self.read(entry, self.lock_verb) or self.read(entry, self.evict_verb)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the records of a slot say.

    free: it may be taken now. quiet: seconds for which the last record must not change before it may be taken. holder:
    the last valid `hold`, of the session that holds the slot or held it last. problem: why the last record is junk.
    """

    free: bool = False
    quiet: float = 0.0
    holder: Record | None = None
    problem: str = ""


def judge(history: Sequence[Entry], *, slot: int, terms: Terms) -> Judgement:
    """Judge a slot by its last records, oldest first, as many as the stream has of it."""
    if not history:
        return Judgement(free=True)
    before = history[-2] if len(history) > 1 else None
    last = terms.signed(history[-1])
    problem = _problem(last, before, slot=slot, terms=terms)
    if last is not None and not problem and last.text("do") == "hold":
        return Judgement(quiet=ttl_of(last), holder=last)
    holder = _holder(history[:-1], slot, terms)
    if last is None or problem:
        return Judgement(quiet=_longest_ttl(history, holder, terms), holder=holder, problem=problem)
    if holder is not None and last.text("session") != holder.text("session"):
        quiet = _longest_ttl(history, holder, terms)
        return Judgement(quiet=quiet, holder=holder, problem="it is about another session")
    if last.verb == terms.evict_verb and last.fields.get("now") is not True:  # the holder still ends its command
        return Judgement(quiet=_longest_ttl(history, holder, terms), holder=holder)
    return Judgement(free=True, holder=holder)


def ttl_of(hold: Record) -> float:
    """Return the time to live that a record states, in seconds, at most MAX_TTL; MAX_TTL if it states none."""
    milliseconds = hold.number("ttl_ms")
    return min(milliseconds / 1000, MAX_TTL) if milliseconds >= 0 else MAX_TTL


def _problem(last: Record | None, before: Entry | None, *, slot: int, terms: Terms) -> str:
    """Return why *last*, which is stored right after *before*, means nothing; empty if it is valid."""
    if last is None:
        return "it is no record, or its signature is invalid"
    evicts = last.verb == terms.evict_verb
    problems = {
        f"its sender may not use {last.verb}": not terms.may(last.sender, last.verb),
        "it was signed for another slot": last.number("slot") != slot,
        "it was signed for another place: a copy of an older record": not last.stands(before),
        "its action is unknown": last.text("do") not in (("evict",) if evicts else ("hold", "free")),
        f"it was signed for {last.number('slots')} slots": not evicts and last.number("slots") != terms.slots,
    }
    return next((problem for problem, found in problems.items() if found), "")


def _holder(history: Sequence[Entry], slot: int, terms: Terms) -> Record | None:
    """Return the last valid `hold` in *history*."""
    for place in reversed(range(len(history))):
        found = terms.read(history[place], terms.lock_verb)
        before = history[place - 1] if place else None
        if found is not None and found.text("do") == "hold" and not _problem(found, before, slot=slot, terms=terms):
            return found
    return None


def _longest_ttl(history: Sequence[Entry], holder: Record | None, terms: Terms) -> float:
    """Return for how long another node may use the slot at most, by what is in sight: in seconds.

    Also the time to live of an unknown signer counts: it can only make us wait, and it may be the holder's, whom we do
    not know. Where the history is full of junk, the record of a holder may have been pushed out of it.
    """
    if holder is None and len(history) >= HISTORY:
        return MAX_TTL
    records = (terms.signed(entry) for entry in history)
    stated = [ttl_of(found) for found in records if found is not None and found.number("ttl_ms") >= 0]
    return max([terms.ttl, *stated])


class ObservedSlot:
    """A slot as one waiter has observed it. All times are seconds of one clock that cannot be set."""

    def __init__(self, index: int, terms: Terms) -> None:
        self.index = index
        self.terms = terms
        self.judgement = Judgement()
        self.history: tuple[Entry, ...] = ()
        self.since: float | None = None  # when the last record was seen to be the last; None: nothing is known

    @property
    def last(self) -> Entry | None:
        """The last record, which the next one has to follow."""
        return self.history[-1] if self.history else None

    def observe(self, history: Sequence[Entry], *, now: float, from_leader: bool = False) -> bool:
        """Take note of the records in the stream; *now* is when they came. Return False if they are older than known.

        Any replica may have answered, and be behind. from_leader: the answer is the truth, also where it is older:
        the broker's data was set back.
        """
        known, last = self.last, history[-1] if history else None
        if self.since is not None and not from_leader and _sequence(last) < _sequence(known):
            return False
        if self.since is None or last != known:
            self.since = now
        self.history = tuple(history[-HISTORY:])
        self.judgement = judge(self.history, slot=self.index, terms=self.terms)
        return True

    def free_from(self) -> float:
        """Return from when on the slot may be taken, if nothing changes until then."""
        if self.since is None:
            return float("inf")
        return self.since if self.judgement.free else self.since + self.judgement.quiet * CLOCK_RATE + MARGIN

    def may_take(self, now: float) -> bool:
        """Return whether the slot may be taken now, by compare-and-set on `last`."""
        return now >= self.free_from()


class Sendings:
    """When records of ours were sent for the first time.

    An answer can be lost, and the same bytes be sent again. Which of both sendings was stored is not known, so the time
    to live counts from the first: counting from the last lets two nodes hold a lock (16 of 5,000 simulated schedules).
    """

    def __init__(self) -> None:
        self._first: dict[bytes, float] = {}

    @property
    def empty(self) -> bool:
        """Whether none is remembered."""
        return not self._first

    def note(self, raw: bytes, *, now: float) -> None:
        """Take note that *raw* is sent now."""
        self._first.setdefault(raw, now)

    def first(self, raw: bytes) -> float | None:
        """Return when *raw* was sent first, None if it is not ours."""
        return self._first.get(raw)

    def forget(self) -> None:
        """Forget all: a later record of ours is confirmed, and none of these can be stored any more."""
        self._first.clear()


@dataclass(slots=True)
class Lease:
    """A slot that we hold.

    session: of this acquisition, the same in all its records. token: the sequence number of its first record, which
    only grows from lease to lease. last: our last confirmed record, or the junk after it, which the next one follows.
    deadline: when the command must have ended, in seconds of our clock. lost: why it is no longer ours, empty while it
    is; after an eviction, only its `free` lets others in before its time to live is over. since: when it was taken, in
    Unix seconds, for people.
    """

    slot: int
    session: str
    terms: Terms
    token: int
    last: Entry
    deadline: float
    sendings: Sendings = field(default_factory=Sendings)
    lost: str = ""
    since: int = 0

    @classmethod
    def taken(cls, slot: ObservedSlot, stored: Entry, *, session: str, sendings: Sendings) -> Lease:
        """Return the lease that *stored* is the first record of: ours, as the broker has confirmed or shown it."""
        sent = sendings.first(stored.raw)
        assert sent is not None, "a record that we have not sent"
        deadline = sent + slot.terms.ttl
        return cls(slot.index, session, slot.terms, stored.sequence, stored, deadline, sendings)

    def confirm(self, stored: Entry) -> None:
        """Take note that the broker has a record of ours: the lease lasts its time to live from the first sending."""
        sent = self.sendings.first(stored.raw)
        assert sent is not None, "a record that we have not sent"
        self.last = stored
        self.deadline = max(self.deadline, sent + self.terms.ttl)

    def review(self, newer: Sequence[Entry], *, now: float) -> None:
        """Take note of what the stream has after `last`, in order; *now* is when that came.

        A record of ours, whose confirmation was lost, is confirmed. Junk is followed: it ends nothing while the lease
        lasts. Raise LeaseLostError if a record ends the lease; and after the deadline for anything that is not ours:
        junk may have pushed the record out with which another node has taken the slot, and a `free` of ours would let
        in a third.
        """
        for entry in newer:
            if self.sendings.first(entry.raw) is not None:
                self.confirm(entry)
                continue
            if now >= self.deadline:
                raise self.end("its time to live is over")
            found = self.terms.signed(entry)
            before, self.last = self.last, entry
            if found is None or _problem(found, before, slot=self.slot, terms=self.terms):
                continue
            if found.verb == self.terms.evict_verb:
                if found.text("session") == self.session:
                    raise self.end(EVICTED, by=found.sender)
            elif found.text("do") == "hold" and found.text("session") != self.session:
                raise self.end(TAKEN, by=found.sender)

    def end(self, why: str, *, by: str = "") -> LeaseLostError:
        """Take note that the lease is lost, and return the error to raise."""
        self.lost = why
        return LeaseLostError(why, by=by)


def _sequence(entry: Entry | None) -> int:
    return entry.sequence if entry else 0
