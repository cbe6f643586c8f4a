"""An older schema becomes ours: nothing is forgotten or starts twice, however often the conversion is killed.

The file in tests/vectors was written by the last version with schema 1, which was killed: part of it is in the
write-ahead log.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from remaphore.errors import LedgerError
from remaphore.protocol.drop import Drop
from remaphore.protocol.message import Reply
from remaphore.receiving.ledger import schema
from remaphore.receiving.ledger.ledger import FILE
from remaphore.receiving.ledger.schema import DONE, ENTERED, REJECTED, STARTED
from remaphore.receiving.ledger.store import Store
from tests.harness.factories import NOW, make_encoded, make_gate, make_key, make_peer, make_request, sign_again
from tests.harness.ledgers import WAL, make_ledger, no_room

OLD = Path(__file__).parents[2] / "vectors" / "ledger-schema-1"
MARK = NOW  # that of the sender, since its first message was evicted
# The messages of the file, by payload.
FIELDS = {"time_ns": NOW + 2, "wants_reply": True}
MESSAGES = {
    "done": {"verb": "deploy", **FIELDS},
    "rejected": FIELDS,
    "started": {"verb": "deploy", **FIELDS},
    "pending": FIELDS,
}


@pytest.fixture
def old(tmp_path):
    """A folder with the file of schema 1 and its write-ahead log."""
    folder = tmp_path / "old"
    folder.mkdir()
    for name in (FILE, WAL):
        shutil.copyfile(OLD / name, folder / name)
    return folder


def digest(name):
    return make_request(payload=name.encode(), **MESSAGES[name]).digest


def state_of(path):
    """Return what a ledger of this version makes of *path*: version, beginning, low-water marks, rows."""
    with closing(Store(path, now=NOW + 9)) as opened:
        began, marks, rows = opened.load()
        replies = {row.digest: opened.recorded(row.digest) for row in rows}
        return schema.version_of(opened._database), began, marks, rows, replies


def check_converted(folder):
    """Check that all of the file of schema 1 is in the file in *folder*, which is opened for it."""
    version, began, marks, rows, replies = state_of(folder / FILE)
    assert (version, began, marks) == (schema.VERSION, NOW - 1, {make_key().public: MARK})
    assert {row.digest: (row.state, row.verb, row.wants_reply, row.time_ns) for row in rows} == {
        digest("done"): (DONE, "deploy", True, NOW + 2),
        digest("rejected"): (REJECTED, "", False, NOW + 2),
        digest("started"): (STARTED, "deploy", True, NOW + 2),
        digest("pending"): (ENTERED, "", False, NOW + 2),
    }
    assert {name: replies[digest(name)] for name in MESSAGES} == {
        "done": (3, b"output", 1),
        **dict.fromkeys(("rejected", "started", "pending")),
    }


def test_all_of_an_old_ledger_is_converted_with_its_write_ahead_log(old):
    check_converted(old)
    check_converted(old)  # opened once more
    with closing(sqlite3.connect(old / FILE)) as database:
        columns = {
            row[1] for table in ("senders", "messages") for row in database.execute(f"PRAGMA table_info({table})")
        }
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {"low_water_mark", "signed_hash"} <= columns
    assert not {"floor", "identity"} & columns
    assert tables == {"meta", "senders", "messages"}


async def test_nothing_of_an_old_ledger_starts_again_and_its_replies_are_sent_again(old):
    raws = {name: make_encoded(payload=name.encode(), **fields) for name, fields in MESSAGES.items()}
    evicted = make_encoded(payload=b"evicted", verb="old", wants_reply=True)
    async with make_ledger(old) as ledger:
        gate = make_gate(make_peer(1), window=ledger.window)
        assert ledger.problem == ""
        assert [row.digest for row in ledger.interrupted] == [digest("started")]
        assert [row.digest for row in ledger.abandoned] == [digest("pending")]
        for raw in [*raws.values(), evicted]:
            for copy in (raw, sign_again(raw)):
                assert isinstance(gate.admit(copy, NOW), Drop)
        for name, fields in MESSAGES.items():
            with pytest.raises(LedgerError):
                await ledger.started(make_request(payload=name.encode(), **fields))
        assert await ledger.recorded(digest("done")) == Reply(3, b"output")


async def test_a_ledger_of_schema_2_keeps_all_rows_and_their_ids_are_unknown(old):
    check_converted(old)
    with closing(sqlite3.connect(old / FILE)) as database:  # back to schema 2, which lacks the column only
        database.executescript("ALTER TABLE messages DROP COLUMN uuid; PRAGMA user_version = 2")
    check_converted(old)
    async with make_ledger(old) as ledger:
        assert [row.uuid for row in (*ledger.interrupted, *ledger.abandoned)] == [b"", b""]


# The steps of the conversion, each a point at which the process may be killed.
STEPS = len([line for line in schema._FROM_1.split(";") if line.strip()]) + 3  # BEGIN, the version, COMMIT


def convert_until(path, step):
    """Convert the ledger *path* in a process of its own, which is killed before statement *step*; return how it ended.

    It begins with the check of the file, whose statements are not counted.
    """
    child = os.fork()
    if child == 0:
        try:
            with closing(sqlite3.connect(path, isolation_level=None)) as database:
                database.execute("PRAGMA cache_size = 1")  # so that pages are written before the end of the transaction
                schema.check(database)
                schema.check = lambda _database: None
                steps = itertools.count(1)

                def count(statement):
                    if not statement.startswith("--") and next(steps) == step:
                        os.kill(os.getpid(), signal.SIGKILL)

                database.set_trace_callback(count)
                schema.prepare(database, now=NOW)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_conversion_that_is_killed_at_any_step_is_repeated(old, tmp_path):
    ends = []
    for step in range(2, STEPS + 2):  # the first statement reads the version
        folder = tmp_path / str(step)
        shutil.copytree(old, folder)
        ends += [convert_until(folder / FILE, step) for _ in range(2)]  # killed twice at the same step
        assert Store.inspect(folder / FILE) == (1, "", MARK)
        check_converted(folder)
    assert ends == [-signal.SIGKILL] * 2 * STEPS


@pytest.mark.parametrize("frames", [0, 4])  # of the write-ahead log, for which there is room; all need more
def test_a_conversion_for_which_there_is_no_room_leaves_the_old_ledger_and_is_repeated(old, frames):
    size = (old / WAL).stat().st_size + frames * (24 + 4096)  # with the header of each
    with no_room(old, size), pytest.raises(LedgerError) as caught:
        Store(old / FILE, now=NOW)
    assert "free space on the disk" in caught.value.hint
    assert Store.inspect(old / FILE) == (1, "", MARK)
    check_converted(old)


def test_an_old_ledger_is_inspected_as_it_is(old):
    before = {path.name: path.read_bytes() for path in (old / FILE, old / WAL)}
    assert Store.inspect(old / FILE) == (1, "", MARK)
    assert {name: (old / name).read_bytes() for name in before} == before


def test_a_damaged_old_ledger_is_not_converted(old):
    (old / WAL).unlink()
    whole = (old / FILE).read_bytes()
    for page in range(1, len(whole) // 4096):
        (old / FILE).write_bytes(whole[: page * 4096] + b"x" * 4096 + whole[(page + 1) * 4096 :])
        with pytest.raises(LedgerError, match=r"ledger .*: "):
            Store(old / FILE, now=NOW)
        (old / WAL).unlink(missing_ok=True)
        assert Store.inspect(old / FILE).damage
        assert int.from_bytes((old / FILE).read_bytes()[60:64]) == 1  # PRAGMA user_version, in the file's header
