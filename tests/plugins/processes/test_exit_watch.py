"""How the end of a program is noticed, also where the kernel or a seccomp profile has no pidfd."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from remaphore import PluginError
from remaphore_plugins.processes import exit_watch
from remaphore_plugins.processes.exit_watch import ExitWatch, check_exit_watch
from remaphore_plugins.processes.pipes import Input, Output
from tests.harness.programs import held, run_sh
from tests.harness.seccomp import denying
from tests.harness.waiting import until

ROOT = Path(__file__).parents[3]

# Runs three programs: one that ends, one that is ended with its child at its time limit, one that is killed.
THREE = """
import asyncio
from remaphore_plugins.processes.run import run
async def main():
    for body, timeout in ((b"echo so; exit 3", 30), (b"sleep 600 & wait", 0.2), (b"kill -9 $$", 30)):
        result = await run([b"/bin/sh", b"-c", body], env={}, timeout=timeout, cap=100)
        print(result.exit_code, result.timed_out, result.output, result.error)
asyncio.run(main())
"""
EXPECTED = """3 False b'so\\n' \n143 True b'' \n137 False b'' \n"""


@pytest.mark.parametrize(
    ("errno", "calls"),
    [(1, ["pidfd_open", "vfork", "prctl"]), (38, ["pidfd_open", "close_range", "clone3", "faccessat2"])],
    ids=["EPERM", "ENOSYS"],
)
def test_programs_run_where_system_calls_are_denied(errno, calls):
    command = [*denying(errno, *calls), sys.executable, "-c", THREE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == (EXPECTED, 0), done.stderr


def spawn(*words):
    return os.posix_spawnp(words[0], words, {"PATH": "/usr/bin:/bin"})


def reap(child):
    return os.waitpid(child, os.WNOHANG)


def deny_pidfd(monkeypatch, number=38):
    def deny(_pid):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", deny)


async def test_a_polled_child_keeps_its_pid_until_it_is_reaped(monkeypatch):
    deny_pidfd(monkeypatch)
    child = spawn("true")
    watch = ExitWatch(child)
    await watch.exited
    assert reap(child) == (child, 0)  # it was a zombie until now


async def test_polling_pauses_longer_and_longer_and_ends_with_the_watch(monkeypatch):
    deny_pidfd(monkeypatch)
    polls = []
    monkeypatch.setattr(exit_watch, "has_exited", lambda pid: polls.append(pid) or len(polls) > 3)
    watch = ExitWatch(1)
    await watch.exited
    assert len(polls) == 4
    polls.clear()
    other = ExitWatch(2)
    other.close()
    assert other._timer.cancelled()


async def test_without_a_free_descriptor_the_program_is_polled(monkeypatch):
    deny_pidfd(monkeypatch, 24)  # EMFILE
    before = held()
    assert (await run_sh("exit 3")).exit_code == 3
    assert held() == before


async def test_program_that_cannot_be_watched_was_started_then_killed_and_leaves_nothing(monkeypatch, tmp_path):
    """Its reply must not state that it was not started: it may have begun its work."""
    before = held()

    def fail(_pid):
        raise OSError(12, os.strerror(12))

    deny_pidfd(monkeypatch)
    monkeypatch.setattr(exit_watch, "has_exited", fail)
    result = await run_sh(f"echo $$ >{tmp_path}/pid; exec sleep 600", stdin=b"x")
    assert result.exit_code is None
    assert result.error == "started, then killed, because it could not be watched: Cannot allocate memory"
    assert result.hint
    assert held() == before


@pytest.mark.parametrize("kind", [Input, Output])
async def test_pipe_that_cannot_be_watched_ends_the_program_too(monkeypatch, kind):
    """As epoll_ctl(2) fails at the limit of watches of the user."""
    before = held()

    def fail(_pipe):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(kind, "watch", fail)
    result = await run_sh("exec sleep 600", stdin=bytes(1_000_000))
    assert result.error.startswith("started, then killed, ")
    assert held() == before


def test_where_waitid_is_denied_nothing_is_started_and_the_hint_names_it():
    check_exit_watch()
    source = "from remaphore_plugins.processes.exit_watch import check_exit_watch; check_exit_watch()"
    command = [*denying(1, "waitid"), sys.executable, "-c", source]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert f"{PluginError.__name__}: programs cannot be run here: waitid(2) is denied" in done.stderr


async def test_a_program_that_has_ended_at_the_deadline_is_noticed_there(monkeypatch):
    deny_pidfd(monkeypatch)
    monkeypatch.setattr(exit_watch, "_FIRST_POLL_SECONDS", 3600)
    child = spawn("sleep", "600")
    watch = ExitWatch(child)
    os.kill(child, signal.SIGKILL)
    await until(lambda: exit_watch.has_exited(child))
    assert not watch.exited.done()
    assert await watch.wait(None, watch.time())
    assert watch.exited.done()
    assert reap(child) == (child, signal.SIGKILL)


async def test_ended_program_is_noticed_at_once_with_a_pidfd():
    child = spawn("sleep", "600")
    watch = ExitWatch(child)
    os.kill(child, signal.SIGKILL)
    await asyncio.wait_for(watch.exited, 30)
    assert watch._timer is None
    watch.close()
    assert reap(child) == (child, signal.SIGKILL)
