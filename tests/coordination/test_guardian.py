"""The command of a lock dies with its lease, with all it started, whatever is killed or stopped."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remaphore.protocol.lease import MARGIN
from tests.harness.programs import alive
from tests.harness.seccomp import denying
from tests.harness.waiting import until

PROGRAM = Path(__file__).parent / "guarded.py"
LONG = "600"  # seconds: longer than any test
GONE = "the process that holds the lock is gone"
LATE = "the lease was not renewed in time"

# Each tells its pids in the file $0, one a line, then waits; what is killed first can tell nothing more.
COMMANDS = {
    "one process": "echo $$ >>$0; exec sleep 600",
    "a process that ignores TERM": "trap '' TERM; echo $$ >>$0; while :; do sleep 600; done",
    "a child in its own session that ignores TERM": (
        "setsid sh -c 'trap \"\" TERM; echo $$ >>$0; while :; do sleep 600; done' $0 & echo $$ >>$0; wait"
    ),
    "an orphan in its own session": "(setsid sh -c 'echo $$ >>$0; exec sleep 600' $0 &) ; echo $$ >>$0; exec sleep 600",
    "a stopped child": "sleep 600 & kill -STOP $!; echo $! >>$0; echo $$ >>$0; wait",
}


class Guarded:
    """A command under a guardian. pids: of the command and of what it started. where: Python that runs before it."""

    def __init__(self, tmp_path, body, *, seconds=LONG, grace="0.2", where="", **options):
        self._pids = tmp_path / "pids"
        orders, self.orders = os.pipe()
        self._events, events = os.pipe()
        command = ("sh", "-c", body, self._pids) if body else (tmp_path / "nothing",)
        program = ("-c", f"{where}\nimport runpy, sys; runpy.run_path(sys.argv.pop(1))") if where else ()
        words = [sys.executable, *program, PROGRAM, seconds, grace, *command]
        shell = f'exec "$@" 3<&{orders} 4>&{events}'
        self.process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *map(str, words)],
            pass_fds=(orders, events),
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
            **options,
        )
        os.close(orders)
        os.close(events)
        self._lines = os.fdopen(self._events)
        self.guardian = self.next_event()["guardian"]

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        for pid in (self.process.pid, self.guardian, *self.pids()):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._lines.close()
        os.close(self.orders)

    def next_event(self):
        return json.loads(self._lines.readline())

    def pids(self):
        return [int(pid) for pid in self._pids.read_text().split()] if self._pids.exists() else []

    def order(self, line):
        os.write(self.orders, f"{line}\n".encode())

    def started(self, number=1):
        asyncio.run(until(lambda: len(self.pids()) >= number))
        return self.pids()

    def all_gone(self):
        asyncio.run(until(lambda: not any(map(alive, self.pids()))))


def number_of(name):
    return 1 if name in ("one process", "a process that ignores TERM") else 2


def test_a_command_has_its_exit_code_its_descriptors_and_the_variables(tmp_path):
    body = 'read line; echo "$line $TOKEN"; exit 9'
    with Guarded(tmp_path, body, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as guarded:
        guarded.process.stdin.write(b"token\n")
        guarded.process.stdin.flush()
        assert guarded.next_event() == {"exit_code": 9, "why": ""}
        assert guarded.process.stdout.readline() == b"token 7\n"
        guarded.process.stdin.close()
        guarded.process.stdout.close()


def test_a_command_that_a_signal_ends_has_the_exit_code_of_a_shell(tmp_path):
    with Guarded(tmp_path, "kill -HUP $$") as guarded:
        assert guarded.next_event() == {"exit_code": 128 + signal.SIGHUP, "why": ""}


def test_a_command_that_cannot_be_executed_is_told(tmp_path):
    with Guarded(tmp_path, "") as guarded:
        assert guarded.next_event() == {"errno": errno.ENOENT}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("fault", ["the lock is killed", "the lock is stopped", "the guardian is killed", "lost"])
def test_nothing_of_the_command_outlives_its_lease(tmp_path, name, fault):
    with Guarded(tmp_path, COMMANDS[name], seconds="2.0" if fault == "the lock is stopped" else LONG) as guarded:
        guarded.started(number_of(name))
        since = time.monotonic()
        if fault == "the lock is killed":
            guarded.process.kill()
        elif fault == "the lock is stopped":
            guarded.process.send_signal(signal.SIGSTOP)
        elif fault == "the guardian is killed":
            os.kill(guarded.guardian, signal.SIGKILL)
        else:
            guarded.order("end evicted")
        guarded.all_gone()
        assert time.monotonic() - since < 20
        if fault == "the lock is stopped":
            guarded.process.send_signal(signal.SIGCONT)
        if fault != "the lock is killed":
            why = {"lost": "evicted", "the lock is stopped": LATE, "the guardian is killed": "the guardian is gone"}
            assert guarded.next_event()["why"] == why[fault]


def test_a_deadline_that_is_not_moved_ends_the_command_and_one_that_is_does_not(tmp_path):
    with Guarded(tmp_path, COMMANDS["one process"], seconds="1.0", grace="0.3") as guarded:
        (pid,) = guarded.started()
        guarded.order(f"prolong {LONG}")
        time.sleep(1.2)  # past the first deadline
        assert alive(pid)
        guarded.order("prolong 0.5")
        assert guarded.next_event() == {"exit_code": 128 + signal.SIGTERM, "why": LATE}


def test_a_stopped_guardian_does_not_keep_the_command_beyond_its_lease(tmp_path):
    def late(folder):
        """Return the seconds from the deadline to the end."""
        folder.mkdir()
        with Guarded(folder, COMMANDS["a process that ignores TERM"], seconds="1.0") as guarded:
            deadline = time.monotonic() + 1.0
            guarded.started()
            os.kill(guarded.guardian, signal.SIGSTOP)
            guarded.all_gone()
            found = time.monotonic() - deadline
            assert guarded.next_event()["why"] == LATE
        return found

    # Others may take the lock after the margin. On a busy machine, one try can take longer.
    assert any(late(tmp_path / str(number)) < MARGIN for number in range(3))


def test_the_end_waits_for_what_the_command_left_behind(tmp_path):
    body = "(setsid sh -c 'echo $$ >>$0; exec sleep 600' $0 &); exit 3"
    with Guarded(tmp_path, body) as guarded:
        (pid,) = guarded.started()
        assert guarded.next_event() == {"left": [pid]}
        os.kill(pid, signal.SIGKILL)
        assert guarded.next_event() == {"exit_code": 3, "why": ""}


def test_what_the_command_left_behind_ends_with_the_lease(tmp_path):
    body = "(setsid sh -c 'trap \"\" TERM; echo $$ >>$0; while :; do sleep 600; done' $0 &); exit 3"
    with Guarded(tmp_path, body) as guarded:
        guarded.started()
        assert "left" in guarded.next_event()
        guarded.order("end evicted")
        assert guarded.next_event()["exit_code"] == 3
        guarded.all_gone()


def test_a_signal_reaches_the_command(tmp_path):
    body = "trap 'exit 5' USR1; echo $$ >>$0; while :; do sleep 0.05; done"
    with Guarded(tmp_path, body) as guarded:
        guarded.started()
        guarded.order(f"signal {int(signal.SIGUSR1)}")
        assert guarded.next_event() == {"exit_code": 5, "why": ""}


def test_a_signal_reaches_what_the_command_left_behind_once_it_has_ended(tmp_path):
    with Guarded(tmp_path, "(setsid sh -c 'echo $$ >>$0; exec sleep 600' $0 &); exit 3") as guarded:
        guarded.started()
        assert "left" in guarded.next_event()
        guarded.order(f"signal {int(signal.SIGTERM)}")
        assert guarded.next_event() == {"exit_code": 3, "why": ""}


def test_a_command_for_which_there_is_no_process_is_told(tmp_path):
    where = (
        "import errno, os\nforks = [os.fork]\n"
        "def fork(): return forks.pop()() if forks else (_ for _ in ()).throw(BlockingIOError(errno.EAGAIN, 'x'))\n"
        "os.fork = fork"
    )
    with Guarded(tmp_path, "true", where=where) as guarded:
        assert guarded.next_event() == {"errno": errno.EAGAIN}


@pytest.mark.parametrize("fault", ["lost", "the guardian is killed"])
def test_the_group_of_a_command_ends_also_where_proc_shows_nothing(tmp_path, fault):
    body = "(trap '' TERM; sh -c 'echo $PPID >>$0' $0; while :; do sleep 600; done) & echo $$ >>$0; wait"
    with Guarded(tmp_path, body, where="from remaphore import proc; proc._pids = lambda: iter(())") as guarded:
        guarded.started(2)
        if fault == "lost":
            guarded.order("end evicted")
        else:
            os.kill(guarded.guardian, signal.SIGKILL)
        guarded.all_gone()


PROC = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
OTHER_PIDS = ["unshare", "--pid", "--fork"]


@pytest.mark.parametrize("words", [PROC, OTHER_PIDS, (errno.EPERM, "prctl"), (errno.EAGAIN, "clone", "clone3")])
def test_what_cannot_be_guarded_is_an_error_before_the_lock_is_taken(words):
    before = denying(*words) if isinstance(words, tuple) else words
    if before == words and subprocess.run([*words, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not make namespaces")
    line = [*before, sys.executable, "-m", "remaphore", "lock", "deploy", "--", "true"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "remaphore: error: cannot guard the command: " in done.stderr
    assert "remaphore: hint: " in done.stderr
