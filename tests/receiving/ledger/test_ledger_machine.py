"""Gate and ledger together, against everything that can happen to them in any order.

Over the whole history, whatever the clock, the disk and an attacker with all that was ever sent do: no signed body
starts twice, a rejection that was sent is final, and a recorded reply belongs to the request that gets it.
The ledger is the real one, on real files; a crash leaves what the file system holds at that moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from remaphore import logs
from remaphore.errors import LedgerError
from remaphore.protocol import wire
from remaphore.protocol.drop import DropReason
from remaphore.protocol.gate import Gate
from remaphore.protocol.message import Message, Reply
from remaphore.protocol.rejection import RejectionPolicy
from remaphore.protocol.replay import ReplayWindow
from remaphore.receiving.ledger import ledger as module
from remaphore.receiving.ledger import store
from remaphore.receiving.ledger.ledger import RESENDS, Ledger
from remaphore.receiving.threads import Call
from tests.harness.factories import NOW, bounded, make_encoded, make_gate, make_peer, sign_again
from tests.harness.ledgers import crashed, no_room

PEERS = (make_peer(1), make_peer(2), make_peer(3, None, "ping"))
UNIT = 1_000_000_000
SKEWS = st.sampled_from([2 * UNIT, 5 * UNIT, 50 * UNIT])
# Times are whole units, so that messages share them and fall on the edges of windows and floors.
STEPS = st.sampled_from([1, 1, 2, 3, 6, 20, -1, -3, -6]).map(UNIT.__mul__)
OFFSETS = st.sampled_from([0, 0, 1, -1, 2, -2, 5, -5, 7, -7]).map(UNIT.__mul__)
WHICH = st.integers(0, 10_000)


class Disk(enum.Enum):
    """What becomes of a write: it succeeds, fails, or fails after it has reached the disk."""

    GOOD = "good"
    FAILS = "fails"
    UNHEARD = "unheard"


FAILING = st.sampled_from([Disk.FAILS, Disk.UNHEARD])


class Inline:
    """Writes at once, so that the same steps leave the same behind: a thread could be anywhere."""

    def submit(self, function):
        call = Call(function, quick=False)
        call.run()
        call.end()
        return call

    def close(self) -> None:
        pass


class History(RuleBasedStateMachine):
    """What was sent, what started and what was answered, and the ledger under test."""

    root: Path

    def __init__(self) -> None:
        super().__init__()
        self.folders = tempfile.TemporaryDirectory(dir=self.root)
        self.runner = asyncio.Runner()
        self.now, self.skew = NOW, 5 * UNIT
        self.sent: list[tuple[int, bytes]] = []
        self.waiting: list[Message] = []
        self.running: list[Message] = []
        self.bodies: dict[bytes, bytes] = {}  # digest -> what was signed
        self.starts: Counter[bytes] = Counter()
        self.final: set[bytes] = set()  # signed bytes of messages whose rejection was sent
        self.handled: set[bytes] = set()  # those of messages that ended without a start
        self.unheard: set[bytes] = set()  # digests whose start was reported as failed, but may be on the disk
        self.replies: dict[bytes, Reply] = {}
        self.resent: Counter[bytes] = Counter()
        self.lives = 0
        self.open(self.next_folder(), began=NOW - 20 * UNIT)

    def next_folder(self) -> Path:
        self.lives += 1
        return Path(self.folders.name, str(self.lives))

    def open(self, folder: Path, began: int | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.ledger = Ledger(folder, allow_skew_ns=self.skew, now=self.now if began is None else began)
        assert self.ledger.problem == ""
        # No test cuts the power, so what the file system has need not be on the disk; this takes a quarter of the time.
        self.ledger._store._database.execute("PRAGMA synchronous = OFF")
        self.ledger._thread.close()
        self.ledger._thread = Inline()
        self.disk, self.apply, self.ledger._store.apply = Disk.GOOD, self.ledger._store.apply, self.write
        self.rejections = RejectionPolicy()
        # An entered message of an earlier life is offered to `started` again: the file must say no.
        self.left = self.waiting
        self.waiting = []

    @property
    def gate(self) -> Gate:
        return make_gate(*PEERS, allow_skew_ns=self.skew, window=self.ledger.window)

    def write(self, batch):
        """Write *batch* as the disk does at the moment."""
        changed = [] if self.disk is Disk.FAILS else self.apply(batch)
        if self.disk is not Disk.GOOD:
            raise LedgerError("the disk fails")
        return changed

    def run(self, coroutine):
        async def limited():
            async with asyncio.timeout(30):
                return await coroutine

        return self.runner.run(limited())

    async def flush(self) -> None:
        await self.ledger.rejected(b"no message")

    def deliver(self, raw: bytes) -> bool:
        """Do what the daemon does with *raw*; return whether it was accepted."""
        self.bodies[wire.digest(raw)] = b",".join((raw[:20], raw.split(b",", 2)[2]))
        return self.run(self.judge(raw))

    async def judge(self, raw: bytes) -> bool:
        verdict = self.gate.admit(raw, self.now)
        if isinstance(verdict, Message):
            self.waiting.append(verdict)
            return True
        if verdict.reason is DropReason.MALFORMED:
            return False
        frame, rejected = wire.decode(raw), None
        if self.rejections.may_reject(self.gate, frame, verdict, self.now) and wire.verify(frame):
            rejected = self.rejections.consider(self.gate, frame, verdict, self.now)
        if rejected is not None:
            await self.reject(rejected)
        elif verdict.reason is DropReason.DUPLICATE:
            await self.resend(wire.digest(raw))
        return False

    async def reject(self, message: Message) -> None:
        await self.ledger.rejected(message.digest)
        self.final.add(self.bodies[message.digest])

    async def resend(self, digest: bytes) -> None:
        reply = await self.ledger.recorded(digest)
        if reply is not None:
            assert reply == self.replies[digest]
            self.resent[digest] += 1

    async def start(self, message: Message) -> None:
        await self.ledger.started(message)
        self.starts[self.bodies[message.digest]] += 1
        self.running.append(message)

    # What happens

    @rule(sender=st.sampled_from([1, 1, 1, 2]), offsets=st.lists(OFFSETS, min_size=2, max_size=5), begin=st.booleans())
    def send(self, sender, offsets, begin):
        for offset in offsets:
            self.now += UNIT
            self.send_one(sender, offset)
        if begin:
            self.start_all_at_once()

    @rule(verb=st.sampled_from(["ping", "deploy"]), offset=OFFSETS)
    def ask_for_what_may_not_be(self, verb, offset):
        self.send_one(3, offset, verb)

    def send_one(self, sender, offset, verb="ping"):
        payload = b"%d" % len(self.bodies)
        raw = make_encoded(sender, verb=verb, time_ns=self.now + offset, payload=payload, wants_reply=True)
        self.sent.append((sender, raw))
        self.deliver(raw)

    @precondition(lambda self: self.sent)
    @rule(which=WHICH)
    def send_again(self, which):
        self.deliver(self.sent[which % len(self.sent)][1])

    @precondition(lambda self: self.sent)
    @rule(which=WHICH)
    def sign_the_same_again(self, which):
        sender, raw = self.sent[which % len(self.sent)]
        self.deliver(sign_again(raw, sender))

    @precondition(lambda self: self.sent)
    @rule(which=WHICH, old=st.sampled_from([b",Q,", b",ping,"]), new=st.sampled_from([b",_,", b",PING,", b",Q ,"]))
    def alter(self, which, old, new):
        raw = self.sent[which % len(self.sent)][1]
        if old in raw:
            assert not self.deliver(raw.replace(old, new, 1))

    @rule(again=st.booleans())
    def replay_everything(self, again):
        for sender, raw in self.sent:
            self.deliver(sign_again(raw, sender) if again else raw)
        self.start_all_at_once()

    @rule(step=STEPS)
    def step_the_clock(self, step):
        self.now += step

    @rule(skew=SKEWS)
    def reload(self, skew):
        self.skew = skew
        self.ledger.window.allow(skew)

    @rule()
    def start_all_at_once(self):
        async def together(messages):
            await asyncio.gather(*map(self.start, messages))

        messages, self.waiting = self.waiting, []
        self.run(together(messages))

    @precondition(lambda self: self.waiting)
    @rule()
    def start_the_next(self):
        self.run(self.start(self.waiting.pop(0)))

    @precondition(lambda self: self.waiting)
    @rule(notify=st.booleans())
    def reject_the_next(self, notify):
        message = self.waiting.pop(0)
        if notify:
            self.run(self.reject(message))
        else:
            self.run(self.note(message))

    async def note(self, message):
        self.ledger.note_rejected(message.digest)

    @precondition(lambda self: self.waiting)
    @rule()
    def find_no_room(self):
        message = self.waiting.pop(0)
        self.run(self.flush())  # there is a log to be full
        with no_room(self.folder), contextlib.suppress(LedgerError):
            self.run(self.start(message))
            raise AssertionError("it started without room for its record")
        self.run(self.reject(message))

    @precondition(lambda self: self.waiting)
    @rule(start=FAILING, reject=FAILING, crash=st.booleans())
    def fail_to_start(self, start, reject, crash):
        messages, self.waiting = self.waiting, []
        self.disk = start
        assert all(isinstance(error, LedgerError) for error in self.run(self.try_to_start(messages)))
        self.unheard |= {message.digest for message in messages}
        if start is Disk.UNHEARD:  # the file has them as started
            self.disk = Disk.GOOD
            assert all(isinstance(error, LedgerError) for error in self.run(self.try_to_start(messages)))
        self.disk = reject
        for message in messages:
            with contextlib.suppress(LedgerError):
                self.run(self.ledger.rejected(message.digest))
        if crash:
            self.crash(written=False)
        self.disk = Disk.GOOD
        if not crash:  # without one, what could not be written is written with the next writes
            self.run(self.flush())
            self.final |= {self.bodies[message.digest] for message in messages}

    async def try_to_start(self, messages):
        return await asyncio.gather(*map(self.ledger.started, messages), return_exceptions=True)

    @precondition(lambda self: self.waiting)
    @rule(keep=st.integers(0, 2), disk=st.sampled_from(Disk))
    def handle_without_a_start(self, keep, disk):
        messages, self.waiting = self.waiting[keep:], self.waiting[:keep]
        self.disk = disk
        with contextlib.suppress(LedgerError):
            self.run(self.note_handled(messages))
        self.disk = Disk.GOOD
        assert all(isinstance(error, LedgerError) for error in self.run(self.try_to_start(messages)))
        self.run(self.flush())
        self.handled |= {self.bodies[message.digest] for message in messages}

    async def note_handled(self, messages):
        for message in messages:
            self.ledger.note_handled(message.digest)
        await self.flush()

    @precondition(lambda self: self.running)
    @rule(which=WHICH)
    def finish(self, which):
        message = self.running.pop(which % len(self.running))
        reply = self.replies[message.digest] = Reply(0, message.digest)
        self.run(self.ledger.done(message.digest, reply))

    @rule()
    def expire(self):
        self.run(self.expired())

    async def expired(self):
        self.ledger.expire(self.now)

    # What goes wrong

    @rule(written=st.booleans())
    def crash(self, written):
        if written:
            self.run(self.flush())
        left = crashed(self.ledger, self.folder, self.next_folder())
        self.run(self.ledger.close())
        self.begin(left)

    @rule()
    def restart(self):
        self.run(self.ledger.close())
        self.begin(self.folder)

    @rule()
    def lose_the_ledger(self):
        self.run(self.ledger.close())
        # The new low-water mark is now; what a clock ahead of ours has signed after it cannot be rejected by it.
        self.sent = [(sender, raw) for sender, raw in self.sent if wire.decode(raw).time_ns <= self.now]
        self.waiting, self.running = [], []
        self.open(self.next_folder())

    def begin(self, folder):
        self.open(folder)
        interrupted = {row.digest for row in self.ledger.interrupted}
        assert {message.digest for message in self.running} <= interrupted
        assert interrupted <= {message.digest for message in self.running} | self.unheard
        assert not {self.bodies[row.digest] for row in self.ledger.abandoned} & (self.starts.keys() | self.handled)
        self.run(self.report())
        # What was never on the disk is not known, and its bytes may come again.
        left = [message for message in self.left if self.ledger.window.knows(message.digest)]
        assert all(isinstance(error, LedgerError) for error in self.run(self.try_to_start(left)))

    async def report(self):
        for row in self.ledger.interrupted:
            reply = self.replies[row.digest] = Reply(143, row.digest)
            await self.ledger.done(row.digest, reply)
        self.running = []

    # What holds

    @invariant()
    def nothing_starts_twice(self):
        assert not [body for body, count in self.starts.items() if count > 1]

    @invariant()
    def what_was_rejected_never_starts(self):
        assert not self.final & self.starts.keys()

    @invariant()
    def what_was_handled_without_a_start_never_starts(self):
        assert not self.handled & self.starts.keys()

    @invariant()
    def no_reply_is_given_too_often(self):
        assert not [digest for digest, count in self.resent.items() if count > RESENDS]

    def teardown(self):
        self.run(self.ledger.close())
        self.runner.close()
        self.folders.cleanup()


@pytest.fixture(autouse=True)
def _small(monkeypatch, tmp_path):
    """A quota that is soon full, replies that may be sent again at once, and a log that may fail for want of room."""
    logs.configure("json")
    monkeypatch.setattr(History, "root", tmp_path, raising=False)
    monkeypatch.setattr(module, "ReplayWindow", functools.partial(ReplayWindow, quota=3))
    monkeypatch.setattr(module, "RESEND_SECONDS", 0.0)
    monkeypatch.setattr(store, "WAL_FIRST_BYTES", 64 * 1024)  # less than it needs: some commits find zeros, others grow


@pytest.mark.timeout(600)  # to make a failure short, once there is one
def test_nothing_starts_twice_whatever_happens():
    run_state_machine_as_test(History, settings=settings(bounded, max_examples=60, stateful_step_count=30))


@pytest.mark.long
def test_nothing_starts_twice_whatever_happens_for_long():
    run_state_machine_as_test(
        History, settings=settings(deadline=None, max_examples=1500, stateful_step_count=80, print_blob=True)
    )
