"""The ledger's file: each transition only from where it may begin, all or nothing, and no damaged file is believed."""

from __future__ import annotations

import hashlib
import random
import sqlite3
from contextlib import closing

import pytest

from remaphore.errors import LedgerError
from remaphore.receiving.ledger import store
from remaphore.receiving.ledger.schema import DONE, ENTERED, REJECTED, STARTED
from remaphore.receiving.ledger.store import Store
from tests.harness.ledgers import no_room

PAGE = 4096
FINISH = (0, b"output")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
def opened(path):
    with closing(Store(path, now=1000)) as opened:
        yield opened


def digest(name):
    return hashlib.sha256(name.encode()).digest()


def enter(name, *, sender="a", time=2000):
    return store.ENTER, (sender, digest("identity " + name), digest(name), time, "deploy", True, b"id")


def to(state, name="m", **fields):
    """The statements that bring a message into *state*."""
    ways = {
        ENTERED: [],
        STARTED: [(store.START, (digest(name),))],
        DONE: [(store.START, (digest(name),)), (store.FINISH, (*FINISH, digest(name)))],
        REJECTED: [(store.REJECT, (digest(name),))],
    }
    return [enter(name, **fields), *ways[state]]


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
        opened.apply([*to(STARTED), (store.RAISE_LOW_WATER_MARK, ("a", 1500))])
    with closing(Store(path, now=3000)) as opened:
        row = store.Row("a", digest("identity m"), digest("m"), 2000, STARTED, "deploy", True, b"id")
        assert opened.load() == (1000, {"a": 1500}, [row])


@pytest.mark.parametrize("state", [STARTED, DONE, REJECTED])
def test_what_is_not_waiting_cannot_be_started(opened, state):
    opened.apply(to(state))
    assert opened.apply([(store.START, (digest("m"),))]) == [0]
    assert found(opened) == {digest("m"): state}


def test_what_was_never_entered_cannot_be_started(opened):
    assert opened.apply([(store.START, (digest("m"),))]) == [0]


@pytest.mark.parametrize("state", [ENTERED, DONE, REJECTED])
def test_only_a_started_message_can_be_completed(opened, state):
    opened.apply(to(state))
    assert opened.apply([(store.FINISH, (7, b"another", digest("m")))]) == [0]


def test_the_completion_of_a_message_is_final_with_its_reply(opened):
    opened.apply(to(DONE))
    opened.apply([(store.REJECT, (digest("m"),)), enter("m"), (store.RESEND, (digest("m"),))])
    assert found(opened) == {digest("m"): DONE}
    assert opened.recorded(digest("m")) == (0, b"output", 1)


@pytest.mark.parametrize("state", [ENTERED, STARTED, REJECTED])
def test_what_is_not_done_has_no_recorded_reply(opened, state):
    opened.apply(to(state))
    assert opened.recorded(digest("m")) is None


@pytest.mark.parametrize(("state", "kept"), [(ENTERED, 1), (STARTED, 1), (DONE, 0), (REJECTED, 0)])
def test_a_message_that_is_not_final_is_neither_evicted_nor_swept(opened, state, kept):
    opened.apply([*to(state), (store.RAISE_LOW_WATER_MARK, ("a", 2000)), (store.EVICT, (digest("m"),))])
    assert len(found(opened)) == kept
    opened.apply([*to(state), (store.SWEEP, ())])
    assert len(found(opened)) == kept


def test_a_sweep_deletes_what_the_low_water_mark_of_its_own_sender_rejects_and_no_more(opened):
    opened.apply([*to(DONE, "at", time=2000), *to(DONE, "after", time=2001), *to(DONE, "of b", sender="b", time=2000)])
    opened.apply([(store.RAISE_LOW_WATER_MARK, ("a", 2000)), (store.SWEEP, ())])
    assert set(found(opened)) == {digest("after"), digest("of b")}


def test_only_what_waited_is_abandoned(opened):
    opened.apply([entry for state in (ENTERED, STARTED, DONE, REJECTED) for entry in to(state, state)])
    opened.apply([(store.ABANDON, ())])
    assert list(map(found(opened).get, map(digest, (ENTERED, STARTED, DONE)))) == [REJECTED, STARTED, DONE]


def test_a_low_water_mark_never_falls(opened):
    opened.apply([(store.RAISE_LOW_WATER_MARK, ("a", mark)) for mark in (1500, 1700, 1600)])
    assert opened.load()[1] == {"a": 1700}


@pytest.mark.parametrize("bad", [("INSERT INTO nowhere VALUES (1)", ()), (store.RAISE_LOW_WATER_MARK, ("a", 2**63))])
def test_statements_are_applied_together_or_not_at_all(opened, bad):
    with pytest.raises(LedgerError):
        opened.apply([enter("first"), bad, enter("last")])
    assert found(opened) == {}
    opened.apply([enter("next")])
    assert found(opened) == {digest("next"): ENTERED}


def test_an_exception_of_another_kind_leaves_no_transaction_open(opened):
    def statements():
        yield enter("first")
        raise RuntimeError("broken on purpose")

    with pytest.raises(RuntimeError):
        opened.apply(statements())
    opened.apply([enter("next")])
    assert found(opened) == {digest("next"): ENTERED}


def test_a_ledger_of_a_newer_program_is_rejected_and_left_unchanged(path):
    Store(path, now=1000).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 9")
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=r"created by a newer remaphore \(schema 9, ours is 3\)$") as caught:
        Store(path, now=2000)
    assert caught.value.hint == "install that version, or stop the daemon and move the file away"
    assert path.read_bytes() == before


def test_an_empty_file_is_a_lost_ledger_and_begins_now(path):
    path.touch()
    with closing(Store(path, now=5000)) as opened:
        assert opened.load() == (5000, {}, [])


def test_a_write_ahead_log_without_its_file_is_a_lost_ledger(opened, tmp_path):
    opened.apply(to(DONE))
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
            opened.apply([enter("m")])
    assert caught.value.hint == "end the program that uses the file (fuser names it), such as a backup or sqlite3"
    opened.apply([enter("m")])


@pytest.fixture
def full(path):
    """The bytes of a ledger with several pages of everything."""
    with closing(Store(path, now=1000)) as opened:
        opened.apply([entry for number in range(200) for entry in to(DONE, str(number), time=2000 + number)])
        opened.apply([(store.RAISE_LOW_WATER_MARK, (f"sender {number}", number)) for number in range(200)])
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
    for size in [1, 99, 100, 512, *range(PAGE, len(full), PAGE), len(full) - 1]:
        path.write_bytes(full[:size])
        assert believed(path) in (None, LOST), size


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
        "UPDATE meta SET value = 'never'",
        "DELETE FROM meta",
    ],
)
def test_no_value_of_another_kind_is_believed(path, full, damage):
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        database.execute(damage)
    assert believed(path) is None


def test_an_inspection_shows_the_schema_and_the_latest_low_water_mark_and_changes_nothing(path):
    with closing(Store(path, now=1000)) as opened:
        assert Store.inspect(path) == (3, "", 1000)
        opened.apply([(store.RAISE_LOW_WATER_MARK, (sender, mark)) for sender, mark in (("a", 1500), ("b", 900))])
        assert Store.inspect(path) == (3, "", 1500)  # also while a daemon has the file open
    before = path.read_bytes()
    assert Store.inspect(path) == (3, "", 1500)
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
