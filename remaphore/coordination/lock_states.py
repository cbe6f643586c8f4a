"""Who holds locks, who waits for them, and ending the lease of another node: for administrators."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from remaphore.config.settings import Config
from remaphore.coordination.guardian import boottime
from remaphore.coordination.jetstream import JetStream
from remaphore.coordination.lock_records import (
    DEFINITION,
    MAX_SLOTS,
    Holder,
    check_name,
    definition_in,
    holder_of,
    may_use,
    name_of,
)
from remaphore.errors import SequenceConflictError
from remaphore.protocol import record
from remaphore.protocol.lease import MAX_TTL, Terms, judge
from remaphore.protocol.line import Line
from remaphore.protocol.record import Entry, Record

_AT_ONCE = 16  # locks that are read at a time
_TRIES = 20  # to write an eviction, while the holder renews or junk comes
_count = itertools.count(secrets.randbits(48))


@dataclass(frozen=True, slots=True)
class Waiter:
    """Who waits; the fields are those of `Holder`."""

    who: str
    known: bool
    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class SlotState:
    """A slot. holder: who holds it, or held it before the last record, which is junk; None if it is free.

    problem: why the last record is junk. It blocks the slot until it has been the last for some time, or is evicted.
    evicted: by whom the holder is told to end, else empty.
    """

    index: int
    holder: Holder | None
    problem: str = ""
    evicted: str = ""


@dataclass(frozen=True, slots=True)
class LockState:
    """A lock. slots: the state of each. waiters: in order. problem: what is wrong with the number of its slots."""

    name: str
    slots: tuple[SlotState, ...]
    waiters: tuple[Waiter, ...]
    problem: str = ""


async def states(jetstream: JetStream, config: Config, name: str | None = None) -> list[LockState]:
    """Return the state of each lock that was taken in the last 30 days, or of that with this *name*, by name.

    Raise UsageError, CoordinationUnavailableError or TransportError.
    """
    if name is None:
        found = await jetstream.subjects(f"{jetstream.root}.coord.lock.*.*")
    else:  # by their subjects: all that there are below the name may be junk, and too many for a response
        check_name(name)
        lasts = (f"{jetstream.root}.coord.lock.{name}.{last}" for last in (DEFINITION, *range(MAX_SLOTS)))
        found = [entry.subject for entry in await jetstream.latest(jetstream.records, *lasts)]
    places: dict[str, set[str]] = {}
    for where in found:
        *_, lock, last = where.split(".")
        if record.name_problem(lock) is None:
            places.setdefault(lock, set()).add(last)
    limit = asyncio.Semaphore(_AT_ONCE)

    async def state(lock: str) -> LockState:
        async with limit:
            return await _state(jetstream, config, lock, places[lock])

    return list(await asyncio.gather(*map(state, sorted(places))))


async def evict(jetstream: JetStream, config: Config, name: str, *, now: bool = False) -> list[SlotState]:
    """End the leases of the lock *name*; return the slots that were not free.

    Their holders end their commands, and then free them. now: the slots may be taken before that, so that the commands
    of two holders may run at one time; also what junk blocks can be taken then. Raise NotPermittedError if the default
    identity has no verb `evict:NAME`, UsageError, CoordinationUnavailableError or TransportError.
    """
    check_name(name)
    key = config.sender(f"evict:{name}").load()
    ended = []
    for state in await states(jetstream, config, name):
        for found in state.slots:
            if found.holder is None and not found.problem:
                continue
            where = f"{jetstream.root}.coord.lock.{name}.{found.index}"
            for _ in range(_TRIES):
                history = await jetstream.history(where)
                terms = _terms(config, name, len(state.slots))
                judged = judge(history, slot=found.index, terms=terms)
                if judged.free:
                    break
                holder = judged.holder or terms.signed(history[-1])  # the latter: a signer whom we do not know
                session = holder.text("session") if holder else ""
                said = {"do": "evict", "slot": found.index, "session": session, "now": now}
                raw = record.make(key, terms.evict_verb, said, count=next(_count), follows=history[-1])
                try:
                    await jetstream.publish(where, raw, after=history[-1].sequence)
                except SequenceConflictError:
                    continue
                ended.append(found)
                break
            else:
                text = f"{where}: others write faster than the eviction can be written"
                raise SequenceConflictError(text, hint="find out who floods it, and revoke that login")
    return ended


def _terms(config: Config, name: str, slots: int) -> Terms:
    return Terms(name, slots, MAX_TTL, may_use(config))


async def _state(jetstream: JetStream, config: Config, name: str, places: set[str]) -> LockState:
    prefix = f"{jetstream.root}.coord.lock.{name}"
    slots, problem = _slots(config, name, await jetstream.history(f"{prefix}.{DEFINITION}"))
    numbers = {int(place) for place in places if place.isascii() and place.isdigit() and len(place) < 4}
    indexes = sorted(numbers | set(range(slots)))
    terms = _terms(config, name, slots or 1)
    histories = await asyncio.gather(*(jetstream.history(f"{prefix}.{index}") for index in indexes))
    line = Line(terms)
    for entry in await jetstream.latest(jetstream.queue, f"{jetstream.root}.queue.lock.{name}.*"):
        line.note(entry, now=boottime())
    waiters = []
    for ticket in line.waiting(boottime()):
        who, known = name_of(config, ticket.sender)
        waiters.append(Waiter(who, known, ticket.host, max(0, ticket.pid)))
    judged = (_slot(config, terms, index, history) for index, history in zip(indexes, histories, strict=True))
    return LockState(name, tuple(judged), tuple(waiters), problem)


def _slots(config: Config, name: str, history: Sequence[Entry]) -> tuple[int, str]:
    """Return the number of slots as it is defined, 0 if it is not, and what is wrong with the definition."""
    terms = _terms(config, name, 1)
    found = definition_in(history, terms)
    if found is not None or not history:
        return found.number("slots") if found else 0, ""
    said = record.read(history[-1], terms.lock_verb)
    if said is None:
        return 0, "no record defines the number of slots"
    who = name_of(config, said.sender)[0]
    return max(0, said.number("slots")), f"defined by {who}, which may not use {terms.lock_verb} here"


def _slot(config: Config, terms: Terms, index: int, history: Sequence[Entry]) -> SlotState:
    judged = judge(history, slot=index, terms=terms)
    last = terms.signed(history[-1]) if history else None
    holder: Record | None = None if judged.free else judged.holder
    if holder is None and judged.problem and last is not None and last.text("do") == "hold":
        holder = last  # of a node that we do not know
    evicted = ""
    if last is not None and last.verb == terms.evict_verb and not judged.free and not judged.problem:
        evicted = name_of(config, last.sender)[0]
    return SlotState(index, holder_of(config, holder) if holder else None, judged.problem, evicted)
