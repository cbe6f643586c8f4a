"""The pipes of a program: what it reads from stdin, what is kept of its output, and who may still hold them open."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from remaphore_plugins.processes import pipes, tree
from remaphore_plugins.processes import run as module
from remaphore_plugins.processes.pipes import Output
from remaphore_plugins.processes.run import run
from tests.harness.processes import descriptors, own_children
from tests.harness.programs import CAP, ENV, alive, memory, pid_in, reset_peak, run_sh
from tests.harness.waiting import until


@pytest.mark.parametrize("size", [0, 1, 1_000_000])
async def test_stdin_bytes_are_read_to_their_end(size):
    data = os.urandom(size)
    result = await run([b"cat"], env=ENV, stdin=data, timeout=30, cap=size + 1)
    assert result.output == data


async def test_program_that_reads_no_stdin_is_not_an_error(caplog):
    result = await run_sh("exec <&-; echo done; exit 3", stdin=bytes(1_000_000))
    assert (result.exit_code, result.output) == (3, b"done\n")
    assert caplog.records == []  # the event loop logs exceptions of callbacks


async def test_output_over_the_cap_is_counted_and_its_head_kept():
    result = await run_sh("printf 0123456789; printf abcdef >&2", cap=12)
    assert (result.output, result.output_bytes, result.exit_code) == (b"0123456789ab", 16, 0)


async def test_hundred_megabytes_of_output_cost_no_memory():
    await run_sh("head -c 1000000 /dev/zero")
    reset_peak()
    before = memory("VmRSS")
    result = await run_sh("head -c 100000000 /dev/zero", cap=CAP)
    assert (result.output_bytes, len(result.output), result.exit_code) == (100_000_000, CAP, 0)
    assert memory("VmHWM") - before < 20_000


async def test_child_left_on_the_pipe_does_not_delay_the_result(tmp_path):
    result = await run_sh("echo first; sleep 600 & echo $! >$1; exit 4", str(tmp_path / "pid"))
    sleeper = await pid_in(tmp_path / "pid")
    try:
        assert (result.exit_code, result.output) == (4, b"first\n")
        assert alive(sleeper), "a program that ended by itself may leave processes in the background"
        assert where_stdout_goes(sleeper).startswith("pipe:")
    finally:
        os.kill(sleeper, signal.SIGKILL)


def where_stdout_goes(pid: int) -> str:
    return str(Path(f"/proc/{pid}/fd/1").readlink())


async def test_child_that_never_stops_writing_does_not_delay_the_result(tmp_path):
    result = await run_sh("yes & echo $! >$1; exit 4", str(tmp_path / "pid"))
    writer = await pid_in(tmp_path / "pid")
    assert result.exit_code == 4
    await until(lambda: not alive(writer))  # its pipe has no reader any more


async def test_all_that_was_written_before_the_exit_is_read():
    larger_pipe = "import fcntl, os; fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20); os.write(1, bytes(500_000))"
    argv = [os.fsencode(sys.executable), b"-c", larger_pipe.encode()]
    before = own_children()
    task = asyncio.get_running_loop().create_task(run(argv, env=ENV, timeout=30, cap=CAP))
    while not (started := own_children() - before):
        await asyncio.sleep(0)
    stand_still_until_exit(started.pop())
    assert (await task).output_bytes == 500_000


@pytest.mark.parametrize("how", ["cancelled", "stopped"])
async def test_what_is_written_after_term_has_room_although_nothing_was_read_before(how, tmp_path, monkeypatch):
    """A program that waited for room in its pipe would be killed in the middle of what it does at its end."""
    monkeypatch.setattr(module, "SOON_SECONDS", 1000.0)
    monkeypatch.setattr(tree, "GRACE_SECONDS", 30.0)
    stop = asyncio.get_running_loop().create_future()
    body = "trap 'head -c 300000 /dev/zero; touch $1/done; exit' TERM; sleep 600 & echo $$ >$1/pid; wait"
    running = run_sh(body, str(tmp_path), stop=stop, timeout=600)
    task = asyncio.get_running_loop().create_task(running)
    await pid_in(tmp_path / "pid")
    if how == "cancelled":
        task.cancel()
    else:
        stop.set_result(None)
    await asyncio.wait({task}, timeout=60)
    assert (tmp_path / "done").exists()


def stand_still_until_exit(pid: int) -> None:
    """Block the event loop until *pid* has exited: it then sees the exit and all of the output at once."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


async def test_no_more_is_read_than_was_written_before_the_exit(monkeypatch):
    output, read = Output(CAP), os.read
    os.write(output.program_end, b"before")

    def read_and_refill(descriptor: int, size: int) -> bytes:
        chunk = read(descriptor, size)
        os.write(output.program_end, b"after")
        return chunk

    monkeypatch.setattr(os, "read", read_and_refill)
    output.close()
    output.give()
    assert bytes(output.kept) == b"before"


@pytest.mark.parametrize("sleep", ["", "sleep 0.05; "])  # what is read at the end, and while the program writes
async def test_an_output_for_which_there_is_no_memory_is_counted_and_cut(monkeypatch, sleep):
    original, starved = os.read, []

    def read(descriptor, size):
        if size == pipes._CHUNK and len(starved) < 2:
            starved.append(descriptor)
            if len(starved) == 2:
                raise MemoryError
        return original(descriptor, size)

    before = descriptors(os.getpid())
    monkeypatch.setattr(os, "read", read)
    result = await run_sh(f"printf first; {sleep}printf %200000d; sleep 0.05; printf last", cap=1_000_000)
    assert (result.exit_code, result.error, result.output_bytes) == (0, "", 200_009)
    assert (b"first" + b"%200000dlast" % 0).startswith(result.output)  # without a hole
    assert len(result.output) < 200_009
    assert descriptors(os.getpid()) == before
