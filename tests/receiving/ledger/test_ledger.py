"""The ledger: nothing starts before that is durable, nothing starts twice, over crashes, full disks and lost files."""

from __future__ import annotations

import asyncio
import functools
import itertools
import sqlite3
import threading
from contextlib import closing
from types import SimpleNamespace

import pytest
import structlog

from remaphore import logs
from remaphore.errors import LedgerError
from remaphore.protocol.drop import Drop, DropReason
from remaphore.protocol.duration import SECOND
from remaphore.protocol.message import Message, Reply
from remaphore.protocol.replay import ReplayWindow
from remaphore.receiving import threads
from remaphore.receiving.ledger import batch, statements, store
from remaphore.receiving.ledger import ledger as module
from remaphore.receiving.ledger.ledger import FILE, RECORDED_OUTPUT, RESENDS
from remaphore.receiving.ledger.rows import DONE, ENTERED, REJECTED, STARTED
from remaphore.receiving.threads import CallThread
from tests.harness.factories import NOW, SKEW, make_encoded, make_gate, make_peer, sign_again
from tests.harness.ledgers import WAL, crashed, end_of_commits, make_ledger, no_room, state, states

WIDE = 1000 * SECOND
SHARED_MEMORY = 32_768  # bytes of the file beside the write-ahead log, for which there is room when that is larger


@pytest.fixture(autouse=True)
def _logging():
    logs.configure("console")  # whose stream may fail when there is no room


def admit(ledger, raw, now=NOW, *, allow_skew_ns=SKEW):
    return make_gate(make_peer(1), make_peer(2), window=ledger.window, allow_skew_ns=allow_skew_ns).admit(raw, now)


def take(ledger, number=1, now=NOW, **fields):
    """Let the gate take a new message; return it, and its bytes."""
    raw = make_encoded(number, **({"time_ns": now, "wants_reply": True} | fields))
    message = admit(ledger, raw, now)
    assert isinstance(message, Message)
    return message, raw


async def flush(ledger):
    """Return when all that was recorded before is on the disk."""
    await ledger.rejected(b"no message")


def reason(verdict):
    assert isinstance(verdict, Drop)
    return verdict.reason


@pytest.fixture
def counted(monkeypatch):
    """The number of rows and statements in each transaction."""
    sizes = []
    apply = module.Store.apply

    def counting(self, batch):
        sizes.append(len(batch))
        return apply(self, batch)

    monkeypatch.setattr(module.Store, "apply", counting)
    return sizes


async def test_the_states_of_a_message_are_entered_started_and_done(tmp_path):
    async with make_ledger(tmp_path) as ledger:
        message, _ = take(ledger)
        await flush(ledger)
        assert state(tmp_path, message) == ENTERED
        await ledger.started(message)
        assert state(tmp_path, message) == STARTED
        await ledger.done(message.digest, Reply(0, b"output"))
        assert state(tmp_path, message) == DONE
        assert await ledger.recorded(message.digest) == Reply(0, b"output")


async def test_a_message_that_wants_no_reply_has_none_to_resend(tmp_path):
    async with make_ledger(tmp_path) as ledger:
        message, _ = take(ledger)
        await ledger.started(message)
        ledger.note_done(message.digest)
        await flush(ledger)
        assert state(tmp_path, message) == DONE
        assert await ledger.recorded(message.digest) is None


async def test_what_is_started_is_on_the_disk_before_it_may_run(tmp_path):
    async with make_ledger(tmp_path) as ledger:
        message, _ = take(ledger)
        await ledger.started(message)
        left = crashed(ledger, tmp_path, tmp_path / "crashed")
    assert state(left, message) == STARTED


async def test_a_rejected_message_never_starts(tmp_path):
    async with make_ledger(tmp_path) as ledger:
        notified, silent = take(ledger, payload=b"notified")[0], take(ledger, payload=b"silent")[0]
        await ledger.rejected(notified.digest)
        ledger.note_rejected(silent.digest)
        for message in (notified, silent):
            with pytest.raises(LedgerError, match="message is no longer pending in the ledger"):
                await ledger.started(message)
        assert set(states(tmp_path).values()) == {REJECTED}


async def test_a_message_starts_once_however_often_it_is_tried(tmp_path):
    async with make_ledger(tmp_path) as ledger:
        message, _ = take(ledger)
        results = await asyncio.gather(*(ledger.started(message) for _ in range(5)), return_exceptions=True)
        assert [type(result) for result in results].count(LedgerError) == 4


async def test_the_writes_of_one_turn_are_one_transaction(tmp_path, counted):
    async with make_ledger(tmp_path) as ledger:
        messages = [take(ledger, payload=b"%d" % number)[0] for number in range(50)]
        counted.clear()
        await asyncio.gather(*map(ledger.started, messages))
        assert counted == [100]
        assert list(states(tmp_path).values()) == [STARTED] * 50


async def test_a_long_output_is_recorded_cut_with_a_note(tmp_path):
    output = b"x" * (RECORDED_OUTPUT + 1)
    async with make_ledger(tmp_path) as ledger:
        message, _ = take(ledger)
        await ledger.started(message)
        await ledger.done(message.digest, Reply(3, output))
        note = b"\nremaphore: recorded reply, cut: 65537 bytes in all\n"
        assert await ledger.recorded(message.digest) == Reply(3, output[:-1] + note)


async def ended(ledger):
    message, raw = take(ledger)
    await ledger.started(message)
    await ledger.done(message.digest, Reply(0, b"output"))
    return message, raw


async def test_a_recorded_reply_is_given_at_most_three_times_over_restarts(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RESEND_SECONDS", 0.0)
    async with make_ledger(tmp_path) as ledger:
        message, _ = await ended(ledger)
        assert await ledger.recorded(message.digest) == Reply(0, b"output")
    for last in (True, False):
        async with make_ledger(tmp_path) as ledger:
            given = [await ledger.recorded(message.digest) for _ in range(RESENDS)]
            assert [reply is not None for reply in given] == [last, last, False]


async def test_a_recorded_reply_is_given_no_faster_than_once_a_second(tmp_path, monkeypatch):
    async with make_ledger(tmp_path) as ledger:
        message, _ = await ended(ledger)
        for seconds, given in ((10.0, True), (10.9, False), (11.0, True)):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda seconds=seconds: seconds))
            assert (await ledger.recorded(message.digest) is not None) is given


async def test_what_is_remembered_of_sending_again_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_RECENT", 3)
    async with make_ledger(tmp_path) as ledger:
        for number in range(10):
            await ledger.recorded(b"%d" % number)
        assert list(ledger._recent) == [b"7", b"8", b"9"]


async def test_without_room_a_recorded_reply_is_not_given_as_it_could_not_be_counted(tmp_path):
    async with make_ledger(tmp_path) as ledger:
        message, _ = await ended(ledger)
        with no_room(tmp_path):
            assert await ledger.recorded(message.digest) is None


async def test_after_a_crash_what_ran_is_interrupted_once_and_what_waited_never_starts(tmp_path):
    async with make_ledger(tmp_path) as ledger:
        waits, waits_raw = take(ledger, payload=b"waits")
        runs, runs_raw = take(ledger, payload=b"runs", verb="deploy")
        ends, ends_raw = take(ledger, payload=b"ends")
        await ledger.started(runs)
        await ledger.started(ends)
        await ledger.done(ends.digest, Reply(0))
        left = crashed(ledger, tmp_path, tmp_path / "crashed")
    async with make_ledger(left) as ledger:
        assert [(row.digest, row.verb, row.wants_reply) for row in ledger.interrupted] == [
            (runs.digest, "deploy", True)
        ]
        for raw in (waits_raw, runs_raw, ends_raw):
            assert reason(admit(ledger, raw)) is DropReason.DUPLICATE
            assert reason(admit(ledger, sign_again(raw))) is DropReason.REPLAYED
        with pytest.raises(LedgerError):
            await ledger.started(waits)
        await ledger.done(runs.digest, Reply(143))
    async with make_ledger(left) as ledger:
        assert ledger.interrupted == []
        assert await ledger.recorded(runs.digest) == Reply(143, b"")


async def test_what_was_not_durable_at_a_crash_had_not_started_and_may_come_again(tmp_path):
    async with make_ledger(tmp_path) as ledger:
        _, raw = take(ledger)
        left = crashed(ledger, tmp_path, tmp_path / "crashed")
    async with make_ledger(left) as ledger:
        message = admit(ledger, raw)
        assert isinstance(message, Message)
        await ledger.started(message)


@pytest.mark.parametrize("step", [-100 * SKEW, -SKEW, 0, SKEW, 100 * SKEW])
@pytest.mark.parametrize("skew", [SKEW // 5, SKEW, WIDE])
async def test_no_clock_and_no_skew_open_the_window_again(tmp_path, step, skew):
    async with make_ledger(tmp_path) as ledger:
        _, raw = take(ledger)
        take(ledger, now=NOW + 2 * SKEW)  # the first one is forgotten
        await flush(ledger)
        left = crashed(ledger, tmp_path, tmp_path / "crashed")
    for folder in (tmp_path, left):
        async with make_ledger(folder, now=NOW + step, allow_skew_ns=skew) as ledger:
            assert isinstance(admit(ledger, raw, NOW + step, allow_skew_ns=skew), Drop)
            verdict = admit(ledger, sign_again(raw), NOW, allow_skew_ns=skew)
            assert reason(verdict) is DropReason.REPLAYED


async def test_a_larger_skew_after_a_reload_does_not_accept_what_was_forgotten(tmp_path):
    async with make_ledger(tmp_path) as ledger:
        _, raw = take(ledger)
        ledger.expire(NOW + 2 * SKEW)
        ledger.window.allow(WIDE)
        assert reason(admit(ledger, raw, NOW + 2 * SKEW, allow_skew_ns=WIDE)) is DropReason.REPLAYED


async def test_a_low_water_mark_is_durable_together_with_the_eviction_that_raised_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ReplayWindow", functools.partial(ReplayWindow, quota=2))
    async with make_ledger(tmp_path) as ledger:
        accepted = []
        for number in range(5):
            message, raw = take(ledger, time_ns=NOW + number)
            accepted.append(raw)
            await ledger.started(message)
            await ledger.done(message.digest, Reply(0))
        left = crashed(ledger, tmp_path, tmp_path / "crashed")
    assert len(states(left)) == 2
    async with make_ledger(left) as ledger:
        verdicts = [reason(admit(ledger, raw)) for raw in accepted]
        assert verdicts == [DropReason.REPLAYED] * 3 + [DropReason.DUPLICATE] * 2
        take(ledger, 2, time_ns=NOW)  # another sender has a low-water mark of its own


async def test_a_message_that_runs_keeps_its_row_until_it_has_ended(tmp_path):
    async with make_ledger(tmp_path) as ledger:
        message, _ = take(ledger)
        await ledger.started(message)
        ledger.expire(NOW + 2 * SKEW)
        await flush(ledger)
        assert state(tmp_path, message) == STARTED
        await ledger.done(message.digest, Reply(0))
        ledger.expire(NOW + 2 * SKEW)
    assert states(tmp_path) == {}


@pytest.mark.parametrize("names", [(FILE,), (FILE, WAL)])
async def test_after_a_ledger_was_lost_nothing_that_was_signed_before_starts(tmp_path, names):
    async with make_ledger(tmp_path) as ledger:
        _, raw = await ended(ledger)
        left = crashed(ledger, tmp_path, tmp_path / "crashed")
    for name in names:
        (left / name).unlink(missing_ok=True)
    async with make_ledger(left, now=NOW) as ledger:
        assert ledger.problem == ""
        for step in (0, -SKEW, -WIDE, SKEW):
            assert isinstance(admit(ledger, raw, NOW + step, allow_skew_ns=2 * WIDE), Drop)
        take(ledger, time_ns=NOW + 1)


@pytest.mark.parametrize("damage", ["junk", "truncated", "page"])
async def test_with_a_damaged_ledger_nothing_starts(tmp_path, damage):
    async with make_ledger(tmp_path) as ledger:
        await ended(ledger)
    path = tmp_path / FILE
    whole = path.read_bytes()
    path.write_bytes({"junk": b"junk" * 5000, "truncated": whole[:-1], "page": whole[:4096] + b"x" * 4096}[damage])
    async with make_ledger(tmp_path) as ledger:
        assert str(path) in ledger.problem
        message, _ = take(ledger, payload=b"new")
        for write in (ledger.started(message), ledger.done(message.digest, Reply(0)), ledger.rejected(message.digest)):
            with pytest.raises(LedgerError) as caught:
                await write
            assert str(caught.value) == ledger.problem
            assert caught.value.hint.endswith("move the file away; then restart the daemon")
        assert await ledger.recorded(message.digest) is None
        ledger.note_rejected(message.digest)
        assert not ledger._pending  # nothing can come of it: it must not pile up


async def test_with_a_ledger_without_a_beginning_nothing_starts(tmp_path):
    await make_ledger(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as database:
        database.execute("DELETE FROM meta")
    async with make_ledger(tmp_path) as ledger:
        assert str(tmp_path / FILE) in ledger.problem
        with pytest.raises(LedgerError):
            await ledger.started(take(ledger)[0])


async def test_without_a_directory_nothing_starts(tmp_path):
    async with make_ledger(tmp_path / "missing") as ledger:
        assert "No such file" in ledger.problem
        with pytest.raises(LedgerError, match="No such file"):
            await ledger.started(take(ledger)[0])


async def test_without_room_nothing_starts_until_there_is_room_again(tmp_path):
    async with make_ledger(tmp_path) as ledger:
        message, raw = take(ledger)
        with no_room(tmp_path):
            for _ in range(3):
                with pytest.raises(LedgerError, match="disk I/O error") as caught:
                    await ledger.started(message)
                assert "free space on the disk" in caught.value.hint
            assert "disk I/O error" in ledger.problem
            ledger.note_rejected(message.digest)
        after, _ = take(ledger, payload=b"after")
        await ledger.started(after)
        assert ledger.problem == ""
        assert states(tmp_path) == {message.digest: REJECTED, after.digest: STARTED}
        assert reason(admit(ledger, raw)) is DropReason.DUPLICATE


@pytest.mark.parametrize("cause", ["another program", "read-only"])
async def test_a_file_that_cannot_be_written_for_another_reason_starts_nothing_either(tmp_path, cause):
    async with make_ledger(tmp_path) as ledger:
        messages = [take(ledger, payload=b"%d" % number)[0] for number in range(2)]
        await flush(ledger)
        ledger._store._database.execute("PRAGMA busy_timeout = 0")
        with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
            if cause == "read-only":
                ledger._store._database.execute("PRAGMA query_only = ON")
            else:
                other.execute("BEGIN IMMEDIATE")
            for error in await asyncio.gather(*map(ledger.started, messages), return_exceptions=True):
                assert isinstance(error, LedgerError)
                assert error.hint.startswith("let the daemon's user" if cause == "read-only" else "end the program")
        ledger._store._database.execute("PRAGMA query_only = OFF")
        ledger.note_rejected(messages[0].digest)
        await ledger.started(messages[1])  # as nothing of the failed write is in the file
        assert [state(tmp_path, message) for message in messages] == [REJECTED, STARTED]


async def test_a_start_that_could_not_be_recorded_is_not_recorded_later(tmp_path):
    async with make_ledger(tmp_path) as ledger:
        message, _ = take(ledger)
        with no_room(tmp_path), pytest.raises(LedgerError):
            await ledger.started(message)
    assert state(tmp_path, message) == ENTERED
    async with make_ledger(tmp_path) as ledger:
        assert ledger.interrupted == []


async def test_a_write_that_comes_while_another_one_fails_fails_too(tmp_path, monkeypatch):
    late, apply = [], module.Store.apply

    def failing(self, batch):
        if not late:  # in the thread, while the loop runs
            loop.call_soon_threadsafe(lambda: late.append(ledger.started(second)))
            while not late:
                pass
        return apply(self, batch)

    loop = asyncio.get_running_loop()
    async with make_ledger(tmp_path) as ledger:
        first, second = take(ledger, payload=b"1")[0], take(ledger, payload=b"2")[0]
        await flush(ledger)
        monkeypatch.setattr(module.Store, "apply", failing)
        with no_room(tmp_path):
            with pytest.raises(LedgerError):
                await ledger.started(first)
            async with asyncio.timeout(10):
                with pytest.raises(LedgerError):
                    await late[0]


async def test_a_completion_that_could_not_be_recorded_is_recorded_once_there_is_room(tmp_path):
    async with make_ledger(tmp_path) as ledger:
        message, _ = take(ledger)
        await ledger.started(message)
        with no_room(tmp_path), pytest.raises(LedgerError):
            await ledger.done(message.digest, Reply(0, b"x" * 10_000))
    assert state(tmp_path, message) == DONE


async def test_a_ledger_that_opens_without_room_recovers_and_starts_nothing_that_waited(tmp_path):
    async with make_ledger(tmp_path) as ledger:
        waited, raw = take(ledger)
        for mark in range(10):  # so that the log is large enough
            ledger.evicted("another sender", b"", low_water_mark=mark)
            await flush(ledger)
        left = crashed(ledger, tmp_path, tmp_path / "crashed")
    assert end_of_commits(left) > SHARED_MEMORY
    with no_room(left):
        ledger = make_ledger(left)
        assert "disk I/O error" in ledger.problem
        assert "restart" not in ledger._failure.hint  # not needed
        assert reason(admit(ledger, raw)) is DropReason.DUPLICATE
    async with ledger:
        message, _ = take(ledger, payload=b"new")
        await ledger.started(message)
        assert ledger.problem == ""
        assert states(left) == {waited.digest: REJECTED, message.digest: STARTED}


async def test_of_too_much_that_could_not_be_written_the_low_water_marks_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "MAX_UNWRITTEN", 10)
    async with make_ledger(tmp_path) as ledger:
        with no_room(tmp_path):
            accepted = []
            for number in range(30):
                message, raw = take(ledger, time_ns=NOW + number)
                accepted.append((message, raw))
                with pytest.raises(LedgerError):
                    await ledger.started(message)
                assert len(ledger._pending) <= 11
        with pytest.raises(LedgerError):  # its row is gone, but never what rejects it
            await ledger.started(accepted[0][0])
        left = crashed(ledger, tmp_path, tmp_path / "crashed")
    async with make_ledger(left) as ledger:
        assert all(isinstance(admit(ledger, raw), Drop) for _, raw in accepted)


@pytest.mark.parametrize("batched", [True, False])
async def test_an_unexpected_exception_costs_one_message_and_never_hangs_the_others(tmp_path, monkeypatch, batched):
    apply, broken = module.Store.apply, []

    def failing(self, batch):
        if any(write.statement in broken for write in batch.writes):
            raise RuntimeError("broken on purpose")
        return apply(self, batch)

    monkeypatch.setattr(module.Store, "apply", failing)
    async with make_ledger(tmp_path) as ledger:
        messages = [take(ledger, payload=b"%d" % number)[0] for number in range(3)]
        broken.append((statements.START, (ledger._numbers.find(messages[1].digest),)))
        async with asyncio.timeout(10):
            if batched:
                starts = await asyncio.gather(*map(ledger.started, messages), return_exceptions=True)
            else:
                starts = [await asyncio.gather(ledger.started(message), return_exceptions=True) for message in messages]
                starts = [start for (start,) in starts]
            assert [type(start) for start in starts] == [bool, LedgerError, bool]
            await ledger.started(take(ledger, payload=b"later")[0])
        assert ledger.problem == ""
        assert [state(tmp_path, message) for message in messages] == [STARTED, ENTERED, STARTED]


def broken(*_args):
    raise RuntimeError("broken on purpose")


def broken_once(function):
    calls = itertools.count()
    return lambda *args: function(*args) if next(calls) else broken()


# Where the way from a batch to its futures may break, and whether the ledger says that it cannot write.
BREAKS = {
    "the statements": (store, "merged", False),
    "single statements too": (store, "one_by_one", False),
    "the thread": (CallThread, "submit", True),
    "the disk": (module.Store, "apply", False),
    "what follows a write": (batch.Batch, "settle", False),
}


@pytest.mark.parametrize("place", BREAKS)
async def test_whatever_breaks_between_a_batch_and_its_result_hangs_no_message_and_starts_none(
    tmp_path, monkeypatch, place
):
    owner, name, reported = BREAKS[place]
    async with make_ledger(tmp_path) as ledger:
        messages = [take(ledger, payload=b"%d" % number)[0] for number in range(3)]
        await flush(ledger)
        with monkeypatch.context() as patched:
            # What tells the messages is broken once: nothing else could.
            patched.setattr(owner, name, broken_once(batch.Batch.settle) if name == "settle" else broken)
            if place == "single statements too":
                patched.setattr(store, "merged", broken)
            async with asyncio.timeout(10):
                starts = asyncio.gather(*map(ledger.started, messages), return_exceptions=True)
                ended = asyncio.gather(ledger.rejected(b"another"), return_exceptions=True)
                results = [*await starts, *await ended]
        if place == "the statements":  # one by one they can be written
            assert results == [True, True, True, None]
            return
        assert {type(result) for result in results} == {LedgerError}
        assert bool(ledger.problem) is reported
        assert await ledger.recorded(messages[0].digest) is None
        for message in messages:  # as the daemon does with what cannot start
            ledger.note_rejected(message.digest)
        await ledger.started(take(ledger, payload=b"later")[0])
        assert ledger.problem == ""
        assert [state(tmp_path, message) for message in messages] == [REJECTED] * 3


def test_futures_of_a_loop_that_is_closed_are_settled_all():
    loop = asyncio.new_event_loop()
    futures = [loop.create_future() for _ in range(3)]
    for future in futures:
        future.add_done_callback(print)
    loop.close()
    batch.Batch(writes=[batch.Write((statements.SWEEP, ()), future) for future in futures]).settle([True] * 3)
    assert all(future.done() for future in futures)


async def test_a_write_that_fails_after_it_reached_the_disk_starts_nothing(tmp_path, monkeypatch):
    apply = module.Store.apply

    def unheard(self, batch):
        apply(self, batch)
        raise LedgerError("the disk fails")

    async with make_ledger(tmp_path) as ledger:
        messages = [take(ledger, payload=b"%d" % number)[0] for number in range(2)]
        with monkeypatch.context() as patched:
            patched.setattr(module.Store, "apply", unheard)
            for message in messages:
                with pytest.raises(LedgerError):
                    await ledger.started(message)
        left = crashed(ledger, tmp_path, tmp_path / "crashed")
        ledger.note_rejected(messages[0].digest)
        with pytest.raises(LedgerError, match="no longer pending"):
            await ledger.started(messages[1])  # the file has it as started
        await ledger.started(take(ledger, payload=b"new")[0])
        assert [state(tmp_path, message) for message in messages] == [REJECTED, STARTED]
    async with make_ledger(left) as ledger:
        assert [row.digest for row in ledger.interrupted] == [message.digest for message in messages]
        for message in messages:
            with pytest.raises(LedgerError):
                await ledger.started(message)


@pytest.mark.parametrize("later", [False, True])
async def test_what_is_handled_without_a_start_is_done_in_one_row_and_never_starts(tmp_path, counted, later):
    async with make_ledger(tmp_path) as ledger:
        messages = [take(ledger, payload=b"%d" % number)[0] for number in range(50)]
        if later:
            await flush(ledger)
        counted.clear()
        for message in messages:
            ledger.note_handled(message.digest)
        assert len(ledger._pending) == len(messages)  # which MAX_BEHIND limits
        for message in messages[:3]:
            with pytest.raises(LedgerError, match="no longer pending"):
                await ledger.started(message)
        assert set(states(tmp_path).values()) == {DONE}
        assert await ledger.recorded(messages[0].digest) is None
        left = crashed(ledger, tmp_path, tmp_path / "crashed")
    async with make_ledger(left) as ledger:
        assert (ledger.interrupted, ledger.abandoned) == ([], [])
        assert reason(admit(ledger, make_encoded(payload=b"1", wants_reply=True))) is DropReason.DUPLICATE


async def test_without_room_what_is_handled_without_a_start_is_recorded_once_there_is_room(tmp_path):
    async with make_ledger(tmp_path) as ledger:
        message, _ = take(ledger)
        with no_room(tmp_path):
            ledger.note_handled(message.digest)
            with pytest.raises(LedgerError):
                await flush(ledger)
    assert state(tmp_path, message) == DONE


async def test_a_ledger_that_recovers_does_not_abandon_what_arrived_meanwhile(tmp_path, monkeypatch):
    apply = module.Store.apply
    with monkeypatch.context() as patched:
        patched.setattr(module.Store, "apply", lambda *_args: (_ for _ in ()).throw(LedgerError("the disk fails")))
        ledger = make_ledger(tmp_path)
    assert module.Store.apply is apply
    async with ledger:
        message, _ = take(ledger)
        await flush(ledger)
        assert state(tmp_path, message) == ENTERED
        await ledger.started(message)


async def test_writing_that_is_cancelled_hangs_no_message_and_starts_none(tmp_path, monkeypatch):
    apply, writing, disk = module.Store.apply, threading.Event(), threading.Event()

    def slow(self, batch):
        writing.set()
        assert disk.wait(20)
        return apply(self, batch)

    async with make_ledger(tmp_path) as ledger:
        messages = [take(ledger, payload=b"%d" % number)[0] for number in range(3)]
        await flush(ledger)
        monkeypatch.setattr(module.Store, "apply", slow)
        first = ledger.started(messages[0])
        await asyncio.to_thread(writing.wait, 20)
        second = ledger.started(messages[1])
        await asyncio.sleep(0)
        ledger._writing.cancel()
        async with asyncio.timeout(20):
            for started in (first, second):
                with pytest.raises(LedgerError, match="writing was interrupted"):
                    await started
            disk.set()
            await ledger.started(messages[2])
            assert state(tmp_path, messages[1]) == ENTERED
            for message in messages[:2]:
                await ledger.rejected(message.digest)  # as the daemon does with what cannot start
        assert [state(tmp_path, message) for message in messages] == [REJECTED, REJECTED, STARTED]


async def test_writing_that_is_cancelled_before_it_begins_begins_again(tmp_path):
    async with make_ledger(tmp_path) as ledger:
        message, _ = take(ledger)
        await flush(ledger)
        started = ledger.started(message)
        ledger._writing.cancel()
        async with asyncio.timeout(20):
            await started
        assert state(tmp_path, message) == STARTED


@pytest.mark.parametrize("hanging", ["apply", "close"])
@pytest.mark.parametrize("begun", [True, False])
async def test_the_end_does_not_wait_for_a_disk_that_hangs(tmp_path, monkeypatch, hanging, begun):
    disk = threading.Event()
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(threads, "JOIN_SECONDS", 0.1)
    ledger = make_ledger(tmp_path)
    message, _ = take(ledger)
    await flush(ledger)
    original = getattr(module.Store, hanging)
    monkeypatch.setattr(module.Store, hanging, lambda *arguments: disk.wait(20) and original(*arguments))
    started = ledger.started(message)
    if begun:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        with structlog.testing.capture_logs() as lines:
            await ledger.close()
        if hanging == "apply":
            with pytest.raises(LedgerError, match="interrupted"):
                await started
        with pytest.raises(LedgerError, match="closed"):
            await ledger.started(message)
    assert [line["error"] for line in lines] == ["ledger: the disk does not answer within 0.1 s"]
    disk.set()
    ledger._thread._thread.join(20)


async def test_after_it_was_closed_nothing_starts(tmp_path):
    async with make_ledger(tmp_path) as ledger:
        message, _ = take(ledger)
    with pytest.raises(LedgerError, match="closed"):
        await ledger.started(message)


async def test_closing_writes_what_is_pending(tmp_path):
    async with make_ledger(tmp_path) as ledger:
        message, _ = take(ledger)
        ledger.note_rejected(message.digest)
    assert state(tmp_path, message) == REJECTED


@pytest.mark.parametrize(("began", "logged"), [(NOW + SKEW, False), (NOW + WIDE, True)])
async def test_a_ledger_ahead_of_the_clock_is_logged_because_it_rejects_everything(tmp_path, began, logged, capsys):
    await make_ledger(tmp_path, now=began).close()
    logs.configure("console")
    async with make_ledger(tmp_path, now=NOW) as ledger:
        await asyncio.sleep(0)  # the lines of a turn of the loop are written at its end
        assert reason(admit(ledger, make_encoded())) is DropReason.REPLAYED
    assert ("ledger_ahead_of_clock" in capsys.readouterr().err) is logged


async def test_failure_and_recovery_are_logged_once(tmp_path, capsys):
    logs.configure("console")
    async with make_ledger(tmp_path) as ledger:
        with no_room(tmp_path):
            for number in range(3):
                with pytest.raises(LedgerError):
                    await ledger.started(take(ledger, payload=b"%d" % number)[0])
        await ledger.started(take(ledger, payload=b"after")[0])
    err = capsys.readouterr().err
    assert (err.count("ledger_failed"), err.count("ledger_recovered")) == (1, 1)


async def test_recorded_outputs_are_bounded_in_bytes_and_the_oldest_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RECORDED_BYTES", 25_000)
    monkeypatch.setattr(module, "RESEND_SECONDS", 0.0)
    messages = []

    async def run(ledger, count):
        for _ in range(count):
            messages.append(take(ledger, payload=b"%d" % len(messages))[0])
            await ledger.started(messages[-1])
            await ledger.done(messages[-1].digest, Reply(0, b"x" * 10_000))

    def recorded():
        with closing(sqlite3.connect(tmp_path / FILE)) as database:
            return database.execute("SELECT sum(length(output)) FROM messages").fetchone()[0]

    async with make_ledger(tmp_path) as ledger:
        await run(ledger, 10)
        await flush(ledger)
        assert recorded() == 20_000
        assert [await ledger.recorded(message.digest) is not None for message in messages] == [False] * 8 + [True] * 2
    async with make_ledger(tmp_path) as ledger:  # what it has recorded before counts
        await run(ledger, 1)
        await flush(ledger)
        assert recorded() == 20_000
        assert set(states(tmp_path).values()) == {DONE}
        ledger.expire(NOW + 2 * SKEW)
        await flush(ledger)
        assert (recorded(), ledger._recorded_bytes) == (None, 0)


async def test_the_file_shrinks_at_the_next_start_and_before_that_its_room_is_used_again(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "MAX_FREE_PAGES", 10)

    async def fill(ledger, now):
        for number in range(500):
            take(ledger, now=now, time_ns=now + number)
        await flush(ledger)
        for digest in states(tmp_path):
            ledger.note_rejected(digest)
        ledger.expire(now + 2 * SKEW)
        await flush(ledger)

    sizes = []
    for _ in range(2):
        async with make_ledger(tmp_path) as ledger:
            for _ in range(3):
                await fill(ledger, NOW + 10 * SKEW * (len(sizes) + 1))
                ledger._store._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                sizes.append((tmp_path / FILE).stat().st_size)
    assert max(sizes) <= sizes[0] * 1.2
    async with make_ledger(tmp_path):
        assert (tmp_path / FILE).stat().st_size < sizes[0] / 4
