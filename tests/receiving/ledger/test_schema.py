"""An older schema becomes ours: nothing is forgotten or starts twice, however often the conversion is killed.

The files in tests/vectors were written by the last version with each schema, which was killed: part of each is in its
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
from remaphore.receiving.ledger.rows import DONE, ENTERED, REJECTED, STARTED
from remaphore.receiving.ledger.store import Store
from tests.harness.factories import NOW, make_encoded, make_gate, make_key, make_peer, make_request, sign_again
from tests.harness.ledgers import WAL, make_ledger, no_room

VECTORS = Path(__file__).parents[2] / "vectors"
MARK = NOW  # that of the sender, since its first message was evicted
# The messages of the file, by payload.
FIELDS = {"time_ns": NOW + 2, "wants_reply": True}
MESSAGES = {
    "done": {"verb": "deploy", **FIELDS},
    "rejected": FIELDS,
    "started": {"verb": "deploy", **FIELDS},
    "pending": FIELDS,
}


@pytest.fixture(params=[1, 2, 3])
def version(request):
    return request.param


@pytest.fixture
def old(tmp_path, version):
    """A folder with the file of schema *version* and its write-ahead log."""
    folder = tmp_path / "old"
    folder.mkdir()
    for name in (FILE, WAL):
        shutil.copyfile(VECTORS / f"ledger-schema-{version}" / name, folder / name)
    return folder


def digest(name):
    return make_request(payload=name.encode(), **MESSAGES[name]).digest


def state_of(path):
    """Return what a ledger of this version makes of *path*: version, beginning, low-water marks, rows."""
    with closing(Store(path, now=NOW + 9)) as opened:
        began, marks, rows = opened.load()
        replies = {row.digest: opened.recorded(row.number) for row in rows}
        return schema.version_of(opened._database), began, marks, rows, replies


def check_converted(folder, old_version):
    """Check that all of the file of schema *old_version* is in the file in *folder*, which is opened for it."""
    version, began, marks, rows, replies = state_of(folder / FILE)
    assert (version, began, marks) == (schema.VERSION, NOW - 1, {make_key().public: MARK})
    # The first version recorded verb and wants_reply at the start only, and the third was the first with ids.
    entered = ("", False) if old_version == 1 else ("ping", True)
    uuid = b"uuid" if old_version == 3 else b""
    assert {row.digest: (row.state, row.verb, row.wants_reply, row.time_ns, row.uuid) for row in rows} == {
        digest("done"): (DONE, "deploy", True, NOW + 2, uuid),
        digest("rejected"): (REJECTED, *entered, NOW + 2, uuid),
        digest("started"): (STARTED, "deploy", True, NOW + 2, uuid),
        digest("pending"): (ENTERED, *entered, NOW + 2, uuid),
    }
    assert [row.number for row in rows] == sorted(row.number for row in rows)
    assert {name: replies[digest(name)] for name in MESSAGES} == {
        "done": (3, b"output", 1),
        **dict.fromkeys(("rejected", "started", "pending")),
    }


def test_all_of_an_old_ledger_is_converted_with_its_write_ahead_log(old, version):
    check_converted(old, version)
    check_converted(old, version)  # opened once more
    assert Store.inspect(old / FILE) == (schema.VERSION, "", MARK)
    with closing(sqlite3.connect(old / FILE)) as database:
        columns = {
            row[1] for table in ("senders", "messages") for row in database.execute(f"PRAGMA table_info({table})")
        }
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {"low_water_mark", "signed_hash", "number", "proof"} <= columns
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
        new = gate.admit(make_encoded(payload=b"new", time_ns=NOW + 3), NOW)
        await ledger.started(new)  # its number is free


def steps_of(version):
    """Return the number of statements of a conversion, before each of which the process may be killed."""
    return len([line for line in schema.conversion(version).split(";") if line.strip()]) + 3  # BEGIN, version, COMMIT


def convert_until(path, step):
    """Convert the ledger *path* in a process of its own, which is killed before statement *step*; return how it ended.

    It begins with the check of the file, whose statements are not counted.
    """
    child = os.fork()
    if child == 0:
        try:
            with closing(sqlite3.connect(path, isolation_level=None)) as database:
                database.execute("PRAGMA cache_size = 1")  # so that pages are written before the end of the transaction
                schema._check_pages(database)
                schema._check_pages = lambda _database: None
                steps = itertools.count(1)

                def count(statement):
                    if not statement.startswith("--") and next(steps) == step:
                        os.kill(os.getpid(), signal.SIGKILL)

                database.set_trace_callback(count)
                schema.prepare(database, now=NOW)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_conversion_that_is_killed_at_any_step_is_repeated(old, version, tmp_path):
    ends, steps = [], steps_of(version)
    for step in range(2, steps + 2):  # the first statement reads the version
        folder = tmp_path / str(step)
        shutil.copytree(old, folder)
        ends += [convert_until(folder / FILE, step) for _ in range(2)]  # killed twice at the same step
        assert Store.inspect(folder / FILE) == (version, "", MARK)
        check_converted(folder, version)
    assert ends == [-signal.SIGKILL] * 2 * steps


@pytest.mark.parametrize("frames", [0, 2])  # of the write-ahead log, for which there is room; all need more
def test_a_conversion_for_which_there_is_no_room_leaves_the_old_ledger_and_is_repeated(old, version, frames):
    size = (old / WAL).stat().st_size + frames * (24 + 4096)  # with the header of each
    with no_room(old, size), pytest.raises(LedgerError) as caught:
        Store(old / FILE, now=NOW)
    assert "free space on the disk" in caught.value.hint
    assert Store.inspect(old / FILE) == (version, "", MARK)
    check_converted(old, version)


def test_an_old_ledger_is_inspected_as_it_is(old, version):
    before = {path.name: path.read_bytes() for path in (old / FILE, old / WAL)}
    assert Store.inspect(old / FILE) == (version, "", MARK)
    assert {name: (old / name).read_bytes() for name in before} == before


def test_a_damaged_old_ledger_is_not_converted(old, version):
    (old / WAL).unlink()
    whole = (old / FILE).read_bytes()
    for page in range(1, len(whole) // 4096):
        (old / FILE).write_bytes(whole[: page * 4096] + b"x" * 4096 + whole[(page + 1) * 4096 :])
        with pytest.raises(LedgerError, match=r"ledger .*: "):
            Store(old / FILE, now=NOW)
        (old / WAL).unlink(missing_ok=True)
        assert Store.inspect(old / FILE).damage
        assert int.from_bytes((old / FILE).read_bytes()[60:64]) == version  # PRAGMA user_version, in the file's header
