"""One program from start to exit: what it is given, how its end is reported, and what stays behind (nothing)."""

import asyncio
import errno
import os
import signal
import stat

import pytest

from remaphore_plugins.processes.run import run
from tests.harness.programs import CAP, ENV, held, pid_in, run_sh, write_script
from tests.harness.waiting import until


@pytest.mark.parametrize("code", [0, 1, 7, 255])
async def test_exit_code_is_the_programs(code):
    result = await run_sh(f"exit {code}")
    assert (result.exit_code, result.signal, result.timed_out, result.error) == (code, None, False, "")


async def test_stdout_and_stderr_are_one_stream_in_the_order_written():
    result = await run_sh("for i in 1 2 3; do echo out $i; echo err $i >&2; done")
    assert result.output == b"out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n"
    assert result.output_bytes == len(result.output)


async def test_environment_is_what_was_given_and_nothing_else(monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "x")
    given = ENV | {"RAW": b"\xff\n=", "EMPTY": b""}
    result = await run([b"cat", b"/proc/self/environ"], env=given, timeout=30, cap=CAP)
    assert sorted(result.output.split(b"\0")[:-1]) == sorted(b"%b=%b" % (k.encode(), v) for k, v in given.items())


async def test_arguments_arrive_as_the_bytes_they_are(tmp_path):
    script = os.fsencode(write_script(tmp_path / "show", "cat /proc/$$/cmdline"))
    arguments = [b"\xff\xfe", b"", b"--help", b"-rf", b"$(id) `id` ; id", b"two\nlines"]
    result = await run([script, *arguments], env=ENV, timeout=30, cap=CAP)
    assert result.output.split(b"\0")[2:-1] == arguments


async def test_name_without_a_slash_is_looked_up_in_the_given_path_only(tmp_path, monkeypatch):
    write_script(tmp_path / "only-here", "echo found")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (await run([b"only-here"], env=ENV, timeout=30, cap=CAP)).exit_code is None
    found = await run([b"only-here"], env={"PATH": os.fsencode(tmp_path)}, timeout=30, cap=CAP)
    assert found.output == b"found\n"


@pytest.mark.parametrize("stdin", [None, b""])
async def test_stdin_is_dev_null_and_not_ours_unless_bytes_are_given(stdin):
    ours, kept = os.memfd_create("ours"), os.dup(0)
    os.dup2(ours, 0)
    try:
        assert (await run_sh("readlink /proc/$$/fd/0; cat", stdin=stdin)).output == b"/dev/null\n"
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(ours)


async def test_working_directory_and_umask_are_the_callers_unless_given(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    before = os.umask(0o027)
    try:
        await run_sh("touch made")
        await run_sh("touch made", cwd=str(there), umask=0o077)
    finally:
        os.umask(before)
    assert stat.S_IMODE((here / "made").stat().st_mode) == 0o640
    assert stat.S_IMODE((there / "made").stat().st_mode) == 0o600


async def test_program_leads_its_own_session_and_group():
    result = await run_sh("cat /proc/$$/stat")
    pid, rest = result.output.partition(b" ")[0], result.output.rpartition(b")")[2].split()
    assert rest[2:4] == [pid, pid]


async def test_no_descriptor_of_ours_is_inherited(tmp_path):
    with (tmp_path / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        result = await run([b"ls", b"-l", b"/proc/self/fd"], env=ENV, timeout=30, cap=CAP)
    assert b"/dev/null" in result.output
    assert b"secret" not in result.output


async def test_longest_possible_argument_is_passed():
    result = await run([b"printf", b"%s", b"S" * 131_071], env=ENV, timeout=30, cap=200_000)
    assert result.output == b"S" * 131_071


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
async def test_death_by_a_signal_is_distinguished_from_an_exit_code(number):
    result = await run_sh(f"ulimit -c 0; echo so far; kill -{int(number)} $$")
    assert (result.signal, result.exit_code, result.output) == (number, 128 + number, b"so far\n")
    assert (await run_sh(f"exit {128 + number}")).signal is None


async def test_lost_exit_status_is_not_success(tmp_path):
    """Other code of this process takes the status: here, the kernel discards it."""
    os.mkfifo(tmp_path / "go")
    task = asyncio.get_running_loop().create_task(run_sh(f"echo $$ >{tmp_path}/pid; read x <{tmp_path}/go; echo done"))
    await pid_in(tmp_path / "pid")
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        await asyncio.to_thread((tmp_path / "go").write_text, "\n")
        result = await task
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert result.exit_code is None
    assert "exit status was lost" in result.error


async def test_two_hundred_runs_leave_no_descriptor_zombie_or_thread():
    await run_sh("exit 0", stdin=b"x")
    before = held()
    for number in range(200):
        await run_sh(f"echo {number}; exit 1", stdin=b"x" if number % 2 else None)
        await run([b"/nowhere/nothing"], env=ENV, timeout=30, cap=CAP)
    assert held() == before


async def test_concurrent_runs_are_independent():
    runs = await asyncio.gather(*(run_sh(f"echo {number}; exit {number}") for number in range(20)))
    assert [(each.exit_code, each.output) for each in runs] == [(n, b"%d\n" % n) for n in range(20)]


@pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning")  # what makes Popen reap it later
async def test_a_program_that_can_be_neither_watched_nor_killed_stops_nothing_else(monkeypatch, tmp_path):
    def unwatchable(pid):
        pids.append(pid)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    pids = []
    monkeypatch.setattr("remaphore_plugins.processes.run.ExitWatch", unwatchable)
    monkeypatch.setattr("remaphore.proc.signal_group", lambda _pid, _number: None)
    result = await run([b"sleep", b"20"], env=ENV, timeout=30, cap=CAP)
    assert result.error.startswith("started, then killed, because it could not be watched: ")
    os.kill(pids[0], 0)  # it still runs
    os.kill(pids[0], signal.SIGKILL)
    await until(lambda: os.waitpid(pids[0], os.WNOHANG)[0])
