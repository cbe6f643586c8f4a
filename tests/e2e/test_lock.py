"""`remaphore lock` and `remaphore semaphore`: what the command sees, how both end, and what is said about it."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
from itertools import count

import pytest

from tests.harness.caller import unmeasured
from tests.harness.lock_processes import ROOT, Site
from tests.harness.nats_server import running_jetstream
from tests.harness.processes import SECONDS

ROOTS = count()


def long(value):
    """Return a case that is like another one, and runs in the long tests only."""
    return pytest.param(value, marks=pytest.mark.long)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_jetstream(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def site(tmp_path, server):
    found = Site(tmp_path, server, f"lock{next(ROOTS)}")
    yield found
    found.end()


def test_the_command_has_its_streams_its_exit_code_and_the_variables(site):
    shell = 'read line; echo "$line $REMAPHORE_LOCK $REMAPHORE_LOCK_SLOT"; echo "$REMAPHORE_LOCK_TOKEN" >&2; exit 7'
    done = site.run("left", "lock", "deploy", "--", "sh", "-c", shell, stdin=None, input="word\n")
    assert (done.returncode, done.stdout) == (7, "word deploy 0\n")
    assert 10**15 < int(done.stderr) < 2**53  # and nothing else is on stderr
    again = site.run("right", "lock", "deploy", "--", "sh", "-c", 'echo "$REMAPHORE_LOCK_TOKEN"')
    assert int(again.stdout) > int(done.stderr)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("sh", "-c", "kill -HUP $$"), 128 + signal.SIGHUP, ""),
        (("/nowhere/at/all",), 127, "error: /nowhere/at/all: not found"),
        (("/etc/passwd",), 126, "error: /etc/passwd: cannot be executed: "),
    ],
)
def test_the_exit_code_says_how_the_command_ended(site, words, code, said):
    done = site.run("left", "lock", "deploy", "--", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert site.state().slots[0].holder is None  # it is freed in any case


@pytest.mark.parametrize(("words", "code"), [(("-n",), 1), (("--wait", "200ms", "-E", "9"), 9)])
def test_a_lock_that_is_not_to_be_had_has_its_exit_code_and_names_the_holder(site, words, code):
    site.hold("left", ttl=20.0)
    done = site.run("right", "lock", *words, "deploy", "--", "echo", "x")
    assert (done.returncode, done.stdout) == (code, "")
    assert "remaphore: lock deploy: held by com.example.left for " in done.stderr
    assert "; not acquired\n" in done.stderr
    assert "hint: if its holder is gone, wait for longer than its --ttl: --wait 23s\n" in done.stderr


def test_waiting_is_announced_with_who_holds_it_and_who_is_before_us(site):
    holder = site.hold("left", "--note", "release 7", ttl=20.0)
    second = site.wait_in_line("right", ttl=20.0)
    third = site.wait_in_line("third", ttl=20.0)
    assert f"(pid {holder.popen.pid} on " in second.lines[0]
    assert ": release 7)" in second.lines[0]
    assert third.lines[0].endswith(", 1 before us")
    state = json.loads(site.run("third", "lock", "show", "deploy", "--json").stdout)
    assert [each["peer"] for each in state["waiting"]] == ["com.example.right", "com.example.third"]
    assert state["slots"][0]["holder"]["note"] == "release 7"
    holder.popen.terminate()
    assert (second.finish()[0], third.finish()[0]) == (0, 0)
    assert len(site.tokens()) == 3
    assert site.tokens() == sorted(site.tokens())
    assert site.overlaps() == 0


@pytest.mark.parametrize("number", [long(signal.SIGTERM), long(signal.SIGINT), signal.SIGUSR1])
def test_a_signal_while_it_waits_ends_it_and_withdraws_the_ticket(site, number):
    site.hold("left", ttl=20.0)
    waiter = site.wait_in_line("right", ttl=20.0)
    assert waiter.stop(number)[0] == 128 + number
    assert site.state().waiters == ()


@pytest.mark.parametrize("number", [signal.SIGTERM, long(signal.SIGHUP), long(signal.SIGUSR2)])
def test_a_signal_reaches_the_command_and_we_end_when_it_has(site, number):
    body = f"trap 'sleep 0.3; echo caught; exit 5' {number.name[3:]}; echo ready >&2; while :; do sleep 0.05; done"
    holder = site.start("left", "lock", "deploy", "--", "sh", "-c", body)
    holder.wait_for("ready")
    assert holder.stop(number) == (5, "caught\n")
    assert site.state().slots[0].holder is None


def test_what_the_command_leaves_behind_is_announced_and_waited_for(site):
    body = "(setsid sh -c 'echo $$; exec sleep 600' &); exit 3"
    holder = site.start("left", "lock", "deploy", "--", "sh", "-c", body)
    line = holder.wait_for("waiting for what it left")
    left = int(line.rpartition("pid ")[2])
    assert site.run("right", "lock", "-n", "deploy", "--", "true").returncode == 1
    os.kill(left, signal.SIGKILL)
    assert holder.finish()[0] == 3


def test_a_semaphore_has_so_many_slots_and_all_agree_on_the_number(site):
    words = ("--slots", 2, "pool", "--")
    first = site.start("left", "semaphore", *words, *site.writer())
    second = site.start("right", "semaphore", *words, *site.writer())
    site.until(lambda: len(site.pids()) == 2)
    third = site.run("third", "semaphore", "-n", *words, "true")
    assert third.returncode == 1
    assert "semaphore pool: held by com.example." in third.stderr
    assert third.stderr.splitlines()[-2].count("com.example.") == 2
    other = site.run("third", "semaphore", "--slots", 3, "pool", "--", "true")
    assert other.returncode == 2
    assert "has 2 slots" in other.stderr
    listed = site.run("third", "lock", "list")
    assert listed.stdout.splitlines()[1].split()[:4] == ["pool", "2", "of", "2"]
    assert {first.stop()[0], second.stop()[0]} == {128 + signal.SIGTERM}


@pytest.mark.parametrize("depth", [long(1), 2])
def test_a_lock_within_itself_is_refused_at_any_depth(site, depth):
    line = [sys.executable, "-m", "remaphore", "lock", "-c", str(site.folder / "left.toml")]
    inner = [*line, "other", "--"] * (depth - 1)
    done = site.run("left", "lock", "deploy", "--", *inner, *line, "deploy", "--", "true")
    assert done.returncode == 2
    assert "deploy is held by the command that runs this one" in done.stderr


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"verbs": ("ping", "lock:other")}, 3, "not 'lock:deploy'"),
        ({"servers": ("nats://127.0.0.1:1",)}, 3, "127.0.0.1:1"),
    ],
)
def test_what_prevents_a_lock_is_told_before_the_command_begins(site, change, code, said):
    site.config("left", 1, **change)
    done = site.run("left", "lock", "--wait", "1s", "deploy", "--", "echo", "x")
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "hint: " in done.stderr


def test_without_streams_the_hint_is_how_to_make_them(site):
    site.root = "unprepared"
    done = site.run("left", "lock", "-c", site.config("left", 1), "deploy", "--", "echo", "x")
    assert done.returncode == 2  # -c twice
    done = site.run("left", "lock", "deploy", "--", "echo", "x")
    assert (done.returncode, done.stdout) == (3, "")
    assert "remaphore coordination init" in done.stderr


def test_a_holder_that_is_not_permitted_here_is_named_with_the_hint_how_to_permit_it(site):
    site.hold("left", ttl=20.0)
    path = site.folder / "right.toml"
    own, *peers = path.read_text().split("\n[[peers]]")
    path.write_text("\n[[peers]]".join([own, *(each.replace('["*"]', '["ping"]') for each in peers)]))
    for words in (("-n", "deploy", "--", "echo"), ("list",), ("show", "deploy")):
        done = site.run("right", "lock", *words)
        assert "last record: its sender may not use lock:deploy" in done.stdout + done.stderr
        assert "permit it here: remaphore peer permit NODE --allow lock:deploy (" in done.stderr


def test_a_lock_that_was_never_taken_is_said_to_be_free(site):
    done = site.run("left", "lock", "show", "never")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "remaphore: lock never: free: not taken in the last 30 days\n"


def test_wait_and_no_wait_contradict_each_other(site):
    done = site.run("left", "lock", "--wait", "1s", "--no-wait", "deploy", "--", "echo", "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert "not allowed with argument" in done.stderr


def test_release_ends_the_command_and_the_next_one_begins(site):
    holder = site.hold("left", "--log-format", "json", ttl=300.0, how=("a secret",))
    waiter = site.wait_in_line("right", "--log-format", "json", ttl=300.0)
    waiter.wait_for("lock_waiting")
    done = site.run("third", "lock", "release", "deploy")
    assert done.returncode == 0
    assert "ended the lease of com.example.left" in done.stderr
    assert "if the other nodes permit this one evict:deploy\n" in done.stderr
    code, _ = holder.finish()
    assert code == 125
    assert "evicted by com.example.third; the command was ended" in [x for x in holder.lines if x[0] != "{"][-1]
    assert waiter.finish()[0] == 0
    first, second = site.tokens()
    lost, sent, ended, released = holder.events()[1:]
    assert (lost["event"], lost["reason"], lost["by"], lost["level"]) == (
        "lock_lost",
        "evicted",
        "com.example.third",
        "warning",
    )
    assert (sent["event"], sent["signal"], ended["event"]) == ("command_terminated", "SIGTERM", "command_ended")
    assert (ended["exit_code"], released["event"]) == (128 + signal.SIGTERM, "lock_released")
    assert {event["lock"] for event in holder.events()} == {"deploy"}
    assert not any("a secret" in line for line in holder.lines)
    assert [(event["token"], event["slot"]) for event in holder.events("lock_acquired")] == [(first, 0)]
    waiting, acquired, *others = waiter.events()
    assert (waiting["event"], waiting["held_by"], waiting["ahead"]) == ("lock_waiting", "com.example.left", 0)
    assert (acquired["event"], acquired["token"]) == ("lock_acquired", second)
    assert acquired["waited_seconds"] >= 1
    assert [event["event"] for event in others] == ["command_ended", "lock_released"]
    assert others[1]["held_seconds"] >= others[0]["seconds"] > 0
    assert site.overlaps() == 0
    assert site.run("third", "lock", "release", "deploy").returncode == 1
    assert site.run("third", "lock", "show", "deploy").returncode == 1


def test_release_needs_the_permission(site):
    holder = site.hold("left", ttl=20.0)
    site.config("third", 3, verbs=("lock:*",))
    done = site.run("third", "lock", "release", "deploy")
    assert done.returncode == 3
    assert holder.popen.poll() is None


def test_the_configuration_may_stand_before_and_after_an_action(site):
    site.run("left", "lock", "deploy", "--", "true")
    config = str(site.folder / "left.toml")
    for words in (("-c", config, "list", "--json"), ("list", "-c", config, "--json")):
        line = [sys.executable, "-m", "remaphore", "lock", *words]
        done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=False)
        (state,) = map(json.loads, done.stdout.splitlines())
        assert (state["name"], state["slots"][0]["holder"]) == ("deploy", None)


def test_a_stderr_that_is_no_longer_read_does_not_end_the_command(site):
    read, write = os.pipe()
    body = "(setsid sh -c 'exec sleep 0.5' &); exit 3"
    line = [sys.executable, "-m", "remaphore", "lock", "-c", str(site.folder / "left.toml"), "deploy", "--"]
    os.close(read)
    done = subprocess.run([*line, "sh", "-c", body], stderr=write, cwd=ROOT, check=False)
    os.close(write)
    assert done.returncode == 3


def test_on_a_terminal_ctrl_c_reaches_the_command_alone(site):
    body = "trap 'echo caught; exit 4' INT; echo go; while :; do sleep 0.05; done"
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        line = [sys.executable, "-m", "remaphore", "lock", "-c", str(site.folder / "left.toml"), "deploy", "--"]
        os.execv(sys.executable, [*line, "sh", "-c", body])
    try:
        seen = b""
        for wanted, typed in ((b"go", b"\x03"), (b"caught", b"")):
            while wanted not in seen:
                assert select.select([terminal], [], [], SECONDS)[0], seen
                seen += os.read(terminal, 4096)
            os.write(terminal, typed)
        site.until(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))
    finally:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 4
    assert site.state().slots[0].holder is None


def test_asyncio_is_not_imported_before_the_guardian_is_forked(tmp_path):
    program = (
        "import sys\nfrom remaphore.coordination import guardian\nfrom remaphore.cli import main\n"
        "guardian.fork = lambda command: sys.exit(1 if 'asyncio' in sys.modules or 'threading' in sys.modules else 0)\n"
        "main.command()\n"
    )
    words = [sys.executable, "-c", program, "lock", "deploy", "--", "true"]
    done = subprocess.run(words, cwd=ROOT, env=unmeasured(), check=False)
    assert done.returncode == 0
