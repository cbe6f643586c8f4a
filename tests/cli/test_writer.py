"""Writes arrive complete and in order, and a write that waits for a reader does not block anything else."""

import asyncio
import contextlib
import fcntl
import io
import os
import pty
import select
import subprocess
import sys
import threading

import pytest

from remaphore.cli import writer as module
from remaphore.cli.writer import Writer, may_wait
from tests.harness.waiting import until

LARGE = b"x" * 1_000_000


@pytest.fixture
def pipe():
    """Return a pipe of 4096 bytes: the descriptor to read from, and a stream to write to."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(reading, "rb", buffering=0) as source, os.fdopen(writing, "w") as stream:
        yield source, stream


async def test_a_write_that_waits_for_a_reader_does_not_block_the_loop_and_arrives_in_order(pipe):
    source, stream = pipe
    writer = Writer()
    writer.write_result(stream, b"first ")
    writer.write_result(stream, LARGE)
    writer.write_result(stream, b" last")
    waiting = asyncio.get_running_loop().create_task(writer.drained())
    for _ in range(100):  # the loop turns, and nothing is read yet
        await asyncio.sleep(0)
    assert not waiting.done()
    expected = b"first " + LARGE + b" last"
    got = await asyncio.to_thread(read_exactly, source, len(expected))
    await waiting
    assert got == expected


def read_exactly(source, size):
    data = b""
    while len(data) < size:
        data += source.read(size - len(data))
    return data


async def test_a_write_with_room_is_done_at_once_and_without_a_thread(pipe):
    source, stream = pipe
    before = threading.active_count()
    Writer().write_result(stream, b"x" * 4096)
    assert source.read(4096) == b"x" * 4096
    assert threading.active_count() == before


async def test_a_reader_that_goes_away_is_an_error_of_the_result_and_of_later_ones(pipe):
    source, stream = pipe
    writer = Writer()
    writer.write_result(stream, LARGE)
    source.close()
    with pytest.raises(BrokenPipeError):
        await writer.drained()
    with pytest.raises(BrokenPipeError):
        writer.write_result(stream, b"more")
    with pytest.raises(BrokenPipeError):
        await writer.drained()


async def test_a_reader_of_notices_that_goes_away_is_not_an_error(pipe):
    source, stream = pipe
    writer = Writer()
    writer.write_notice(stream, "x" * 100_000)
    source.close()
    await writer.drained()
    assert writer._error is None


async def test_notices_are_dropped_while_too_much_waits_and_results_are_not(pipe, monkeypatch):
    source, stream = pipe
    monkeypatch.setattr(module, "MAX_BEHIND", 10_000)
    writer = Writer()
    writer.write_result(stream, b"r" * 20_000)
    for _ in range(100):
        writer.write_notice(stream, "n" * 1000)
    writer.write_result(stream, b"r" * 20_000)
    assert await asyncio.to_thread(read_exactly, source, 40_000) == b"r" * 40_000
    await writer.drained()
    writer.write_notice(stream, "after")
    assert source.read(5) == b"after"


async def test_lines_that_are_dropped_are_counted_and_told_before_the_next_one(pipe, monkeypatch):
    source, stream = pipe
    monkeypatch.setattr(module, "MAX_BEHIND", 10_000)
    lost = []
    writer = Writer(on_lost=lost.append)
    for _ in range(30):
        writer.write_notice(stream, "n" * 999 + "\n")
    read = asyncio.to_thread(read_exactly, source, 10_000)
    assert (await read).count(b"\n") == 10
    await writer.drained()
    writer.write_notice(stream, "after")
    writer.write_notice(stream, " that")
    left = b""
    while not left.endswith(b"after that"):
        left += await asyncio.to_thread(source.read, 10_000)
    assert sum(lost) == 30 - 10 - left.count(b"\n")


def test_the_end_of_the_process_waits_for_a_reader_that_reads(pipe, monkeypatch):
    source, stream = pipe
    writer = Writer()

    async def write():
        writer.write_notice(stream, "n" * 100_000)

    asyncio.run(write())
    monkeypatch.setattr(module, "END_SECONDS", 0.01)
    assert not writer.finish()
    monkeypatch.setattr(module, "END_SECONDS", 60)
    reader = threading.Thread(target=read_exactly, args=(source, 100_000))
    reader.start()
    assert writer.finish()
    reader.join()
    writer.write_notice(stream, "last")
    assert source.read(4) == b"last"


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
async def test_without_a_thread_everything_is_written_too(pipe, monkeypatch, error):
    source, stream = pipe

    def reject(_thread):
        raise error

    monkeypatch.setattr(threading.Thread, "start", reject)
    with subprocess.Popen(["wc", "-c"], stdin=source, stdout=subprocess.PIPE) as reader:  # noqa: ASYNC220 - no thread
        Writer().write_result(stream, LARGE)
        stream.close()
        assert int(reader.stdout.read()) == len(LARGE)


async def test_results_that_are_gathered_are_one_write_before_what_comes_after_them(pipe):
    source, stream = pipe
    writer = Writer(gathers=True)
    for number in range(3):
        writer.write_result(stream, b"%d," % number)
    assert not select.select([source], [], [], 0)[0]
    await writer.drained()
    assert source.read(100) == b"0,1,2,"
    writer.write_result(stream, b"result, ")
    writer.write_notice(stream, "notice")
    assert await asyncio.to_thread(read_exactly, source, 14) == b"result, notice"
    await writer.drained()
    writer.write_result(stream, b"a" * 4000)
    writer.write_result(stream, b"b" * 4000)  # more than a pipe takes at once
    assert source.read(10_000) == b"a" * 4000
    await writer.drained()
    assert source.read(10_000) == b"b" * 4000


async def test_a_reader_that_has_gone_is_noticed_when_what_was_gathered_is_written(pipe):
    source, stream = pipe
    writer = Writer(gathers=True)
    writer.write_result(stream, b"lost")
    source.close()
    with pytest.raises(BrokenPipeError):
        await writer.drained()
    other = Writer(gathers=True)
    other.write_result(stream, b"lost")
    other.write_notice(io.StringIO(), "a notice does not raise it")
    with pytest.raises(BrokenPipeError):
        other.write_result(stream, b"more")
    with pytest.raises(BrokenPipeError):
        await other.drained()
    with pytest.raises(BrokenPipeError):
        stream.close()  # what it could not write


def test_after_an_error_what_was_gathered_is_written(pipe, monkeypatch):
    source, stream = pipe
    monkeypatch.setattr(sys, "stdout", stream)
    with contextlib.suppress(ValueError), Writer(gathers=True).streams():
        sys.stdout.write("a reply\n")
        raise ValueError
    assert source.read(100) == b"a reply\n"


def test_whether_a_write_may_wait_depends_on_the_kind_of_file_and_its_room(pipe, tmp_path):
    source, stream = pipe
    with (tmp_path / "file").open("w") as file:
        assert not may_wait(file, 10**9)
    assert not may_wait(io.StringIO(), 10**9)
    assert not may_wait(stream, 4096)
    assert may_wait(stream, 4097)
    os.write(stream.fileno(), b"x")
    assert may_wait(stream, 1)  # poll(2) promises PIPE_BUF bytes or nothing
    source.close()
    assert not may_wait(stream, 1)  # the error is raised at once
    own, end = pty.openpty()
    with os.fdopen(own, "rb", buffering=0), os.fdopen(end, "w") as terminal:
        assert may_wait(terminal, 1)


async def test_a_non_blocking_pipe_is_waited_for(pipe):
    source, stream = pipe
    os.set_blocking(stream.fileno(), False)
    writer = Writer()
    writer.write_result(stream, LARGE)
    assert await asyncio.to_thread(read_exactly, source, len(LARGE)) == LARGE
    await writer.drained()


def starve_once(monkeypatch, owner, name):
    """Let the next call of a function raise MemoryError."""
    original, starved = getattr(owner, name), []

    def call(*args, **options):
        if starved:
            return original(*args, **options)
        starved.append(name)
        raise MemoryError

    monkeypatch.setattr(owner, name, call)
    return starved


@pytest.mark.parametrize("step", ["wait", "write", "notify", "wake"])
async def test_no_memory_for_a_step_of_the_thread_ends_it_not_and_nothing_waits_forever(pipe, monkeypatch, step):
    source, stream = pipe
    writer = Writer()
    writer.write_notice(stream, "a" * 10_000)  # more than fits: the thread writes it
    owner, name = {
        "wait": (writer._changed, "wait_for"),
        "write": (module, "_write_all"),
        "notify": (writer._changed, "notify_all"),
        "wake": (asyncio.get_running_loop(), "call_soon_threadsafe"),
    }[step]
    starved = starve_once(monkeypatch, owner, name)
    writer.write_notice(stream, "b" * 10_000)
    # A notice for which there is no memory is lost. Not by the loop's threads, which need its memory to return.
    expected = 10_000 if step == "write" else 20_000
    reader = threading.Thread(target=read_exactly, args=(source, expected))
    reader.start()
    await writer.drained()
    reader.join()
    assert starved
    writer.write_notice(stream, "c" * 10_000)
    assert await asyncio.to_thread(read_exactly, source, 10_000) == b"c" * 10_000
    await writer.drained()


async def test_a_result_for_which_there_is_no_memory_is_an_error(pipe, monkeypatch):
    _, stream = pipe
    starve_once(monkeypatch, module, "_write_all")
    writer = Writer()
    writer.write_result(stream, LARGE)
    with pytest.raises(MemoryError):
        await writer.drained()


async def test_drained_does_not_wait_for_later_writes(pipe):
    source, stream = pipe
    writer = Writer()
    writer.write_result(stream, b"x" * 10_000)
    waiting = asyncio.get_running_loop().create_task(writer.drained())
    await asyncio.sleep(0)
    writer.write_notice(stream, "y" * 10_000)  # stays in the pipe, and in the writer
    await asyncio.to_thread(read_exactly, source, 10_000)
    await waiting
    assert await asyncio.to_thread(read_exactly, source, 10_000) == b"y" * 10_000


async def test_the_streams_are_those_of_the_writer_during_a_block(pipe, monkeypatch):
    source, stream = pipe
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    writer = Writer()
    with writer.streams():
        sys.stdout.buffer.write(LARGE)
        sys.stdout.buffer.flush()
        sys.stdout.write("text ")
        sys.stdout.writelines(["in ", "lines "])
        sys.stderr.write("notice \udcff\n")
        sys.stderr.flush()
        assert sys.stderr.fileno() == stream.fileno()
        assert not sys.stdout.isatty()
    assert (sys.stdout, sys.stderr) == (stream, stream)
    expected = LARGE + b"text in lines notice \\udcff\n"
    assert await asyncio.to_thread(read_exactly, source, len(expected)) == expected
    await until(lambda: not writer.behind)
