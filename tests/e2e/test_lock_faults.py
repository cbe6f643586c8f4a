"""What holds a lock is killed, stopped, cut off: the old command never runs beside the next one.

Each command writes a sign of its life every 20 ms, with its fencing token. docs/coordination.md has the same table.
"""

import asyncio
import contextlib
import os
import select
import shutil
import signal
import sys
import time
from itertools import count
from pathlib import Path

import pytest

from tests.harness import lock_processes
from tests.harness.lock_processes import Site
from tests.harness.nats_server import NatsServer, jetstream_config, running_jetstream
from tests.harness.ports import free_port
from tests.harness.programs import alive

ROOTS = count()
TTL = 2.0  # seconds; the grace is a sixth of it
SECOND = 10**9


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_jetstream(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def site(tmp_path, server):
    found = Site(tmp_path, server, f"faults{next(ROOTS)}")
    yield found
    found.end()


@pytest.fixture
def own_site(tmp_path):
    """A site whose server a test may stop."""
    server = NatsServer(tmp_path / "server", jetstream_config(tmp_path / "data"))
    asyncio.run(server.start())
    found = Site(tmp_path, server, "own")
    yield found
    found.end()
    server.kill()


HOWS = {
    "a command": (),
    "one that ignores TERM": ("ignores TERM",),
    "a child in a session of its own": ("leaves a child",),
}


def processes_of(site, how):
    """Return how many processes write signs."""
    return 2 if how == "a child in a session of its own" else 1


def all_gone(site, pids):
    site.until(lambda: not any(map(alive, pids)))


FAULTS = (
    "the lock is killed",
    "the guardian is killed",
    "both are killed",
    "its process group is killed",
    "the lock is stopped",
    "its process group is stopped",
    "it is evicted",
)
SAMPLES = {
    ("the lock is killed", "a child in a session of its own"),
    ("the guardian is killed", "one that ignores TERM"),
    ("both are killed", "a command"),
    ("its process group is killed", "a child in a session of its own"),
    ("the lock is stopped", "a child in a session of its own"),
    ("its process group is stopped", "one that ignores TERM"),
    ("it is evicted", "one that ignores TERM"),
}
# Where both are killed, the kernel kills the command, and nothing is left that could find what it has started.
CASES = [
    pytest.param(fault, how, marks=() if (fault, how) in SAMPLES else pytest.mark.long)
    for fault in FAULTS
    for how in HOWS
    if (fault, how) != ("both are killed", "a child in a session of its own")
]


@pytest.mark.parametrize(("fault", "how"), CASES)
def test_the_old_command_never_runs_beside_the_next_one(site, fault, how):
    holder = site.hold("left", ttl=TTL, how=HOWS[how])
    site.until(lambda: len(site.pids()) == processes_of(site, how))
    pids, (guardian, _) = site.pids(), site.family(holder)
    waiter = site.wait_in_line("right", ttl=TTL)
    if fault in ("the lock is killed", "both are killed"):
        holder.popen.kill()
    if fault in ("the guardian is killed", "both are killed"):
        os.kill(guardian, signal.SIGKILL)
    if fault == "the lock is stopped":
        holder.popen.send_signal(signal.SIGSTOP)
    if fault == "its process group is killed":
        os.killpg(holder.popen.pid, signal.SIGKILL)
    if fault == "its process group is stopped":
        os.killpg(holder.popen.pid, signal.SIGSTOP)
    if fault == "it is evicted":
        assert site.run("third", "lock", "release", "deploy").returncode == 0
    all_gone(site, pids)
    assert waiter.finish()[0] == 0
    if "stopped" in fault:
        os.killpg(holder.popen.pid, signal.SIGCONT)
    if fault in ("the lock is stopped", "its process group is stopped", "the guardian is killed", "it is evicted"):
        assert holder.finish()[0] == 125
        assert "the command was ended" in holder.lines[-1]
    assert site.overlaps() == 0
    assert len(site.tokens()) == 2
    assert site.tokens() == sorted(site.tokens())


def test_a_stopped_guardian_whose_lock_is_killed_continues_and_ends_the_command(site):
    holder = site.hold("left", "--grace", "1s", ttl=300.0, how=("leaves a child",))
    site.until(lambda: len(site.pids()) == 2)
    pids, (guardian, _) = site.pids(), site.family(holder)
    os.kill(guardian, signal.SIGSTOP)
    status = Path(f"/proc/{guardian}/status")
    site.until(lambda: "T (stopped)" in status.read_text())
    holder.popen.kill()
    all_gone(site, pids)  # long before the end of the lease: the kernel continues an orphaned process group


# `remaphore` with a part that fails once there is a certain file.
BROKEN = """
import os
from remaphore.cli import holder
from remaphore.coordination import command
from tests.harness import short_lease

def failing(function):
    def call(*args, **options):
        if os.path.exists({flag!r}) and options.get("name") in (None, "keep the lease"):
            raise {error}
        return function(*args, **options)
    return call

{part} = failing({part})
short_lease.main.command()
"""


@contextlib.contextmanager
def failing(site, monkeypatch, part, error):
    """A block in which *site* starts processes whose *part* raises *error* once the file exists that it yields."""
    flag = site.folder / "fails"
    with monkeypatch.context() as patch:
        code = BROKEN.format(flag=str(flag), error=error, part=part)
        patch.setattr(lock_processes, "PROGRAM", (sys.executable, "-c", code))
        yield flag


@pytest.mark.parametrize("error", ["MemoryError()", "OSError(5, 'Input/output error')", "ValueError('a defect')"])
def test_an_unexpected_error_of_the_lock_does_not_free_it_before_its_command_has_ended(site, monkeypatch, error):
    with failing(site, monkeypatch, "command.boottime", error) as flag:
        holder = site.hold("left", ttl=TTL, how=("ignores TERM",))
    pids = site.pids()
    waiter = site.wait_in_line("right", ttl=TTL)
    flag.touch()
    assert holder.finish()[0] == 3
    all_gone(site, pids)
    assert waiter.finish()[0] == 0
    assert site.overlaps() == 0
    assert len(site.tokens()) == 2


@pytest.mark.parametrize("error", ["MemoryError()", "OSError(5, 'Input/output error')"])
def test_an_unexpected_error_of_a_renewal_ends_the_command_and_says_why(site, monkeypatch, error):
    with failing(site, monkeypatch, "command.GuardedCommand.prolong", error) as flag:
        holder = site.hold("left", ttl=TTL)
    waiter = site.wait_in_line("right", ttl=TTL)
    flag.touch()
    assert holder.finish()[0] == 125
    assert f"lock deploy lost: {error.partition('(')[0]}" in holder.lines[-1]
    assert waiter.finish()[0] == 0
    assert site.overlaps() == 0


def test_an_error_before_the_command_is_started_frees_the_lock_and_does_not_start_it(site, monkeypatch):
    with failing(site, monkeypatch, "holder.spawn", "MemoryError()") as flag:
        flag.touch()
        done = site.run("left", "lock", "deploy", "--", *site.writer("once"))
    assert (done.returncode, site.signs()) == (3, [])
    assert "cannot allocate memory" in done.stderr
    assert site.run("right", "lock", "--no-wait", "deploy", "--", "true").returncode == 0


class Leaderless(Site):
    """On a cluster without a leader, which makes no streams."""

    async def _make_streams(self):
        pass


def test_who_waits_on_a_cluster_without_a_leader_is_told_so(tmp_path):
    routes = ", ".join(f"nats://127.0.0.1:{free_port()}" for _ in range(2))
    config = f"server_name: s0\n{jetstream_config(tmp_path / 'data')}"
    server = NatsServer(
        tmp_path / "alone", f'{config}cluster {{ name: c, listen: "127.0.0.1:{free_port()}", routes: [{routes}] }}\n'
    )
    asyncio.run(server.start())
    try:
        alone = Leaderless(tmp_path, server, "leaderless")
        waiter = alone.start("left", "lock", "--log-format", "json", "deploy", "--", "true")
        assert "or may not" not in waiter.wait_for("lock deploy: cannot be examined now: ")
        alone.until(lambda: waiter.events("lock_waiting"))
        (event,) = waiter.events("lock_waiting")
        assert event["failure"]
        alone.end()
    finally:
        server.kill()


def test_a_guardian_that_is_killed_frees_the_lock_at_once(site):
    holder = site.hold("left", "--log-format", "json", ttl=300.0)
    waiter = site.wait_in_line("right", ttl=300.0)
    os.kill(site.family(holder)[0], signal.SIGKILL)
    assert waiter.finish()[0] == 0  # long before the lease would have ended
    assert holder.finish()[0] == 125
    assert [event["reason"] for event in holder.events("lock_lost")] == ["guardian-gone"]
    assert site.overlaps() == 0


# What the lock protects: it keeps the highest token that it has seen, and refuses a smaller one.
PROTECTED = """
import fcntl, os, sys, time
token = int(os.environ["REMAPHORE_LOCK_TOKEN"])
file = open(sys.argv[1], "a+")
while True:
    fcntl.flock(file, fcntl.LOCK_EX)
    file.seek(0)
    highest = max(map(int, file.read().split()), default=0)
    if token < highest:
        print("refused", flush=True)
        break
    file.write(f"{token}\\n")
    file.flush()
    fcntl.flock(file, fcntl.LOCK_UN)
    if "once" in sys.argv: break
    time.sleep(0.02)
time.sleep(600 if "once" not in sys.argv else 0)
"""


def test_where_all_of_it_was_frozen_the_token_refuses_what_is_left_of_it(site):
    file = site.folder / "protected"
    line = (sys.executable, "-S", "-c", PROTECTED, file)
    holder = site.start("left", "lock", "--ttl", f"{TTL}s", "deploy", "--", *line)
    site.until(lambda: file.exists() and file.read_text())
    guardian, command = site.family(holder)
    waiter = site.start("right", "lock", "--ttl", f"{TTL}s", "deploy", "--", *line, "once")
    waiter.wait_for("held by")
    frozen = (holder.popen.pid, guardian, command)
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    assert waiter.finish()[0] == 0
    os.kill(command, signal.SIGCONT)  # alone: the worst case, that nothing of ours runs yet
    site.until(lambda: select.select([holder.popen.stdout], [], [], 0)[0])  # it has told that it was refused
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    code, out = holder.finish()
    assert (code, out) == (125, "refused\n")
    written = list(map(int, file.read_text().split()))
    assert written == sorted(written)
    assert not alive(command)


@pytest.mark.parametrize("how", ["stopped", pytest.param("killed", marks=pytest.mark.long)])
def test_a_broker_that_is_away_longer_than_the_lease_ends_the_command_before_the_lease(own_site, how):
    server, site = own_site.server, own_site
    holder = site.hold("left", "--log-format", "json", ttl=TTL, how=("ignores TERM",))
    waiter = site.wait_in_line("right", ttl=TTL)
    since = time.monotonic_ns()
    asyncio.run(server.pause() if how == "stopped" else server.stop(signal.SIGKILL))
    all_gone(site, site.pids())
    assert site.signs()[-1].time < since + TTL * SECOND  # of which it had renewed at most all
    assert waiter.popen.poll() is None
    if how == "stopped":
        server.resume()
    else:
        asyncio.run(server.start())
    assert waiter.finish()[0] == 0
    assert holder.finish()[0] == 125
    assert len(holder.events("lock_renewal_failed")) <= 1  # of many; none, if the guardian is quicker
    (lost,) = holder.events("lock_lost")
    assert lost["reason"] == "expired"
    assert [event["signal"] for event in holder.events("command_terminated")] == ["SIGTERM", "SIGKILL"]
    assert holder.events("lock_acquired", "lock_released") == holder.events()[:1]
    assert site.overlaps() == 0
    assert len(site.tokens()) == 2
    assert site.tokens() == sorted(site.tokens())


def test_a_broker_that_is_killed_and_starts_again_changes_nothing(own_site):
    server, site = own_site.server, own_site
    holder = site.hold("left", "--log-format", "json", "--verbose", ttl=20.0)
    waiter = site.wait_in_line("right", ttl=20.0)
    asyncio.run(server.stop(signal.SIGKILL))
    number = len(site.signs())
    site.until(lambda: len(site.signs()) > number + 20)  # it continues meanwhile
    asyncio.run(server.start())
    holder.wait_for("broker_reconnected")
    assert holder.stop()[0] == 128 + signal.SIGTERM
    assert [event["signal"] for event in holder.events("signal_forwarded")] == ["SIGTERM"]
    assert holder.events("lock_lost", "command_terminated") == []
    assert waiter.finish()[0] == 0
    assert site.overlaps() == 0
    assert len(site.tokens()) == 2


def test_a_restored_backup_of_the_broker_is_said_and_the_command_runs(tmp_path, own_site):
    server, site = own_site.server, own_site
    asyncio.run(server.stop())
    shutil.copytree(tmp_path / "data", tmp_path / "backup")
    asyncio.run(server.start())
    done = site.run("left", "lock", "deploy", "--", "true")
    assert (done.returncode, done.stderr) == (0, "")
    asyncio.run(server.stop())
    shutil.rmtree(tmp_path / "data")
    shutil.copytree(tmp_path / "backup", tmp_path / "data")
    asyncio.run(server.start())
    done = site.run("left", "lock", "--log-format", "json", "deploy", "--", "echo", "it runs")
    assert (done.returncode, done.stdout) == (0, "it runs\n")
    assert "remaphore: warning: the data of stream own-coord was set back" in done.stderr
    assert '"event": "stream_set_back"' in done.stderr
    listed = site.run("left", "lock", "list")
    assert listed.returncode == 0
    assert "coordination init --recreate" in listed.stderr
    assert site.run("right", "lock", "list").stderr == ""  # it has seen nothing


def test_release_now_frees_the_lock_of_a_machine_that_is_off(site):
    holder = site.hold("left", ttl=600.0)  # no test waits for its end
    guardian, command = site.family(holder)
    for pid in (holder.popen.pid, guardian, command):  # nothing of it answers, as if it were off
        os.kill(pid, signal.SIGSTOP)
    waiter = site.wait_in_line("right", ttl=600.0)
    assert site.run("third", "lock", "release", "deploy").returncode == 0
    assert site.state().slots[0].holder.who == "com.example.left"  # it could not end its command
    assert site.run("third", "lock", "release", "--now", "deploy").returncode == 0
    assert waiter.finish()[0] == 0
    for pid in (holder.popen.pid, guardian, command):
        with contextlib.suppress(ProcessLookupError):  # one that continued earlier may have ended it
            os.kill(pid, signal.SIGCONT)
    assert holder.finish()[0] == 125
