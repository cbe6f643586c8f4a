"""Replies that keep a request from ending: a mebibyte of half terminal sequences, and more than a reader reads.

Attacker: a responder, by its output; the reader of stdout or stderr of a request, by not reading. What must happen: a
reply of any content takes a fraction of a second; `--timeout` ends the waiting for replies whatever the reader does,
what came by then is written and counted, and one Ctrl-C ends the command within a second.
"""

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest

from tests.harness.simulated import simulated
from tests.harness.waiting import until

SECONDS = 60  # for anything to happen
CPU_SECONDS = 0.3
LENGTH = 1_000_000
HOSTILE = {
    "unterminated strings": "\x1b]",
    "unterminated sequences": "\x1b[0;",
    "one string": "\x1b]x\x1b",
    "lines": "\n",
    "combining characters": "\u0301",
    "8-bit controls": "\x9b",
}
SOURCES = {"x": "x", **HOSTILE}


def answer(number, message):
    """Number 1 replies what the payload names; number 2 a word, as the payload says: `late`, or not at all."""
    what, _, rest = message.payload.decode().partition(" ")
    if number == 1:
        piece = SOURCES[what.replace("_", " ")]
        rejected = "remaphore: refused: " if "rejected" in rest else ""
        return (77 if rejected else 0), rejected + (piece * LENGTH)[: LENGTH // len(piece.encode())]
    if "late" in rest:
        return late()
    return None if "silent" in rest else (0, "done")


released = threading.Event()


async def late():
    await asyncio.to_thread(released.wait, SECONDS)
    return 0, "done"


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    with simulated(tmp_path_factory.mktemp("two"), 2, answer) as fleet:
        yield fleet


def command(fleet, *words):
    return [sys.executable, "-m", "remaphore", "request", "-c", str(fleet.config), "--verb", "ping", *words]


def spent(words, **options):
    """Run a command to its end; return exit code and the CPU seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, **options) as process:
        code = process.wait(SECONDS)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return code, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def chunks(descriptor):
    """Yield what comes from a pipe or a terminal, to its end."""
    with contextlib.suppress(OSError):  # EIO: the other end of the terminal has been closed
        while chunk := os.read(descriptor, 65_536):
            yield chunk


def spent_where(fleet, kind, *words):
    """Return the CPU seconds of a request whose stdout and stderr are a terminal, or a pipe, that is read."""
    own, end = pty.openpty() if kind == "terminal" else os.pipe()
    reader = threading.Thread(target=lambda: list(chunks(own)))
    reader.start()
    try:
        code, cpu = spent(command(fleet, *words), stdout=end, stderr=end, env={**os.environ, "TERM": "xterm"})
    finally:
        os.close(end)
        reader.join(SECONDS)
        os.close(own)
    assert code == 0
    return cpu


# A terminal is shown what a pipe gets, and more is done to it.
FORMS = {"lines": (), "fold": ("--fold",), "jsonl": ("--jsonl",)}
BOTH = [
    pytest.param(kind, form, id=f"{kind}-{name}", marks=[pytest.mark.long] if kind == "pipe" else [])
    for name, form in FORMS.items()
    for kind in ("terminal", "pipe")
]


@pytest.mark.parametrize(("kind", "form"), BOTH)
def test_a_hostile_reply_of_a_mebibyte_takes_no_more_cpu_than_a_fraction_of_a_second(two, kind, form):
    # The same request to the node that answers with a word is what the command itself takes.
    plain = spent_where(two, kind, *form, "--to", "com.db.2", "--timeout", "30s", "x")

    def extra(what):
        words = (*form, "--to", "com.db.1", "--timeout", "30s", what.replace(" ", "_"))
        for _ in range(3):  # a busy machine makes a run take more, and never less
            taken = spent_where(two, kind, *words) - plain
            if taken < CPU_SECONDS:
                break
        return taken

    taken = {what: extra(what) for what in (["unterminated strings"] if form else HOSTILE)}
    assert max(taken.values()) < CPU_SECONDS, taken


def test_a_hostile_refusal_holds_no_request_either(two):
    for form in ("--json", "--fold", "--failed"):
        words = (form, "--to", "com.db.1", "--timeout", "30s", "unterminated_strings rejected")
        done = subprocess.run(command(two, *words), capture_output=True, timeout=SECONDS, check=False)
        assert done.returncode == 6
        assert b"1 rejected" in done.stderr


class Stalled:
    """A request with a stdout, or a stderr, or both on a terminal, that is not read by itself."""

    def __init__(self, fleet, *words, stalled="stdout", terminal=False):
        self.own, end = pty.openpty() if terminal else os.pipe()
        if not terminal:
            fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 4096)
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stalled: end}
        if terminal:
            streams = {"stdout": end, "stderr": end}
        self.process = subprocess.Popen(
            command(fleet, *words), stdin=subprocess.DEVNULL, env={**os.environ, "TERM": "xterm"}, **streams
        )
        os.close(end)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        with contextlib.suppress(OSError):
            os.close(self.own)

    def wait_until_full(self):
        """Return once no more fits in: the command writes, and nothing is read."""
        seen = []

        def is_full():
            seen.append(int.from_bytes(fcntl.ioctl(self.own, termios.FIONREAD, bytes(4)), sys.byteorder))
            return seen[-1] > 0 and len(seen) > 20 and len(set(seen[-20:])) == 1

        asyncio.run(until(is_full, limit=SECONDS))

    def interrupted(self):
        """Press Ctrl-C once, and return the exit code. Nothing but that ends it within the time."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(SECONDS)


@pytest.mark.parametrize("form", ["--jsonl", "--json", "--fold", "--failed"])
def test_one_ctrl_c_ends_a_request_whose_pipe_is_full(two, form):
    # As rejections, so that --failed shows them; the other node is silent, so that it does not end by itself.
    before = len(two.received)
    with Stalled(two, form, "--timeout", "0", "x rejected silent" if form == "--failed" else "x silent") as stalled:
        if form in ("--jsonl", "--failed"):
            stalled.wait_until_full()
        else:  # the document comes at the end: the write that waits is the one after Ctrl-C
            asyncio.run(until(lambda: len(two.received) == before + 2))
        assert stalled.interrupted() == 130
        assert b"Traceback" not in stalled.process.stderr.read()


def test_one_ctrl_c_ends_a_request_on_a_terminal_that_is_not_read(two):
    with Stalled(two, "--timeout", "0", "x silent", terminal=True) as stalled:
        stalled.wait_until_full()
        assert stalled.interrupted() == 130


def test_one_ctrl_c_ends_a_request_whose_log_is_not_read(two):
    with Stalled(two, "--verbose", "--timeout", "0", "x silent", stalled="stderr") as stalled:
        os.set_blocking(stalled.process.stdout.fileno(), True)
        head = os.read(stalled.process.stdout.fileno(), 100)
        assert head.startswith(b"com.db.1,0,")
        assert stalled.interrupted() == 130


def test_after_ctrl_c_a_reader_that_is_slow_gets_all_that_came(two):
    with Stalled(two, "--jsonl", "--timeout", "0", "x silent") as stalled:
        stalled.wait_until_full()
        stalled.process.send_signal(signal.SIGINT)
        shown = b""
        while chunk := os.read(stalled.own, 65_536):
            shown += chunk
            threading.Event().wait(0.005)  # some two seconds for all of it
        assert stalled.process.wait(SECONDS) == 130
    assert b'"missing": ["com.db.2"]' in shown.splitlines()[-1]
    assert len(shown) > LENGTH


def is_writing(pid):
    """Return whether a process waits in write(2) to its stdout (proc(5), syscall: number and arguments)."""
    number, *arguments = Path(f"/proc/{pid}/syscall").read_text().split()
    return number in ("1", "64") and arguments[0] == "0x1"  # x86-64, and arm64


def test_one_ctrl_c_ends_a_ping_whose_pipe_is_full(two):
    reading, writing = os.pipe()
    os.write(writing, bytes(fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)))
    words = ["ping", "com.db.2", "-c", str(two.config), "--interval", "10ms"]
    with subprocess.Popen(
        [sys.executable, "-m", "remaphore", *words], stdout=writing, stderr=subprocess.DEVNULL
    ) as ping:
        os.close(writing)
        asyncio.run(until(lambda: is_writing(ping.pid), limit=SECONDS))
        ping.send_signal(signal.SIGINT)
        try:
            assert ping.wait(SECONDS) == 130
        finally:
            ping.kill()
            os.close(reading)


def test_one_ctrl_c_ends_a_request_whose_stderr_is_not_read(two, tmp_path):
    config = tmp_path / "gone.toml"
    config.write_text(re.sub(r"nats://[^\"]*", "nats://127.0.0.1:1", two.config.read_text()))
    with Stalled(two, "-c", str(config), "--timeout", "1s", "x", stalled="stderr") as stalled:
        os.set_blocking(stalled.own, False)
        # The pipe holds the notice, and then nothing more: it is made full from here.
        with (
            Path(f"/proc/self/fd/{stalled.own}").open("wb", buffering=0) as other,
            contextlib.suppress(BlockingIOError),
        ):
            os.set_blocking(other.fileno(), False)
            while other.write(b"x" * 512):
                pass
        state = Path(f"/proc/{stalled.process.pid}/wchan")
        asyncio.run(until(lambda: "pipe" in state.read_text(), limit=SECONDS))
        assert stalled.interrupted() == 130


def test_a_reader_that_goes_away_in_the_middle_of_a_reply_ends_the_request(two):
    with Stalled(two, "--timeout", "0", "x silent") as stalled:  # the other node would be waited for without a limit
        stalled.wait_until_full()
        os.close(stalled.own)
        assert stalled.process.wait(SECONDS) == 141
        assert stalled.process.stderr.read() == b""


@pytest.mark.long  # it judges by seconds, so it is for a machine that is not busy
def test_ctrl_c_takes_less_than_a_second(two):
    taken = []
    for terminal in (False, True) * 5:
        with Stalled(two, "--timeout", "0", "x silent", terminal=terminal) as stalled:
            stalled.wait_until_full()
            started = time.monotonic()
            assert stalled.interrupted() == 130
            taken.append(time.monotonic() - started)
    assert max(taken) < 1, taken


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_replies_that_come_while_output_is_not_read_are_counted_and_written_later(two, terminal):
    released.clear()
    with Stalled(two, "--jsonl", "--timeout", "5s", "x late", terminal=terminal) as stalled:
        stalled.wait_until_full()
        released.set()
        # It is read only after the time is over. The late one has answered long before that.
        threading.Event().wait(5.5)
        assert stalled.process.poll() is None
        shown = b"".join(chunks(stalled.own))
        assert stalled.process.wait(SECONDS) == 0
    assert b'"missing": []' in shown
    assert shown.count(b'"kind": "reply"') == 2
    assert len(shown) > LENGTH
