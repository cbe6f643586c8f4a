"""What a reply to `remaphore-status` means, whatever it is, and whether a daemon of this machine runs."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remaphore.diagnostics import status as module
from remaphore.diagnostics.status import Problem, ask, judge, read_local, silent
from remaphore.errors import StateError
from remaphore.node import Node
from remaphore.protocol.drop import DropReason
from remaphore.protocol.message import NO_DATA, REJECTED, Reply
from remaphore.protocol.status import parse, to_document
from remaphore.receiving.ledger import state
from remaphore.receiving.status_file import FILE, STALE_SECONDS
from remaphore.tasks import spawn
from remaphore.text import to_json
from remaphore.transport.memory import MemoryBroker
from tests.harness.daemon import running_daemon
from tests.harness.nodes import clock, make_config
from tests.harness.plugins import plugin_manager
from tests.harness.waiting import until
from tests.protocol.test_status import STATUS

KEY = "4wE47rQtCQJkzRHibC3jmQZ3oQdQQWqsWppUPdvMzbLJ"
VALID = to_json(to_document(STATUS)).encode()


def test_a_status_is_read():
    report = judge(Reply(0, VALID, peer="com.one"), key=KEY)
    assert (report.peer, report.status, report.problem) == ("com.one", STATUS, None)


@pytest.mark.parametrize(
    ("reply", "problem", "what", "hint"),
    [
        (
            Reply(77, REJECTED + b"verb-not-permitted: not among the peer's verbs"),
            Problem.REJECTED,
            "rejected: verb-not-permitted",
            f"on that node: remaphore peer permit {KEY} --allow remaphore-status",
        ),
        (
            Reply(77, REJECTED + b"not-permitted: no longer among the verbs of this peer"),
            Problem.REJECTED,
            "rejected: not-permitted",
            f"on that node: remaphore peer permit {KEY} --allow remaphore-status",
        ),
        (Reply(77, REJECTED + b"outside-window: 9 s"), Problem.REJECTED, "rejected: outside-window", "clock"),
        (Reply(75, REJECTED + b"busy: full"), Problem.REJECTED, "rejected: busy: full", "log of its daemon"),
        (Reply(None, NO_DATA), Problem.UNAVAILABLE, "a receiver that runs nothing", "remaphore run"),
        (Reply(127, b"no handler\n"), Problem.UNAVAILABLE, "does not know the verb", "update remaphore there"),
        (Reply(0, b"up 3 days\n"), Problem.UNREADABLE, "unreadable: not JSON", "remaphore hooks remaphore-status"),
        (Reply(0, b""), Problem.UNREADABLE, "unreadable: not JSON", "remaphore hooks"),
        (Reply(1, VALID), Problem.UNREADABLE, "replied with exit code 1", "remaphore hooks"),
        (Reply(-1, b""), Problem.UNREADABLE, "replied with exit code -1", "remaphore hooks"),
        (Reply(None, b"hello"), Problem.UNREADABLE, "without an exit code", "remaphore hooks"),
        (Reply(0, VALID.replace(b'"schema": 1', b'"schema": 2')), Problem.UNREADABLE, "schema 2", "update the older"),
        (Reply(0, b'{"schema": 1}'), Problem.UNREADABLE, "is missing", "update"),
        (Reply(0, b"[" * 50_000), Problem.UNREADABLE, "nested too deeply", "update"),
        (Reply(0, b'{"schema": NaN}'), Problem.UNREADABLE, "NaN", "update"),
        (Reply(0, b'{"a": 1, "a": 1}'), Problem.UNREADABLE, "twice", "update"),
        (Reply(0, b'{"schema": 1' + b"0" * 9000), Problem.UNREADABLE, "not JSON", "update"),
    ],
)
def test_whatever_else_a_peer_replies_is_a_short_line_with_a_hint(reply, problem, what, hint):
    report = judge(replace(reply, peer="com.one"), key=KEY)
    assert (report.peer, report.status, report.problem) == ("com.one", None, problem)
    assert what in report.what
    assert hint in report.hint
    assert len(report.what) < 400


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["verb", "peer"]), inner, max_size=2),
    max_leaves=5,
)


@settings(max_examples=50)
@given(st.data())
def test_no_change_of_a_status_and_no_bytes_raise(data):
    document = to_document(STATUS)
    place = data.draw(st.sampled_from([document, document["running"][0], document["waiting"][0], document["ended"][0]]))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(anything)
    raw = bytearray(json.dumps(document).encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for output in (bytes(raw), json.dumps(document).encode()):
        report = judge(Reply(0, output, peer="com.one"), key=KEY)
        assert (report.status is None) is (report.problem is Problem.UNREADABLE)
        if report.status is not None:  # then what --json prints of it is a status too
            assert parse(to_json(to_document(report.status)))


def test_a_peer_that_does_not_reply_has_a_likely_reason():
    config = make_config(2)
    one = config.peers[0]
    assert silent(one, config, waited="within 5 s")[:4] == ("com.one", None, Problem.NO_REPLY, "no reply within 5 s")
    assert "Go implementation" in silent(replace(one, legacy=True), config, waited="").what
    assert silent(replace(one, key=config.identities[0].key), config, waited="").what.startswith("this node itself")


async def test_what_has_arrived_is_reported_when_the_waiting_is_stopped(tmp_path):
    broker = MemoryBroker()
    node = Node(broker.connect(), make_config(1), clock=clock)
    async with running_daemon(broker.connect(), tmp_path, plugins=plugin_manager()) as own, asyncio.timeout(20):
        for to in (["**"], ["com.two", "com.three"]):
            stops = []
            asking = spawn(ask(node, to, timeout=1000, on_asking=stops.append), name="asking")
            answered = own.stats().replies.get("sent", 0) + 1
            await until(lambda answered=answered: own.stats().replies.get("sent") == answered)
            for _ in range(20):  # the reply arrives within a few iterations of the loop
                await asyncio.sleep(0)
            stops[0]()
            two, three = sorted(await asking, key=lambda report: report.peer, reverse=True)
            assert (two.peer, two.status.destination) == ("com.two", "com.two")
            assert (three.peer, three.problem, three.what) == (
                "com.three",
                Problem.NO_REPLY,
                "no reply before it was stopped",
            )


async def test_a_second_daemon_with_the_key_of_a_peer_is_noticed(tmp_path):
    broker, drops, stops = MemoryBroker(), [], []
    node = Node(broker.connect(), make_config(1), clock=clock)
    plugins, folders = plugin_manager(), (tmp_path / "first", tmp_path / "second")
    for folder in folders:
        folder.mkdir(mode=0o700)
    async with (
        running_daemon(broker.connect(), folders[0], plugins=plugins),
        running_daemon(broker.connect(), folders[1], plugins=plugins),
        asyncio.timeout(20),
    ):
        asking = spawn(ask(node, ["**"], timeout=1000, on_asking=stops.append, on_drop=drops.append), name="asking")
        await until(lambda: drops)
        for _ in range(20):  # the reply that was accepted is read within a few iterations of the loop
            await asyncio.sleep(0)
        stops[0]()
        assert [report.peer for report in await asking if report.status] == ["com.two"]
    assert drops[0].reason is DropReason.ANSWERED_ALREADY


# -- the daemon of this machine ----------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _brief(monkeypatch):
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.05)
    monkeypatch.setattr(module, "_AGAIN_SECONDS", 0.01)


def write(folder, *, pid=None, monotonic=1000.0, status=STATUS):
    document = {
        "pid": os.getpid() if pid is None else pid,
        "connected": True,
        "connection_ns": 1,
        "written_ns": 2,
        "monotonic": monotonic,
        "status": to_document(status),
    }
    (folder / FILE).write_text(json.dumps(document))


def read(folder, *, now=1000.0, default=False):
    times = iter([now, now, *[now + 10 * count for count in range(10)]])
    return read_local(folder, default=default, monotonic=lambda: next(times))


def test_a_daemon_that_holds_the_lock_is_read_whatever_the_age_of_its_file(tmp_path):
    folder = tmp_path / "state"
    with state.locked(folder):
        write(folder)
        found = read(folder, now=1004.0)
        assert (found.content.status, found.age_seconds, found.stale) == (STATUS, 4.0, False)
        assert read(folder, now=1001.0 + STALE_SECONDS).stale
        assert read(folder, now=900.0).age_seconds == 0  # of another boot: no age is negative
        (folder / state.LOCK).write_text("")  # as on a full disk
        assert read(folder).content.status == STATUS


def test_a_file_of_another_process_or_none_is_not_that_of_the_daemon(tmp_path):
    folder = tmp_path / "state"
    with state.locked(folder):
        with pytest.raises(StateError, match=r"\(pid \d+\) uses .* has written no status"):
            read(folder)
        write(folder, pid=1)
        with pytest.raises(StateError, match="its status is that of another process, 1"):
            read(folder)
        (folder / FILE).write_text("garbage")
        with pytest.raises(StateError, match="its status cannot be read: not JSON"):
            read(folder)
        (folder / FILE).unlink()
        (folder / FILE).symlink_to("/dev/null")
        with pytest.raises(StateError, match="its status cannot be read"):
            read(folder)


def test_without_a_daemon_there_is_none_whatever_files_are_left(tmp_path):
    folder = tmp_path / "state"
    for make in (lambda: None, folder.mkdir, lambda: (folder / state.LOCK).write_text("1\n")):
        make()
        with pytest.raises(StateError, match=r"no daemon is running with the state directory [^;]*$") as caught:
            read(folder)
        assert "remaphore run" in caught.value.hint
    for running, text in (((), "did not end cleanly$"), (STATUS.running, "while it was handling 1 message$")):
        write(folder, pid=7, status=replace(STATUS, running=running))
        with pytest.raises(StateError, match=text):
            read(folder)


def test_a_daemon_that_was_killed_does_not_run(tmp_path):
    folder = tmp_path / "state"
    code = (
        "import sys, time, pathlib\nfrom remaphore.receiving.ledger import state\n"
        "with state.locked(pathlib.Path(sys.argv[1])):\n    print('locked', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline()
        write(folder, pid=process.pid)
        assert read(folder).content.pid == process.pid
        process.send_signal(signal.SIGKILL)
    with pytest.raises(StateError, match="no daemon is running"):
        read(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_who_may_not_see_the_daemon_learns_as_which_user_to_ask(tmp_path):
    """Neither a directory that is closed, nor an open one with a closed lock, looks like one without a daemon."""
    for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)
    folders = tmp_path / "closed", tmp_path / "open"
    with state.locked(folders[0]), state.locked(folders[1]):
        folders[1].chmod(0o755)
        code = (
            "import os, sys, pathlib\nfrom remaphore.diagnostics.status import read_local\n"
            "from remaphore.errors import StateError\nos.setuid(65534)\n"
            "for name in sys.argv[1:]:\n    try:\n        read_local(pathlib.Path(name), default=False)\n"
            "    except StateError as error:\n        print(error, error.hint)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, folders)], capture_output=True, text=True, check=True, cwd="/"
        )
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(
        re.search(r"permission denied .*: sudo remaphore status --instance (closed|open)$", line) for line in lines
    )


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("main", "start it (systemctl start remaphore, or remaphore run); "),
        ("blue", "start it (remaphore run --instance blue); "),
    ],
)
def test_the_hint_starts_the_instance_that_was_looked_for(tmp_path, name, start):
    with pytest.raises(StateError) as caught:
        read(tmp_path / name)
    assert caught.value.hint.startswith(start)


def test_an_ordinary_user_is_told_about_the_daemon_of_the_system(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(StateError) as caught:
        read(tmp_path, default=True)
    assert caught.value.hint.startswith("for the daemon of the system: sudo remaphore status")
