"""One program from start to exit: what it is given, what is taken from it, and what stays behind (nothing)."""

import asyncio
import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from remaphore_plugins.exec_script import process
from remaphore_plugins.exec_script.process import run
from tests.plugins.exec_script.helpers import CAP, ENV, alive, children, held, pid_in, run_sh, until, write_script


@pytest.mark.parametrize("code", [0, 1, 7, 255])
async def test_exit_code_is_the_programs(code):
    finished = await run_sh(f"exit {code}")
    assert (finished.exit_code, finished.signal, finished.timed_out, finished.error) == (code, None, False, "")


async def test_stdout_and_stderr_are_one_stream_in_the_order_written():
    finished = await run_sh("for i in 1 2 3; do echo out $i; echo err $i >&2; done")
    assert finished.output == b"out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n"
    assert finished.output_bytes == len(finished.output)


async def test_environment_is_what_was_given_and_nothing_else(monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "x")
    given = ENV | {"RAW": b"\xff\n=", "EMPTY": b""}
    finished = await run([b"cat", b"/proc/self/environ"], env=given, timeout=30, cap=CAP)
    assert sorted(finished.output.split(b"\0")[:-1]) == sorted(b"%b=%b" % (k.encode(), v) for k, v in given.items())


async def test_arguments_arrive_as_the_bytes_they_are(tmp_path):
    script = os.fsencode(write_script(tmp_path / "show", "cat /proc/$$/cmdline"))
    arguments = [b"\xff\xfe", b"", b"--help", b"-rf", b"$(id) `id` ; id", b"two\nlines"]
    finished = await run([script, *arguments], env=ENV, timeout=30, cap=CAP)
    assert finished.output.split(b"\0")[2:-1] == arguments


async def test_name_without_a_slash_is_looked_up_in_the_given_path_only(tmp_path, monkeypatch):
    write_script(tmp_path / "only-here", "echo found")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (await run([b"only-here"], env=ENV, timeout=30, cap=CAP)).exit_code is None
    found = await run([b"only-here"], env={"PATH": os.fsencode(tmp_path)}, timeout=30, cap=CAP)
    assert found.output == b"found\n"


async def test_stdin_is_dev_null_and_not_ours_unless_bytes_are_given():
    ours, kept = os.memfd_create("ours"), os.dup(0)
    os.dup2(ours, 0)
    try:
        assert (await run_sh("readlink /proc/$$/fd/0; cat")).output == b"/dev/null\n"
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(ours)


@pytest.mark.parametrize("size", [0, 1, 1_000_000])
async def test_stdin_bytes_are_read_to_their_end(size):
    data = os.urandom(size)
    finished = await run([b"cat"], env=ENV, stdin=data, timeout=30, cap=size + 1)
    assert finished.output == data


async def test_program_that_reads_no_stdin_does_not_hurt(caplog):
    finished = await run_sh("exec <&-; echo done; exit 3", stdin=bytes(1_000_000))
    assert (finished.exit_code, finished.output) == (3, b"done\n")
    assert caplog.records == []  # the event loop logs what a callback raises


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
    finished = await run_sh("cat /proc/$$/stat")
    pid, rest = finished.output.partition(b" ")[0], finished.output.rpartition(b")")[2].split()
    assert rest[2:4] == [pid, pid]


async def test_no_descriptor_of_ours_is_inherited(tmp_path):
    with (tmp_path / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        finished = await run([b"ls", b"-l", b"/proc/self/fd"], env=ENV, timeout=30, cap=CAP)
    assert b"/dev/null" in finished.output
    assert b"secret" not in finished.output


def not_executable(folder: Path) -> str:
    path = write_script(folder / "plain", "exit 0")
    Path(path).chmod(0o644)
    return path


REJECTED = {
    "missing": (lambda folder: folder / "nope", "No such file or directory; check its name"),
    "not executable": (not_executable, "Permission denied; make it an executable file (chmod +x)"),
    "directory": (lambda folder: folder, "Permission denied; make it"),
    "no first line": (
        lambda folder: write_script(folder / "x", "exit 0", first=""),
        "Exec format error; begin it with",
    ),
    "no interpreter": (
        lambda folder: write_script(folder / "x", "", first="#!/no/such\n"),
        "interpreter in its first line",
    ),
}


@pytest.mark.parametrize("case", REJECTED)
async def test_what_cannot_be_started_says_why_and_what_mends_it(case, tmp_path):
    make, expected = REJECTED[case]
    path = str(make(tmp_path))
    finished = await run([os.fsencode(path)], env=ENV, timeout=30, cap=CAP)
    assert (finished.exit_code, finished.output, finished.output_bytes) == (None, b"", 0)
    assert finished.error.startswith(f"cannot start {path!r}: ")
    assert expected in finished.error


@pytest.mark.parametrize(("argument", "reason"), [(b"S" * 131_072, "131072"), (b"S\0", "NUL")], ids=["long", "nul"])
async def test_argument_that_cannot_be_one_is_refused_and_not_quoted(argument, reason):
    finished = await run([b"echo", argument], env=ENV, timeout=30, cap=CAP)
    assert (finished.exit_code, finished.output) == (None, b"")
    assert reason in finished.error
    assert "S" not in finished.error.replace("SIG", "")


async def test_longest_possible_argument_is_passed():
    finished = await run([b"printf", b"%s", b"S" * 131_071], env=ENV, timeout=30, cap=200_000)
    assert finished.output == b"S" * 131_071


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
async def test_death_by_a_signal_is_told_apart_from_an_exit_code(number):
    finished = await run_sh(f"ulimit -c 0; echo so far; kill -{int(number)} $$")
    assert (finished.signal, finished.exit_code, finished.output) == (number, 128 + number, b"so far\n")
    assert (await run_sh(f"exit {128 + number}")).signal is None


async def test_output_over_the_cap_is_counted_and_its_head_kept():
    finished = await run_sh("printf 0123456789; printf abcdef >&2", cap=12)
    assert (finished.output, finished.output_bytes, finished.exit_code) == (b"0123456789ab", 16, 0)


async def test_hundred_megabytes_of_output_cost_no_memory():
    await run_sh("head -c 1000000 /dev/zero")
    reset_peak()
    before = memory("VmRSS")
    finished = await run_sh("head -c 100000000 /dev/zero", cap=CAP)
    assert (finished.output_bytes, len(finished.output), finished.exit_code) == (100_000_000, CAP, 0)
    assert memory("VmHWM") - before < 20_000


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def memory(name: str) -> int:
    """Return our own resident memory in kB, now (VmRSS) or at its highest (VmHWM)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


async def test_child_left_on_the_pipe_does_not_delay_the_result(tmp_path):
    finished = await run_sh("echo first; sleep 600 & echo $! >$1; exit 4", str(tmp_path / "pid"))
    sleeper = await pid_in(tmp_path / "pid")
    try:
        assert (finished.exit_code, finished.output) == (4, b"first\n")
        assert alive(sleeper), "what a program left in the background is not ours to end"
        assert where_stdout_goes(sleeper).startswith("pipe:")
    finally:
        os.kill(sleeper, signal.SIGKILL)


def where_stdout_goes(pid: int) -> str:
    return str(Path(f"/proc/{pid}/fd/1").readlink())


async def test_child_that_never_stops_writing_does_not_delay_the_result(tmp_path):
    finished = await run_sh("yes & echo $! >$1; exit 4", str(tmp_path / "pid"))
    writer = await pid_in(tmp_path / "pid")
    assert finished.exit_code == 4
    await until(lambda: not alive(writer))  # nobody reads its pipe any more


async def test_all_that_was_written_before_the_exit_is_read():
    larger_pipe = "import fcntl, os; fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20); os.write(1, bytes(500_000))"
    argv = [os.fsencode(sys.executable), b"-c", larger_pipe.encode()]
    before = children()
    task = asyncio.get_running_loop().create_task(run(argv, env=ENV, timeout=30, cap=CAP))
    while not (started := children() - before):
        await asyncio.sleep(0)
    stand_still_until_exit(started.pop())
    assert (await task).output_bytes == 500_000


def stand_still_until_exit(pid: int) -> None:
    """Keep the event loop from running until *pid* has exited: it then sees the exit and all of the output at once."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


async def test_no_more_is_read_than_was_written_before_the_exit(monkeypatch):
    read_end, write_end = os.pipe()
    os.write(write_end, b"before")
    output = process._Output(os.fdopen(read_end, "rb", buffering=0), CAP)
    read = os.read

    def read_and_refill(descriptor: int, size: int) -> bytes:
        chunk = read(descriptor, size)
        os.write(write_end, b"after")
        return chunk

    monkeypatch.setattr(os, "read", read_and_refill)
    output.close()
    os.close(write_end)
    assert bytes(output.kept) == b"before"


async def test_lost_exit_status_is_no_success(tmp_path):
    os.mkfifo(tmp_path / "go")
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel then throws away how children end
    try:
        task = asyncio.get_running_loop().create_task(run_sh("read x <$1; echo said", str(tmp_path / "go")))
        await asyncio.to_thread((tmp_path / "go").write_text, "\n")
        finished = await task
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert finished.exit_code is None
    assert "exit status was lost" in finished.error


async def test_two_hundred_runs_leave_no_descriptor_zombie_or_thread():
    await run_sh("exit 0", stdin=b"x")
    before = held()
    for number in range(200):
        await run_sh(f"echo {number}; exit 1", stdin=b"x" if number % 2 else None)
        await run([b"/nowhere/nothing"], env=ENV, timeout=30, cap=CAP)
    assert held() == before


async def test_runs_at_the_same_time_keep_apart():
    runs = await asyncio.gather(*(run_sh(f"echo {number}; exit {number}") for number in range(20)))
    assert [(each.exit_code, each.output) for each in runs] == [(n, b"%d\n" % n) for n in range(20)]
