"""Taking a slot: agree on the number of slots, stand in line, and write a `hold` when the slot may be taken."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from remaphore.coordination.holding import RETRY, Holding, end_listening, sequence_of
from remaphore.coordination.jetstream import TIMEOUT, ApiError
from remaphore.coordination.lock_events import LockEvents, Waiting
from remaphore.coordination.lock_records import DEFINITION, LockRecords, definition_in, holder_of, name_of
from remaphore.errors import (
    BrokerUnavailableError,
    CoordinationUnavailableError,
    LeaseLostError,
    NoResponseError,
    SequenceConflictError,
    TransportError,
    UsageError,
)
from remaphore.protocol.lease import HISTORY, Lease, ObservedSlot, Sendings
from remaphore.protocol.line import REFRESH, TICKET_TTL, Line, turn
from remaphore.protocol.record import Entry
from remaphore.tasks import finished, spawn
from remaphore.transport.bus import Hear, Incoming

POLL = 2.0  # seconds after which a waiter looks, although it has heard nothing
# Seconds for which locks may be unavailable while we wait: a server that restarts answers at first as if JetStream were
# off.
PATIENCE = 10.0
WITHDRAW = 2.0  # seconds to take back what may have been stored, when we give up


class Acquisition:
    """One try to take a lock, which may last long. fair: stand in line."""

    def __init__(
        self, records: LockRecords, events: LockEvents, *, fair: bool, on_waiting: Callable[[Waiting], None]
    ) -> None:
        self._records = records
        self._clock = records.clock
        self._holding = Holding(records, events)
        self._fair = fair
        self._on_waiting = on_waiting
        self._session = secrets.token_hex(8)
        self._sendings = Sendings()
        self._slots = [ObservedSlot(index, records.terms) for index in range(records.terms.slots)]
        self._line = Line(records.terms)
        self._missed = False  # whether there may be tickets that we have not heard
        self._place = 0  # in the line, 0 without a ticket
        self._refresh = 0.0  # when the ticket is due
        self._changed = set(range(len(self._slots)))  # slots to look at
        self._hints: dict[int, int] = {}
        self._looked = float("-inf")
        self._turn = float("inf")  # when it is our turn to take what is free
        self._ready = False  # we have seen all slots once
        self._told: Waiting | None = None
        self._wake = asyncio.Event()

    async def take(self, wait: float | None) -> Lease | None:
        """Return the lease; None if it is not to be had within *wait* seconds (None: no limit)."""
        end = float("inf") if wait is None else self._clock() + wait
        try:
            async with self._listening(None if wait is None else max(wait, TIMEOUT)):
                lease = await self._take(end, at_once=wait == 0)
        except BaseException:
            await finished(spawn(self._leave(None), name="leave the line"))
            raise
        if lease is None:
            await self._leave(None)
        else:
            spawn(self._leave(lease), name="leave the line")  # the command need not wait for that
        return lease

    async def _take(self, end: float, *, at_once: bool) -> Lease | None:
        failing: float | None = None  # since when locks are unavailable
        while True:
            failure: TransportError | CoordinationUnavailableError | None = None
            try:
                lease = await self._step()
                if lease is not None:
                    return lease
                failing = None
            except (TransportError, CoordinationUnavailableError) as error:
                failure = error
                failing = self._clock() if failing is None else failing
                await self._judge_failure(error, failing)
            # With at_once, a slot that is free, but whose turn others have, is waited for: they may be gone.
            if self._clock() >= end and not (at_once and self._ready and self._turn < float("inf")):
                if failure is not None and not self._ready:
                    raise failure
                return None
            if failure is not None:
                self._tell(replace(self._told or Waiting((), 0), failure=str(failure)))
                await asyncio.sleep(RETRY)
            else:
                await self._pause(end if self._clock() < end else self._turn)

    async def _judge_failure(self, error: TransportError | CoordinationUnavailableError, since: float) -> None:
        """Raise why locks cannot be used here; return if it may be over later.

        A cluster that elects a leader answers as if there were no stream: only what it tells about the stream decides.
        """
        if isinstance(error, CoordinationUnavailableError):
            if not self._ready or not isinstance(error, ApiError) or self._clock() > since + PATIENCE:
                raise error
        elif isinstance(error, NoResponseError) and not self._ready:
            with contextlib.suppress(TransportError):
                await self._records.jetstream.check()

    async def _step(self) -> Lease | None:
        """Look, and take what may be taken."""
        if not self._ready:
            # Renewals ask the leader: what a login may not ask is an error now, and not after a third of the ttl.
            leader = self._records.jetstream.last(self._records.subject(DEFINITION))
            await asyncio.gather(leader, self._define(), self._read_line(), *map(self._look, self._slots))
            self._changed.clear()
            self._ready = True
        else:
            if self._missed:
                self._missed = False
                with contextlib.suppress(NoResponseError):  # order is all that depends on it
                    await self._read_line()
            await self._look_again()
        for slot in self._slots:
            lease = self._found(slot)
            if lease is not None and await self._is_fresh(lease):
                return lease
        lease = await self._take_free()
        if lease is None:
            await self._stand_in_line()
            self._tell(self._reason())
        return lease

    async def _define(self) -> None:
        """Agree on the number of slots: the first writes it. Raise UsageError if it is another one.

        What a node that may not take the lock has written counts as nothing.
        """
        records, where = self._records, self._records.subject(DEFINITION)
        for _ in range(HISTORY):
            history = await records.jetstream.history(where)
            found = definition_in(history, records.terms)
            if found is not None and found.number("slots") != records.terms.slots:
                who, _ = name_of(records.config, found.sender)
                text = f"lock {records.name} has {found.number('slots')} slots, defined by {who}"
                hint = "use the same number of slots everywhere, or another name"
                raise UsageError(f"{text}; not {records.terms.slots}", hint=hint)
            if found is not None:
                return
            with contextlib.suppress(SequenceConflictError):
                last = history[-1] if history else None
                await records.jetstream.publish(where, records.define(last), after=last.sequence if last else 0)
                return
        raise NoResponseError(f"{where}: others write faster than we can", hint="find out who floods it")

    async def _read_line(self) -> None:
        if self._fair:
            records, asked = self._records, self._clock()
            stored = await records.jetstream.latest(records.jetstream.queue, records.tickets())
            self._line.reconcile(stored, asked=asked, now=self._clock())

    async def _look(self, slot: ObservedSlot) -> None:
        self._changed.discard(slot.index)
        try:
            await self._records.observe(slot, at_least=self._hints.pop(slot.index, 0))
        except BaseException:
            self._changed.add(slot.index)
            raise

    async def _look_again(self) -> None:
        """Look at what has changed, and after POLL seconds at all slots; only then if it is not nearly our turn."""
        now = self._clock()
        if now >= self._looked + POLL:
            self._changed.update(range(len(self._slots)))
        elif self._ahead() > len(self._slots):
            return
        if self._changed:
            self._looked = now
            await asyncio.gather(*(self._look(self._slots[index]) for index in sorted(self._changed)))

    def _found(self, slot: ObservedSlot) -> Lease | None:
        """Return our lease if *slot* has a record of ours, whose answer was lost."""
        for place in reversed(range(len(slot.history))):
            entry = slot.history[place]
            if self._sendings.first(entry.raw) is None:
                continue
            lease = Lease.taken(slot, entry, session=self._session, sendings=self._sendings)
            lease.since = int(time.time())
            try:
                lease.review(slot.history[place + 1 :], now=self._clock())
            except LeaseLostError:
                break
            return lease
        return None

    async def _is_fresh(self, lease: Lease) -> bool:
        """Return whether *lease* is still ours, and has half its time left: it is renewed if it has less."""
        while lease.deadline - self._clock() < lease.terms.ttl / 2:
            try:
                await self._holding.renew(lease)
            except LeaseLostError:
                self._session, self._sendings = secrets.token_hex(8), Sendings()
                self._place, self._refresh = 0, 0.0
                return False
        return True

    async def _take_free(self) -> Lease | None:
        now = self._clock()
        # While we looked, others may have taken a slot and left the line: who counts it as free goes before its turn.
        free = [slot for slot in self._slots if slot.index not in self._changed and slot.may_take(now)]
        ahead = self._ahead()
        self._turn = float("inf")
        for number in range(len(free)):
            slot = free[(number + ahead) % len(free)]  # those before us try the others
            due = slot.free_from() + turn(ahead, len(free))
            if now < due:
                self._turn = min(self._turn, due)
                continue
            lease = await self._try(slot)
            self._turn = now  # if another node was faster: look at once what is free now, and who is before us
            return lease
        return None

    async def _try(self, slot: ObservedSlot) -> Lease | None:
        records, follows = self._records, slot.last
        raw = records.hold(slot.index, self._session, follows)
        self._sendings.note(raw, now=self._clock())
        self._changed.add(slot.index)  # whatever comes of it
        try:
            where = records.subject(slot.index)
            sequence = await records.jetstream.publish(where, raw, after=follows.sequence if follows else 0)
        except SequenceConflictError:
            await self._look(slot)
            lease = self._found(slot)
        else:
            stored = Entry(sequence, where, raw)
            lease = Lease.taken(slot, stored, session=self._session, sendings=self._sendings)
            lease.since = int(time.time())
        return lease if lease is not None and await self._is_fresh(lease) else None

    def _ahead(self) -> int:
        return self._line.ahead(self._session, self._place, now=self._clock()) if self._fair else 0

    async def _stand_in_line(self) -> None:
        """Write our ticket, or repeat it. Without a stream of waiters, whoever is first is first."""
        now = self._clock()
        if not self._fair or now < self._refresh:
            return
        records = self._records
        where = records.tickets(self._session)
        self._refresh = now + REFRESH
        with contextlib.suppress(NoResponseError):
            if not self._place:
                raw = records.ticket("wait", self._session, 0)
                sequence = await records.jetstream.publish(where, raw, ttl=int(TICKET_TTL))
                self._place = self._line.place(sequence, now=now)
            raw = records.ticket("wait", self._session, self._place)
            await records.jetstream.publish(where, raw, ttl=int(TICKET_TTL))

    async def _leave(self, lease: Lease | None) -> None:
        """Leave the line; without a *lease*, also take back what may have been stored of ours."""
        if not self._records.jetstream.connected:
            return
        with contextlib.suppress(TransportError, CoordinationUnavailableError, TimeoutError):
            async with asyncio.timeout(WITHDRAW):
                if lease is None and not self._sendings.empty:
                    for slot in self._slots:
                        await self._records.observe(slot)
                        found = self._found(slot)
                        if found is not None:
                            await self._holding.release(found, limit=WITHDRAW)
                if self._place:
                    raw = self._records.ticket("leave", self._session, self._place)
                    await self._records.jetstream.publish(self._records.tickets(self._session), raw, ttl=1)
                    self._place = 0

    def _reason(self) -> Waiting:
        """Return why we wait."""
        holders = [slot.judgement.holder for slot in self._slots if not slot.judgement.free]
        problems = (
            f"slot {slot.index}: last record: {slot.judgement.problem}"
            for slot in self._slots
            if slot.judgement.problem
        )
        found = tuple(holder_of(self._records.config, holder) for holder in holders if holder)
        return Waiting(found, self._ahead(), tuple(problems))

    def _tell(self, told: Waiting) -> None:
        if told != self._told:
            self._told = told
            self._on_waiting(told)

    async def _pause(self, end: float) -> None:
        """Return when something happens, and when something is due."""
        now = self._clock()
        quiet = [due for slot in self._slots if (due := slot.free_from()) > now]
        until = min([*quiet, self._turn, end, now + POLL, self._refresh if self._fair else float("inf")])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until - now)):
                await self._wake.wait()
        self._wake.clear()

    @asynccontextmanager
    async def _listening(self, limit: float | None) -> AsyncIterator[None]:
        """Hear of changes. Raise BrokerUnavailableError after *limit* seconds without a broker."""
        records = self._records
        wanted: list[tuple[str, Hear]] = [(records.events(), self._hear_event)]
        if self._fair:
            wanted.append((records.tickets(), self._hear_ticket))
        listening = [
            spawn(records.jetstream.listen(where, hear, on_gap=self._hear_gap), name="lock events")
            for where, hear in wanted
        ]
        try:
            try:
                async with asyncio.timeout(limit):
                    await asyncio.gather(*listening)
            except TimeoutError:
                raise BrokerUnavailableError(f"no broker within {limit:.3g} s") from None
            yield
        finally:
            for task in listening:
                task.cancel()
                task.add_done_callback(end_listening)

    def _hear_event(self, event: Incoming) -> None:
        last = event.subject.rpartition(".")[2]
        if last.isascii() and last.isdigit() and len(last) < 4 and int(last) < len(self._slots):
            self._hints[int(last)] = max(self._hints.get(int(last), 0), sequence_of(event))
            self._changed.add(int(last))
            self._wake.set()

    def _hear_ticket(self, ticket: Incoming) -> None:
        if self._line.note(Entry(0, ticket.subject, ticket.data), now=self._clock()):
            self._wake.set()

    def _hear_gap(self) -> None:
        self._line.after_gap(self._clock())
        self._missed = True
        self._changed.update(range(len(self._slots)))
        self._refresh = 0.0
        self._wake.set()
