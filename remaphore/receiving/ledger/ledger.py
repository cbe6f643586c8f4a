"""The ledger: at most one start of each message, over crashes and restarts.

The window in memory decides; the store makes it durable. Writes of one turn of the loop are grouped into one
transaction, made in a thread of its own. Nothing may be acted on, rejected or answered before its row is durable, and
while nothing can be written nothing is acted on.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Self

import structlog

from remaphore.errors import LedgerError
from remaphore.protocol.message import Message, Reply
from remaphore.protocol.replay import ReplayWindow
from remaphore.receiving.ledger import store
from remaphore.receiving.ledger.store import Row, Statement, Store
from remaphore.tasks import spawn

FILE = "ledger.sqlite3"

# A request that is repeated gets its recorded reply this often, no faster than this: enough for a requester whose
# connection broke, too little to make us an amplifier for who sends captured requests again.
RESENDS = 3
RESEND_SECONDS = 1.0
# What is kept of an output for that. A repeated request is told when there was more.
RECORDED_OUTPUT = 64 * 1024
# Statements that could not be written and will be tried again with the next ones. Beyond this only marks are kept.
MAX_UNWRITTEN = 10_000
# Statements that may wait for the disk before nothing more is taken: seconds of work, and 10 MB.
MAX_BEHIND = 20_000
# Digests whose last sending again is remembered; an attacker cannot make it grow.
MAX_RECENT = 10_000

_log = structlog.get_logger()


class _Write(NamedTuple):
    """A statement, and who waits until it is durable, and for how many rows it changed."""

    statement: Statement
    durable: asyncio.Future[int] | None = None


class Ledger:
    """What was taken, started, done and rejected by one instance of the daemon."""

    def __init__(self, folder: Path, *, allow_skew_ns: int, now: int) -> None:
        """Open the ledger in *folder*, or make it. One that cannot be used is no error here: `problem` says why.

        A ledger that is new, or was lost, begins *now*: what was signed before is rejected.
        """
        self.problem = ""
        self.interrupted: list[Row] = []
        self.window = ReplayWindow(allow_skew_ns=allow_skew_ns, low_water_mark=now, journal=self)
        self._store: Store | None = None
        self._pending: list[_Write] = []
        self._writing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._recent: OrderedDict[bytes, float] = OrderedDict()
        try:
            self._store = self._load(Store(folder / FILE, now=now), allow_skew_ns, now)
        except LedgerError as error:
            self._failed(error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def started(self, message: Message) -> None:
        """Return once it is durable that *message* may have been started. Raises LedgerError: then it must not be."""
        if not await self._write((store.START, (message.verb, message.wants_reply, message.digest))):
            raise LedgerError("the ledger does not have the message as one that waits; it must be sent anew")

    async def done(self, digest: bytes, reply: Reply) -> None:
        """Return once the end of a message is durable, with its reply. Raises LedgerError."""
        output = reply.output
        if len(output) > RECORDED_OUTPUT:
            output = output[:RECORDED_OUTPUT] + b"\nremaphore: recorded reply, cut: %d bytes in all\n" % len(output)
        await self._write((store.FINISH, (reply.exit_code, output, digest)))

    def note_done(self, digest: bytes) -> None:
        """Record the end of a message with the next writes: nobody is told, so nobody waits."""
        self._record((store.FINISH, (None, None, digest)))

    async def rejected(self, digest: bytes) -> None:
        """Return once it is durable that a message was rejected, which is final. Raises LedgerError."""
        await self._write((store.REFUSE, (digest,)))

    def note_rejected(self, digest: bytes) -> None:
        """Record that a message was rejected, with the next writes: nobody is told, so nobody waits."""
        self._record((store.REFUSE, (digest,)))

    @property
    def behind(self) -> bool:
        """Whether so much waits for the write that is under way that nothing more should be taken."""
        return self._writing is not None and not self._writing.done() and len(self._pending) >= MAX_BEHIND

    def may_resend(self, digest: bytes) -> bool:
        """Tell, without looking at the disk, whether a reply was not sent again too recently."""
        return time.monotonic() - self._recent.get(digest, -RESEND_SECONDS) >= RESEND_SECONDS

    async def recorded(self, digest: bytes) -> Reply | None:
        """Return the recorded reply of a message that came again, if it may be sent again now."""
        if self._store is None or not self.may_resend(digest):
            return None
        self._recent[digest] = time.monotonic()
        self._recent.move_to_end(digest)
        if len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, self._store.recorded, digest)
            if found is None or found.resent >= RESENDS:
                return None
            await self._write((store.RESEND, (digest,)))
        except LedgerError:
            return None
        return Reply(found.exit_code, found.output)

    def expire(self, now: int) -> None:
        """Forget what is older than the window."""
        self.window.expire(now)
        self._record((store.SWEEP, ()))

    def accepted(self, sender: str, signed_hash: bytes, *, digest: bytes, time_ns: int) -> None:
        """Note what the window accepted; see `Journal`."""
        self._record((store.ENTER, (sender, signed_hash, digest, time_ns)))

    def evicted(self, sender: str, digest: bytes, *, low_water_mark: int) -> None:
        """Note what the window evicted; see `Journal`."""
        self._record((store.RAISE, (sender, low_water_mark)), (store.DROP, (digest,)))

    async def close(self) -> None:
        """Write what is left, and close the file. What comes later is not written, and raises LedgerError."""
        while self._writing is not None and not self._writing.done():
            await asyncio.wait({self._writing})
        if self._store is not None:
            await self._write_all(self._store)  # what could not be written before
            await asyncio.get_running_loop().run_in_executor(self._thread, self._store.close)
            self._store, self.problem = None, "the ledger is closed: the daemon is stopping"
        self._thread.shutdown()

    def _load(self, opened: Store, allow_skew_ns: int, now: int) -> Store:
        try:
            began, low_water_marks, rows = opened.load()
        except LedgerError:
            opened.close()
            raise
        if max(began, *low_water_marks.values(), now) > now + allow_skew_ns:
            effect = "messages signed before that are rejected; set the clock, or move the file away"
            _log.warning("ledger_ahead_of_clock", path=str(opened.path), effect=effect)
        self.window = ReplayWindow(allow_skew_ns=allow_skew_ns, low_water_mark=began, journal=self)
        for sender, low_water_mark in low_water_marks.items():
            self.window.raise_low_water_mark(sender, low_water_mark)
        for row in rows:
            self.window.restore(row.sender, row.signed_hash, digest=row.digest, time_ns=row.time_ns)
        self.interrupted = [row for row in rows if row.state == store.STARTED]
        self.window.expire(now)
        # What waited when the daemon ended will not start any more: its sender has long been told, or has given up.
        self._pending += [_Write((store.ABANDON, ())), _Write((store.SWEEP, ()))]
        try:
            opened.apply([write.statement for write in self._pending])
            self._pending.clear()
        except LedgerError as error:  # such as a full disk: they go first once there is room
            self._failed(error)
        return opened

    def _failed(self, error: LedgerError) -> None:
        if not self.problem:
            _log.error("ledger_failed", error=str(error), effect="nothing runs, requests are rejected")
        self.problem = str(error)

    def _record(self, *statements: Statement) -> None:
        self._add([_Write(statement) for statement in statements])

    async def _write(self, statement: Statement) -> int:
        if self._store is None:
            raise LedgerError(self.problem)
        durable: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._add([_Write(statement, durable)])
        return await durable

    def _add(self, writes: Sequence[_Write]) -> None:
        if self.problem and self._store is None:
            return  # there is no file, and there will be none before the next start
        self._pending.extend(writes)
        if self._store is not None and (self._writing is None or self._writing.done()):
            self._writing = spawn(self._write_all(self._store), name="ledger")

    async def _write_all(self, opened: Store) -> None:
        while self._pending:
            await asyncio.sleep(0)  # what this turn of the loop still brings comes along
            batch, self._pending = self._pending, []
            statements = [write.statement for write in batch]
            try:
                changed = await asyncio.get_running_loop().run_in_executor(self._thread, opened.apply, statements)
            except LedgerError as error:
                self._failed(error)
                _fail(batch, error)
                more = any(write.durable for write in self._pending)
                self._pending[:0] = _worth_keeping(batch)
                if more:
                    continue  # who came meanwhile has nobody else to wake them
                return  # tried again with the next write
            if self.problem:
                _log.info("ledger_mended")
                self.problem = ""
            for write, rows in zip(batch, changed, strict=True):
                if write.durable is not None and not write.durable.done():
                    write.durable.set_result(rows)


def _worth_keeping(batch: Sequence[_Write]) -> list[_Write]:
    """Return what is tried again later: all of it, or, of too much, the low-water marks that reject the rest for ever.

    But no start: who asked was told that it cannot be, and will not act.
    """
    kept = [statement for statement, _ in batch if statement[0] != store.START]
    if len(kept) <= MAX_UNWRITTEN:
        return [_Write(statement) for statement in kept]
    low_water_marks: dict[object, int] = {}
    for statement, values in kept:
        if statement in (store.ENTER, store.RAISE):
            sender, time_ns = values[0], int(str(values[-1]))
            low_water_marks[sender] = max(time_ns, low_water_marks.get(sender, time_ns))
    return [_Write((store.RAISE, entry)) for entry in low_water_marks.items()]


def _fail(batch: Sequence[_Write], error: LedgerError) -> None:
    for write in batch:
        if write.durable is not None and not write.durable.done():
            write.durable.set_exception(LedgerError(str(error)))
