"""Keeping a slot: renewals until it is freed, or lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from remaphore.coordination.lock_events import LockEvents
from remaphore.coordination.lock_records import LockRecords, name_of
from remaphore.errors import CoordinationUnavailableError, LeaseLostError, SequenceConflictError, TransportError
from remaphore.protocol.lease import EVICTED, SET_BACK, Lease
from remaphore.protocol.record import Entry
from remaphore.tasks import spawn
from remaphore.transport.bus import Callback, Incoming

RENEW = 1 / 3  # of the time to live, after which it is renewed
RETRY = 0.1  # seconds after a request without an answer
LOOK = 0.1  # seconds between two looks at what others write to the slot


def sequence_of(event: Incoming) -> int:
    """Return the sequence number that the broker gives with an event; 0 if it is none. Whoever may, can forge it."""
    text = event.headers.get("Nats-Sequence", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


class Holding:
    """Renews and frees the leases of one lock."""

    def __init__(self, records: LockRecords, events: LockEvents) -> None:
        self._records = records
        self._events = events

    async def keep(self, lease: Lease, *, on_renewed: Callable[[float], None]) -> None:
        """Renew *lease* until this is cancelled. Raise LeaseLostError, at its deadline at the latest.

        Nothing but its records ends it: what the broker says about itself, or that it is silent, may be over before the
        deadline.
        """
        clock, ttl = self._records.clock, lease.terms.ttl
        failure = ""
        async with self._listening(lease) as changes:
            due = lease.deadline - ttl * (1 - RENEW)
            while True:
                left = lease.deadline - clock()
                if left <= 0:
                    raise self._named(lease.end(f"not renewed in time{failure}"))
                try:
                    async with asyncio.timeout(left):
                        if changes.gap or clock() >= due:
                            until = lease.deadline
                            await self.renew(lease)
                            self._events.renewed(lease, left=until - clock())
                            changes.gap, failure = False, ""
                            due = lease.deadline - ttl * (1 - RENEW)
                            on_renewed(lease.deadline)
                        else:
                            lease.review(await self._records.newer(lease.slot, lease.last), now=clock())
                    await changes.wait(due - clock())
                except TimeoutError:
                    self._events.renewal_failed(lease, "no answer before the deadline", left=0.0)
                except LeaseLostError as error:
                    raise self._named(error) from None
                except (TransportError, CoordinationUnavailableError) as error:
                    failure = f" ({error})"
                    self._events.renewal_failed(lease, str(error), left=lease.deadline - clock())
                    await asyncio.sleep(RETRY)

    async def renew(self, lease: Lease) -> None:
        """Write the lease once more. Raise LeaseLostError; or TransportError if it may or may not have been done.

        Our last record is read first: of a stream whose data was set back, the sequence numbers are given a second
        time, and compare-and-set on one that is now of another node would succeed.
        """
        records, since = self._records, lease.deadline
        await self._check(lease)
        while True:
            raw = records.hold(lease.slot, lease.session, lease.last, token=lease.token, since=lease.since)
            lease.sendings.note(raw, now=records.clock())
            try:
                sequence = await records.jetstream.publish(records.subject(lease.slot), raw, after=lease.last.sequence)
            except SequenceConflictError:
                await self._follow(lease)
                if lease.deadline > since:
                    return  # an earlier one was stored, whose answer was lost
            else:
                lease.confirm(Entry(sequence, records.subject(lease.slot), raw))
                lease.sendings.forget()
                return

    async def release(self, lease: Lease, *, limit: float) -> bool:
        """Write that the slot is free; return whether that is done within *limit* seconds."""
        clock = self._records.clock
        end = clock() + limit
        written: set[bytes] = set()
        while lease.lost in ("", EVICTED) and clock() < end:
            try:
                async with asyncio.timeout(end - clock()):
                    if await self._free(lease, written):
                        return True
            except TimeoutError:
                break
            except LeaseLostError:
                continue
            except (TransportError, CoordinationUnavailableError):
                await asyncio.sleep(RETRY)
        return False

    async def _free(self, lease: Lease, written: set[bytes]) -> bool:
        """Try once to free the slot; return whether that is done. written: what was tried before.

        Nothing is read first: where the data was set back, a `free` does not stand, and frees nothing.
        """
        records = self._records
        raw = records.free(lease.slot, lease.session, lease.last)
        lease.sendings.note(raw, now=records.clock())
        written.add(raw)
        with contextlib.suppress(SequenceConflictError):
            await records.jetstream.publish(records.subject(lease.slot), raw, after=lease.last.sequence)
            return True
        newer = await self._follow(lease)
        return any(entry.raw in written for entry in newer)

    async def _check(self, lease: Lease) -> None:
        if not await self._records.has(lease.slot, lease.last):
            raise lease.end(SET_BACK)

    async def _follow(self, lease: Lease) -> list[Entry]:
        """Take note of what was stored after our last record, and return it."""
        newer = await self._records.newer(lease.slot, lease.last)
        if not newer:
            await self._check(lease)
            await asyncio.sleep(RETRY)
        lease.review(newer, now=self._records.clock())
        return newer

    def _named(self, error: LeaseLostError) -> LeaseLostError:
        who = f" by {name_of(self._records.config, error.by)[0]}" if error.by else ""
        return LeaseLostError(f"lock {self._records.name} lost: {error}{who}", by=error.by)

    @asynccontextmanager
    async def _listening(self, lease: Lease) -> AsyncIterator[_Changes]:
        jetstream, changes = self._records.jetstream, _Changes(lease)
        before = jetstream.reconnects

        async def listen() -> Callback:
            where = self._records.events(lease.slot)
            stop = await jetstream.listen(where, changes.hear, on_gap=changes.note_gap)
            if jetstream.reconnects != before:
                changes.note_gap()
            return stop

        # In the background: without a connection, it would keep the renewals waiting.
        listening = spawn(listen(), name="lock events")
        try:
            yield changes
        finally:
            listening.cancel()
            listening.add_done_callback(end_listening)


def end_listening(listening: asyncio.Task[Callback]) -> None:
    """End a subscription. If it was denied, an eviction is seen at the next renewal."""
    if not listening.cancelled() and listening.exception() is None:
        listening.result()()


class _Changes:
    """What may have happened to a slot that we hold. gap: events may have been lost, or the broker's data."""

    def __init__(self, lease: Lease) -> None:
        self.gap = False
        self._lease = lease
        self._event = asyncio.Event()
        self._looked = float("-inf")

    def hear(self, event: Incoming) -> None:
        """Take an event."""
        if sequence_of(event) > self._lease.last.sequence and self._lease.sendings.first(event.data) is None:
            self._event.set()

    def note_gap(self) -> None:
        """Take note that there is a new connection."""
        self.gap = True
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Return at the next change, or after so many *seconds*; not sooner than LOOK, whatever a flood brings."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._event.wait()
                await asyncio.sleep(self._looked + LOOK - loop.time())
        self._event.clear()
        self._looked = loop.time()
