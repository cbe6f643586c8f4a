"""The ledger's file: each transition only from where it may begin, all or nothing, and no damaged file is believed."""

from __future__ import annotations

import hashlib
import random
import sqlite3
from contextlib import closing

import pytest

from remaphore.errors import LedgerError
from remaphore.receiving.ledger import store
from remaphore.receiving.ledger.batch import Batch, Write
from remaphore.receiving.ledger.rows import DONE, ENTERED, REJECTED, STARTED, Row
from remaphore.receiving.ledger.schema import VERSION
from remaphore.receiving.ledger.statements import (
    ABANDON,
    COMPLETE,
    EVICT,
    FINISH,
    HANDLE,
    RAISE_LOW_WATER_MARK,
    REJECT,
    RESEND,
    START,
    SWEEP,
)
from remaphore.receiving.ledger.store import WAL_FIRST_BYTES, Store
from tests.harness.ledgers import end_of_commits, no_room

PAGE = 4096
REPLY = (0, b"output")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
def opened(path):
    with closing(Store(path, now=1000)) as opened:
        yield opened


def digest(name):
    return hashlib.sha256(name.encode()).digest()


def number(name):
    return int(name) + 1 if name.isdigit() else int.from_bytes(digest(name)[:4])


def enter(name, *, sender="a", time=2000):
    """The batch of a new row."""
    row = (number(name), sender, digest("hash " + name), digest(name), time, "deploy", True, b"id")
    return Batch({row[0]: row})


def writes(*pairs):
    """The batch of statements."""
    return Batch(writes=[Write(statement) for statement in pairs])


def to(state, name="m", **fields):
    """The batches that bring a message into *state*, each for a transaction of its own."""
    changes = {
        ENTERED: [],
        STARTED: [(START, (number(name),))],
        DONE: [(START, (number(name),)), (FINISH, (number(name), *REPLY))],
        REJECTED: [(REJECT, (number(name),))],
    }
    return [enter(name, **fields), *map(writes, changes[state])]


def apply(opened, *batches):
    """Write *batches*, each in its own transaction; return whether each statement of the last one changed a row."""
    changed = []
    for batch in batches:
        changed = opened.apply(batch)
    return changed


def found(opened):
    return {row.digest: row.state for row in opened.load()[2]}


def test_a_new_ledger_begins_now_and_remembers_nothing(opened):
    assert opened.load() == (1000, {}, [])


def test_its_beginning_is_that_of_the_first_time_it_was_opened(path):
    for now in (1000, 2000):
        with closing(Store(path, now=now)) as opened:
            assert opened.load()[0] == 1000


def test_only_its_owner_may_read_it(opened):
    assert opened.path.stat().st_mode & 0o777 == 0o600


def test_what_was_applied_is_on_the_disk_and_not_in_a_cache(opened):
    settings = [opened._database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert settings == ["wal", 2]  # 2 is FULL


def test_what_was_applied_is_there_when_it_is_opened_again(path):
    with closing(Store(path, now=1000)) as opened:
        apply(opened, *to(STARTED), writes((RAISE_LOW_WATER_MARK, ("a", 1500))))
    with closing(Store(path, now=3000)) as opened:
        row = Row(number("m"), "a", digest("hash m"), digest("m"), 2000, "deploy", True, b"id", STARTED)
        assert opened.load() == (1000, {"a": 1500}, [row])


@pytest.mark.parametrize("state", [STARTED, DONE, REJECTED])
def test_what_is_not_waiting_cannot_be_started(opened, state):
    assert apply(opened, *to(state), writes((START, (number("m"),)))) == [False]
    assert found(opened) == {digest("m"): state}


@pytest.mark.parametrize("unknown", [1, None])
def test_what_was_never_entered_cannot_be_started(opened, unknown):
    assert apply(opened, writes((START, (unknown,)))) == [False]


@pytest.mark.parametrize("state", [ENTERED, DONE, REJECTED])
def test_only_a_started_message_can_be_completed(opened, state):
    for change in ((FINISH, (number("m"), 7, b"another")), (COMPLETE, (number("m"),))):
        apply(opened, *to(state), writes(change))
        assert found(opened) == {digest("m"): state}
    assert opened.recorded(number("m")) == ((*REPLY, 0) if state == DONE else None)


@pytest.mark.parametrize(
    ("state", "becomes"), [(ENTERED, DONE), (STARTED, STARTED), (DONE, DONE), (REJECTED, REJECTED)]
)
def test_only_a_waiting_message_can_be_handled_without_a_start(opened, state, becomes):
    apply(opened, *to(state), writes((HANDLE, (number("m"),))))
    assert found(opened) == {digest("m"): becomes}


def test_the_completion_of_a_message_is_final_with_its_reply(opened):
    apply(opened, *to(DONE), writes((REJECT, (number("m"),))), enter("m"), writes((RESEND, (number("m"),))))
    assert found(opened) == {digest("m"): DONE}
    assert opened.recorded(number("m")) == (*REPLY, 1)


@pytest.mark.parametrize("state", [ENTERED, STARTED, REJECTED])
def test_what_is_not_done_has_no_recorded_reply(opened, state):
    apply(opened, *to(state))
    assert opened.recorded(number("m")) is None


@pytest.mark.parametrize(("state", "kept"), [(ENTERED, 1), (STARTED, 1), (DONE, 0), (REJECTED, 0)])
def test_a_message_that_is_not_final_is_neither_evicted_nor_swept(opened, state, kept):
    apply(opened, *to(state), writes((RAISE_LOW_WATER_MARK, ("a", 2000)), (EVICT, (number("m"),))))
    assert len(found(opened)) == kept
    apply(opened, *to(state), writes((SWEEP, ())))
    assert len(found(opened)) == kept


def test_a_sweep_deletes_what_the_low_water_mark_of_its_own_sender_rejects_and_no_more(opened):
    for name, fields in {"at": {}, "after": {"time": 2001}, "of b": {"sender": "b"}}.items():
        apply(opened, *to(DONE, name, **fields))
    apply(opened, writes((RAISE_LOW_WATER_MARK, ("a", 2000)), (SWEEP, ())))
    assert set(found(opened)) == {digest("after"), digest("of b")}


def test_only_what_waited_is_abandoned_and_nothing_of_this_process(opened):
    names = sorted([ENTERED, STARTED, DONE, REJECTED, "new"], key=number)
    for name in names[:-1]:
        apply(opened, *to(name if name != "new" else ENTERED, name))
    apply(opened, *to(ENTERED, names[-1]), writes((ABANDON, (number(names[-2]),))))
    states = [REJECTED if name in (ENTERED, "new") else name for name in names[:-1]]
    assert list(map(found(opened).get, map(digest, names))) == [*states, ENTERED]


def test_a_low_water_mark_never_falls(opened):
    for marks in [(1500,), (1700, 1400), (1600,)]:
        apply(opened, writes(*((RAISE_LOW_WATER_MARK, ("a", mark)) for mark in marks)))
    assert opened.load()[1] == {"a": 1700}


@pytest.mark.parametrize("bad", [("INSERT INTO nowhere VALUES (1)", ()), (RAISE_LOW_WATER_MARK, ("a", 2**63))])
def test_a_batch_is_written_as_a_whole_or_not_at_all(opened, bad):
    with pytest.raises(LedgerError):
        apply(opened, enter("first") + writes((REJECT, (number("first"),)), bad) + enter("last"))
    assert found(opened) == {}
    apply(opened, enter("next"))
    assert found(opened) == {digest("next"): ENTERED}


def test_an_exception_of_another_kind_leaves_no_transaction_open(opened, monkeypatch):
    def broken(_batch):
        yield "DELETE FROM messages", (), None
        raise RuntimeError("broken on purpose")

    apply(opened, enter("first"))
    with monkeypatch.context() as patched:
        patched.setattr(store, "one_by_one", broken)
        with pytest.raises(RuntimeError):
            apply(opened, enter("lost"))
    apply(opened, enter("next"))
    assert found(opened) == {digest("first"): ENTERED, digest("next"): ENTERED}


def test_a_ledger_of_a_newer_program_is_rejected_and_left_unchanged(path):
    Store(path, now=1000).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 9")
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=r"created by a newer remaphore \(schema 9, ours is 4\)$") as caught:
        Store(path, now=2000)
    assert caught.value.hint == "install that version, or stop the daemon and move the file away"
    assert path.read_bytes() == before


def test_an_empty_file_is_a_lost_ledger_and_begins_now(path):
    path.touch()
    with closing(Store(path, now=5000)) as opened:
        assert opened.load() == (5000, {}, [])


def test_a_write_ahead_log_without_its_file_is_a_lost_ledger(opened, tmp_path):
    apply(opened, *to(DONE))
    left = tmp_path / "left"
    left.mkdir()
    (left / "ledger.sqlite3-wal").write_bytes((tmp_path / "ledger.sqlite3-wal").read_bytes())
    with closing(Store(left / "ledger.sqlite3", now=5000)) as new:
        assert new.load() == (5000, {}, [])


def test_a_ledger_that_could_not_be_created_for_lack_of_room_begins_when_there_is(path, tmp_path):
    with no_room(tmp_path, PAGE), pytest.raises(LedgerError):
        Store(path, now=1000)
    with closing(Store(path, now=3000)) as opened:
        assert opened.load() == (3000, {}, [])


def test_a_link_is_not_followed(path, tmp_path):
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LedgerError, match="symbolic link") as caught:
        Store(path, now=1000)
    assert caught.value.hint.startswith("replace the symbolic link")
    assert not (tmp_path / "elsewhere").exists()


def test_the_error_names_the_file_and_what_is_wrong_and_its_hint_the_fix(path):
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(LedgerError) as caught:
        Store(path, now=1000)
    assert str(caught.value) == f"ledger {path}: file is not a database"
    assert caught.value.hint == "stop the daemon and move the file away"


def test_a_file_that_another_program_uses_is_not_blamed_on_the_disk(opened, path):
    opened._database.execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="database is locked") as caught:
            opened.apply(enter("m"))
    assert caught.value.hint == "end the program that uses the file (fuser names it), such as a backup or sqlite3"
    opened.apply(enter("m"))


@pytest.fixture
def full(path):
    """The bytes of a ledger with several pages of everything."""
    with closing(Store(path, now=1000)) as opened:
        names = [str(place) for place in range(200)]
        apply(opened, sum((enter(name, time=2000 + int(name)) for name in names), Batch()))
        for change in (START, FINISH):
            apply(opened, writes(*((change, (number(name), *(REPLY if change == FINISH else ()))) for name in names)))
        apply(opened, writes(*((RAISE_LOW_WATER_MARK, (f"sender {name}", int(name))) for name in names)))
    return path.read_bytes()


# SQLite takes a file that begins with zeros, or is a few bytes long, for an empty one: then all before now is rejected.
LOST = (9000, {}, [])


def believed(path):
    """Return what a ledger makes of *path*; None if it rejects it."""
    try:
        with closing(Store(path, now=9000)) as opened:
            return opened.load()
    except LedgerError:
        return None


def test_no_page_of_junk_is_believed(path, full):
    junk = random.Random(1)
    for page in range(len(full) // PAGE):
        path.write_bytes(full[: page * PAGE] + junk.randbytes(PAGE) + full[(page + 1) * PAGE :])
        assert believed(path) is None, page


def test_no_truncated_file_is_believed(path, full):
    intact = believed(path)
    for size in [1, 99, 100, 512, *range(PAGE, len(full), PAGE), *range(len(full) - 200, len(full))]:
        path.write_bytes(full[:size])
        if any(full[size:]):
            assert believed(path) in (None, LOST), size
        else:  # zeros at the end of a page, which SQLite reads there anyway
            assert believed(path) == intact, size


def test_no_changed_byte_of_a_row_is_believed(path, full):
    row = believed(path)[2][100]
    digest = full.index(row.digest)
    end = full.index(REPLY[1], digest) + len(REPLY[1])
    # The row begins with its size, number and the types of its columns; its last column is the proof, of 4 or 6 bytes.
    fixed = [*range(full.rindex(b"a", 0, full.index(row.signed_hash)) - 12, end - len(REPLY[1])), *range(end, end + 4)]
    assert len(fixed) > 90
    for place in fixed:
        path.write_bytes(full[:place] + bytes([full[place] ^ 0x10]) + full[place + 1 :])
        assert Store.inspect(path).damage, place
        assert believed(path) is None, place


def test_zeroed_pages_are_not_believed(path, full):
    for page in range(len(full) // PAGE):
        path.write_bytes(full[: page * PAGE] + bytes(PAGE) + full[(page + 1) * PAGE :])
        assert believed(path) in (None, LOST), page


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE messages SET state = 'entereD'",
        "UPDATE senders SET low_water_mark = 'high'",
        "UPDATE senders SET low_water_mark = 0.5",
        "UPDATE messages SET time_ns = 'late'",
        "UPDATE messages SET digest = 'short' WHERE time_ns = 2000",
        "UPDATE messages SET sender = x'61' WHERE time_ns = 2000",
        "UPDATE messages SET wants_reply = 'yes' WHERE time_ns = 2000",
        "UPDATE messages SET proof = proof + 1 WHERE time_ns = 2199",
        "UPDATE messages SET number = number - 1 WHERE time_ns = 2000",
        "UPDATE meta SET value = 'never'",
        "DELETE FROM meta",
    ],
)
def test_no_value_of_another_kind_is_believed(path, full, damage):
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        database.execute(damage)
    assert Store.inspect(path).damage
    assert believed(path) is None


def test_an_inspection_shows_the_schema_and_the_latest_low_water_mark_and_changes_nothing(path):
    with closing(Store(path, now=1000)) as opened:
        assert Store.inspect(path) == (VERSION, "", 1000)
        apply(opened, writes((RAISE_LOW_WATER_MARK, ("a", 1500)), (RAISE_LOW_WATER_MARK, ("b", 900))))
        assert Store.inspect(path) == (VERSION, "", 1500)  # also while a daemon has the file open
    before = path.read_bytes()
    assert Store.inspect(path) == (VERSION, "", 1500)
    assert path.read_bytes() == before


def test_an_inspection_of_a_newer_ledger_does_not_look_for_damage(path):
    Store(path, now=1000).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 9")
        database.execute("DROP TABLE meta")
    found = Store.inspect(path)
    assert (found, found.newer) == ((9, "", 0), True)


@pytest.mark.parametrize(
    ("content", "damage"),
    [(b"", "it has no schema"), (b"no database " * 1000, "cannot be read: file is not a database")],
)
def test_an_inspection_states_why_a_file_is_no_ledger(path, content, damage):
    path.write_bytes(content)
    assert Store.inspect(path) == (0, damage, 0)
    path.unlink()
    assert Store.inspect(path).damage == "cannot be read: unable to open database file"
    assert not path.exists()


def test_an_inspection_finds_damage(path, full):
    path.write_bytes(full[: 2 * PAGE] + b"x" * PAGE + full[3 * PAGE :])
    assert Store.inspect(path).damage


def log_of(path):
    return path.with_name(path.name + "-wal")


def test_a_commit_does_not_make_the_write_ahead_log_longer(opened, path):
    for name in range(20):
        apply(opened, enter(str(name)))
    assert log_of(path).stat().st_size == WAL_FIRST_BYTES
    assert end_of_commits(path.parent) > 20 * PAGE  # each has written to it


def test_what_was_committed_into_the_zeros_is_found_after_a_kill(opened, path, tmp_path):
    apply(opened, enter("1"))
    left = tmp_path / "left"
    left.mkdir()
    for each in (path, log_of(path)):
        (left / each.name).write_bytes(each.read_bytes())
    with closing(Store(left / path.name, now=9000)) as again:
        assert found(again) == {digest("1"): ENTERED}
        assert log_of(left / path.name).stat().st_size == WAL_FIRST_BYTES  # as long as it was
        apply(again, enter("2"))
        assert found(again) == {digest("1"): ENTERED, digest("2"): ENTERED}


@pytest.mark.parametrize("room", [WAL_FIRST_BYTES - 1, WAL_FIRST_BYTES // 2])
def test_without_room_for_the_zeros_none_are_written_and_all_else_is(path, tmp_path, room):
    with no_room(tmp_path, room), closing(Store(path, now=1000)) as opened:
        assert log_of(path).stat().st_size == end_of_commits(tmp_path)
        apply(opened, enter("1"))
        assert found(opened) == {digest("1"): ENTERED}


def test_no_zeros_are_written_while_another_process_writes(path, monkeypatch):
    Store(path, now=1000).close()
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, **options, timeout=0.0))
    with closing(connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("PRAGMA user_version = 4")
        with closing(Store(path, now=2000)):
            assert log_of(path).stat().st_size < WAL_FIRST_BYTES


def test_zeros_are_not_written_through_a_link(path, tmp_path):
    with closing(Store(path, now=1000)):
        log, other = log_of(path), tmp_path / "other"
        log.rename(other)
        log.symlink_to(other)
        with pytest.raises(OSError, match="symbolic"):
            store._extend(log, 2 * WAL_FIRST_BYTES)
        assert other.stat().st_size == WAL_FIRST_BYTES
