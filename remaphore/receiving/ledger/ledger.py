"""The ledger: each message is started at most once, also across crashes and restarts.

The replay window in memory decides; the store makes its decisions durable. The writes of one iteration of the event
loop are grouped into one transaction, which runs in its own thread. No message is handled, rejected or replied to
before its row is durable, unless nothing acts on it, and while nothing can be written no message is handled.

A message's row: `entered` when the window accepts it, `started` before the plugins see it, then `done` with its reply;
or `rejected`; or `done` without a start, if nothing acts on it. After a crash, an `entered` row becomes `rejected`, a
`started` one is reported as interrupted, and neither is started again.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import structlog

from remaphore.errors import LedgerError
from remaphore.protocol.message import Message, Reply
from remaphore.protocol.replay import ReplayWindow
from remaphore.receiving.ledger import statements
from remaphore.receiving.ledger.batch import Batch, Write, copy_error
from remaphore.receiving.ledger.row_numbers import RowNumbers
from remaphore.receiving.ledger.rows import ENTERED, STARTED, Row, log_abandoned
from remaphore.receiving.ledger.statements import Statement
from remaphore.receiving.ledger.store import Store
from remaphore.receiving.threads import CallThread
from remaphore.tasks import spawn

FILE = "ledger.sqlite3"

# A repeated request gets its recorded reply at most this often, and no more often than once in RESEND_SECONDS: enough
# for a requester whose connection broke, too little to amplify a flood of captured requests.
RESENDS = 3
RESEND_SECONDS = 1.0
# Bytes of an output that are recorded for that. The reply to a repeated request states it when there was more.
RECORDED_OUTPUT = 64 * 1024
# Bytes of all recorded outputs. Beyond it the oldest are forgotten: a repeated request gets no reply then, but does not
# run again either.
RECORDED_BYTES = 64 * 1024 * 1024
# Rows and statements that may wait for the disk before new messages are dropped: seconds of work, and 10 MB.
MAX_BEHIND = 20_000
# How long a disk that hangs delays the end of the daemon. What it then has not written counts as interrupted.
CLOSE_SECONDS = 5.0
_CHECK_DISK = "check the disk, or the server of the network file system: dmesg shows what the kernel reports"
# Digests whose last resend is remembered, so that an attacker cannot make the memory grow.
MAX_RECENT = 10_000

_log = structlog.get_logger()

R = TypeVar("R")


class Ledger:
    """Which messages one instance of the daemon accepted, started, completed and rejected.

    window: the replay window, which reports to this ledger as its journal. interrupted: the messages that were running
    when the last daemon was killed; abandoned: those that waited, and never start.
    """

    def __init__(self, folder: Path, *, allow_skew_ns: int, now: int) -> None:
        """Open the ledger in *folder*, or create it. If it cannot be used, `problem` states why.

        Raise RemaphoreError if there is no thread for its writes: without one, each message would wait forever.

        *now*: Unix nanoseconds. A ledger that is new, or was lost, begins *now*: what was signed before is rejected.
        """
        self._failure: LedgerError | None = None
        self.interrupted: list[Row] = []
        self.abandoned: list[Row] = []
        self.window = ReplayWindow(allow_skew_ns=allow_skew_ns, low_water_mark=now, journal=self)
        self._store: Store | None = None
        self._pending = Batch()
        self._numbers = RowNumbers()
        self._writing: asyncio.Task[None] | None = None
        self._thread = CallThread("ledger")
        self._recent: OrderedDict[bytes, float] = OrderedDict()
        # Bytes of the recorded outputs by number, the oldest first.
        self._recorded: OrderedDict[int, int] = OrderedDict()
        self._recorded_bytes = 0
        try:
            self._store = self._load(Store(folder / FILE, now=now), allow_skew_ns, now)
        except LedgerError as error:  # the file is opened once: it is not tried again while this process runs
            self._fail(LedgerError(str(error), hint=f"{error.hint}; then restart the daemon"))

    @property
    def problem(self) -> str:
        """Why nothing can be written, and so nothing is handled; empty if there is no problem."""
        return "" if self._failure is None else str(self._failure)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    def started(self, message: Message) -> asyncio.Future[bool]:
        """Return what is done once it is durable that *message* may have started: not after a LedgerError."""
        return self._write((statements.START, (self._numbers.unfinished(message.digest),)))

    async def done(self, digest: bytes, reply: Reply) -> None:
        """Return once the completion of a message is durable, with its reply. Raise LedgerError."""
        output = reply.output
        if len(output) > RECORDED_OUTPUT:
            output = output[:RECORDED_OUTPUT] + b"\nremaphore: recorded reply, cut: %d bytes in all\n" % len(output)
        number = self._numbers.end(digest)
        if self.window.knows(digest):
            self._note_output(number, len(output))
        await self._write((statements.FINISH, (number, reply.exit_code, output)))

    def note_done(self, digest: bytes) -> None:
        """Record the completion of a message with the next writes: without a reply nothing has to wait for it."""
        self._record((statements.COMPLETE, (self._numbers.end(digest),)))

    def note_handled(self, digest: bytes) -> None:
        """Record, with the next writes, that a message on which nothing acts ended without a start. It never starts."""
        number = self._numbers.end(digest)
        if number in self._pending.rows:  # one row in its last state; a write that fails is repeated with the next ones
            self._pending.handled.add(number)
        else:
            self._record((statements.HANDLE, (number,)))

    async def rejected(self, digest: bytes) -> None:
        """Return once it is durable that a message was rejected, which is final. Raise LedgerError."""
        await self._write((statements.REJECT, (self._numbers.end(digest),)))

    def note_rejected(self, digest: bytes) -> None:
        """Record that a message was rejected, with the next writes: without a reply nothing has to wait for it."""
        self._record((statements.REJECT, (self._numbers.end(digest),)))

    @property
    def behind(self) -> bool:
        """Whether too many rows and statements wait for the disk, so that new messages should be dropped."""
        return self._writing is not None and not self._writing.done() and len(self._pending) >= MAX_BEHIND

    def may_resend(self, digest: bytes) -> bool:
        """Return False if a reply was resent less than RESEND_SECONDS ago. Does not read the disk."""
        return time.monotonic() - self._recent.get(digest, -RESEND_SECONDS) >= RESEND_SECONDS

    async def recorded(self, digest: bytes) -> Reply | None:
        """Return the recorded reply of a repeated message and count the resend; None if it may not be resent now."""
        if self._store is None or not self.may_resend(digest):
            return None
        self._recent[digest] = time.monotonic()
        self._recent.move_to_end(digest)
        if len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)
        number = self._numbers.find(digest)
        if number is None:
            return None
        try:
            found = await self._in_thread(partial(self._store.recorded, number))
            if found is None or found.resent >= RESENDS:
                return None
            await self._write((statements.RESEND, (number,)))
        except LedgerError:
            return None
        return Reply(found.exit_code, found.output)

    def expire(self, now: int) -> None:
        """Forget what is older than the window at *now* (Unix nanoseconds)."""
        self.window.expire(now)
        self._record((statements.SWEEP, ()))

    def accepted(
        self, sender: str, signed_hash: bytes, *, digest: bytes, time_ns: int, verb: str, wants_reply: bool, uuid: bytes
    ) -> None:
        """Record what the window accepted; see `Journal`."""
        if self._store is not None or self._failure is None:  # as in `_record`, for each message of a flood
            number = self._numbers.add(digest)
            self._pending.rows[number] = (number, sender, signed_hash, digest, time_ns, verb, wants_reply, uuid)
            self._wake()

    def evicted(self, sender: str, digest: bytes, *, low_water_mark: int) -> None:
        """Record what the window evicted; see `Journal`."""
        self._record((statements.RAISE_LOW_WATER_MARK, (sender, low_water_mark)))
        number = self._numbers.forget(digest)
        if number is not None:
            self._recorded_bytes -= self._recorded.pop(number, 0)
            self._record((statements.EVICT, (number,)))

    async def close(self) -> None:
        """Write what is left, and close the file, within CLOSE_SECONDS. Later writes raise LedgerError."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._writing is not None and not self._writing.done():
                    await asyncio.wait({self._writing})
                if self._store is not None:
                    await self._write_all(self._store)  # what an earlier write failed to store
                    await self._thread.submit(self._store.close).wait()
        except TimeoutError:
            self._fail(LedgerError(f"ledger: the disk does not answer within {CLOSE_SECONDS:g} s", hint=_CHECK_DISK))
            if self._writing is not None:
                self._writing.cancel()
        if self._store is not None:
            closed = LedgerError("ledger is closed: the daemon is stopping", hint="send the message again later")
            self._store, self._failure = None, closed
        self._thread.close()

    def _load(self, opened: Store, allow_skew_ns: int, now: int) -> Store:
        try:
            began, marks, rows = opened.load()
        except LedgerError:
            opened.close()
            raise
        # Every sender has a low-water mark: messages signed at or before it are rejected. Example: with a skew of 60 s,
        # a message signed at 12:00:00 is evicted at 12:01:01, and its sender's mark is raised to 12:00:00. If the clock
        # now steps back to 11:59:30, a copy of the message is within the skew again, but the mark rejects it. A mark
        # that lies further ahead of the clock than the skew rejects everything until the clock has caught up.
        if max(began, *marks.values(), now) > now + allow_skew_ns:
            _log.warning(
                "ledger_ahead_of_clock",
                path=str(opened.path),
                effect="messages signed before its low-water mark are rejected",
                hint="set the clock, or stop the daemon and move the file away",
            )
        self.window = ReplayWindow(allow_skew_ns=allow_skew_ns, low_water_mark=began, journal=self)
        for sender, mark in marks.items():
            self.window.raise_low_water_mark(sender, mark)
        for row in rows:
            self.window.restore(row.sender, row.signed_hash, digest=row.digest, time_ns=row.time_ns)
            self._numbers.restore(row.digest, row.number, final=row.state != STARTED)
            self._note_output(row.number, row.recorded)
        self.interrupted = [row for row in rows if row.state == STARTED]
        self.abandoned = [row for row in rows if row.state == ENTERED]
        log_abandoned(self.abandoned)
        self.window.expire(now)
        self._record((statements.ABANDON, (self._numbers.last,)), (statements.SWEEP, ()))
        try:
            opened.apply(self._pending)
            self._pending = Batch()
        except LedgerError as error:  # such as a full disk: they are written first once there is room
            self._fail(error)
        return opened

    def _note_output(self, number: int | None, size: int) -> None:
        """Count a recorded output of *size* bytes, and forget the oldest ones for which there is no room."""
        if number is None or not size:
            return
        self._recorded[number] = size
        self._recorded_bytes += size
        while self._recorded_bytes > RECORDED_BYTES:
            oldest, freed = self._recorded.popitem(last=False)
            self._recorded_bytes -= freed
            self._record((statements.FORGET_OUTPUT, (oldest,)))

    def _fail(self, error: LedgerError) -> None:
        if self._failure is None:
            effect = "no message is handled, requests are rejected"
            _log.error("ledger_failed", error=str(error), effect=effect, hint=error.hint)
        self._failure = error

    def _record(self, *changes: Statement) -> None:
        # Without a file, and none before the next start, nothing must pile up for it.
        if self._store is not None or self._failure is None:
            self._pending.writes.extend(map(Write, changes))
            self._wake()

    def _write(self, statement: Statement) -> asyncio.Future[bool]:
        """Write *statement*; the future has whether it changed a row, once that is durable, or a LedgerError."""
        durable: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self._store is None:
            durable.set_exception(copy_error(self._failure))
        else:
            self._pending.writes.append(Write(statement, durable))
            self._wake()
        return durable

    def _wake(self) -> None:
        """Start to write what is pending, unless that is being done, or the file is still being opened."""
        if self._store is not None and (self._writing is None or self._writing.done()):
            self._writing = spawn(self._write_all(self._store), name="ledger")
            self._writing.add_done_callback(self._end_writing)

    def _end_writing(self, writing: asyncio.Task[None]) -> None:
        if writing.cancelled() and any(write.durable for write in self._pending.writes):  # before it began
            self._wake()

    async def _write_all(self, opened: Store) -> None:
        """Write what is pending, batch by batch, until nothing is pending or a write fails.

        Whatever happens between taking a batch and its end, every future of the batch gets a result or an error: each
        belongs to a message that waits for it.
        """
        batch = Batch()
        try:
            while self._pending:
                # So that what the rest of this iteration of the loop records is in the same transaction.
                await asyncio.sleep(0)
                batch, self._pending = self._pending, Batch()
                if not await self._write_batch(opened, batch):
                    return
                batch = Batch()
        except BaseException as error:  # such as a plugin that cancels all tasks
            left, self._pending = batch + self._pending, Batch()
            left.settle(LedgerError(f"ledger {opened.path}: writing was interrupted: {error!r}"))
            self._pending = left.worth_keeping()
            raise

    async def _write_batch(self, opened: Store, batch: Batch) -> bool:
        """Write *batch*; return False if the disk fails, and what is left waits for the next write."""
        try:
            # While no other message waits or runs, the loop has nothing to do before this is written.
            changed = await self._in_thread(partial(opened.apply, batch), alone=self._numbers.running <= 1)
        except LedgerError as error:
            self._fail(error)
            batch.settle(error)
            more = any(write.durable for write in self._pending.writes)
            self._pending = batch.worth_keeping() + self._pending
            return more  # no later write would wake what began to wait during this one
        except Exception as error:  # noqa: BLE001 - a defect of ours must cost one message, not all that wait
            _log.error("ledger_batch_failed", error=repr(error), statements=len(batch))
            await self._write_singly(opened, batch)
            return True
        if self._failure is not None:
            _log.info("ledger_recovered")
            self._failure = None
        batch.settle(changed)
        return True

    async def _write_singly(self, opened: Store, batch: Batch) -> None:
        """Write a batch that failed unexpectedly row by row, statement by statement, and give up what fails again."""
        for part in batch.singly():
            try:
                part.settle(await self._in_thread(partial(opened.apply, part)))
            except LedgerError as failure:  # the disk: all of it waits, as in `_write_batch`; to repeat it is harmless
                self._fail(failure)
                batch.settle(failure)
                self._pending = batch.worth_keeping() + self._pending
                return
            except Exception as failure:  # noqa: BLE001 - the same
                what = part.writes[0].statement[0].split(" SET ")[0] if part.writes else "INSERT INTO messages"
                _log.error("ledger_write_lost", error=repr(failure), statement=what)
                part.settle(LedgerError(f"ledger {opened.path}: {failure!r}"))

    async def _in_thread(self, function: Callable[[], R], *, alone: bool = False) -> R:
        """Return the result of a function of the store. Raise LedgerError, also if there is no thread."""
        try:
            call = self._thread.submit(function)
        except (RuntimeError, MemoryError) as error:
            raise LedgerError(f"ledger: no thread can use the file: {error!r}") from error
        return await call.wait(alone=alone)
