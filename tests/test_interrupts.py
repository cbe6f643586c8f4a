"""A process has its handlers and its signal mask from the first moment on, whatever its caller has done to them."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator

# What a command does: begin, then something that does not end by itself. It prints a line once it can be signalled.
WAITING = """
import select, signal, subprocess, sys
from remaphore import interrupts
from remaphore.interrupts import Interrupted
interrupts.begin(reloads={reloads})
try:
    print("waiting", subprocess.run(["sh", "-c", "exit 3"]).returncode, flush=True)
    # Not one read: a signal between the last instruction of Python and the system call would not interrupt that.
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        pass
    print("continued", interrupts.hangups, flush=True)
except Interrupted as interrupt:
    print("interrupted by", interrupt.number, flush=True)
"""


# A caller that leaves signals ignored and blocked to what it starts.
CALLER = """
import os, signal, sys
for number in {ignored}:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {blocked})
os.execv(sys.executable, [sys.executable, "-c", {program!r}])
"""


@contextlib.contextmanager
def started(
    *, reloads: bool = False, ignored: tuple[int, ...] = (), blocked: tuple[int, ...] = ()
) -> Iterator[subprocess.Popen[str]]:
    """Start the program as a caller does that ignores and blocks these signals."""
    code = CALLER.format(
        ignored=[*map(int, ignored)], blocked=[*map(int, blocked)], program=WAITING.format(reloads=reloads)
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting 3\n"  # the status of a child too, with SIGCHLD ignored
            yield process
        finally:
            process.kill()


def end(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.read()


ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM)


def test_blocked_and_ignored_signals_arrive_all_the_same() -> None:
    with started(ignored=(signal.SIGTERM, signal.SIGCHLD), blocked=ALL) as process:
        process.send_signal(signal.SIGTERM)
        assert end(process) == "interrupted by 15\n"


def test_hangups_that_nohup_ignores_and_interrupts_that_a_shell_ignores_stay_ignored() -> None:
    with started(ignored=(signal.SIGHUP, signal.SIGINT)) as process:
        for number in (signal.SIGHUP, signal.SIGINT):
            process.send_signal(number)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert end(process) == "continued []\n"


def test_a_hangup_before_there_is_a_configuration_is_remembered_also_under_nohup() -> None:
    with started(reloads=True, ignored=(signal.SIGHUP,)) as process:
        process.send_signal(signal.SIGHUP)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert end(process) == "continued [1]\n"


STARTING = """
import os, signal
from remaphore import interrupts, tasks
interrupts.begin(reloads=True)
async def start():
    os.kill(os.getpid(), signal.SIGHUP)
    print("started", interrupts.hangups, flush=True)
tasks.run(start())
os.kill(os.getpid(), signal.SIGHUP)
print("ended", interrupts.hangups, flush=True)
"""


def test_a_hangup_while_the_event_loop_has_begun_and_no_reload_is_possible_yet_is_remembered_too() -> None:
    done = subprocess.run([sys.executable, "-c", STARTING], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "started [1]\nended [1, 1]\n")


COMPUTING = """
import signal, time
from remaphore import interrupts
interrupts.on_interrupt(lambda number: None, signals=interrupts.ENDING, seconds=0.2)
print("computing", flush=True)
until = time.process_time() + 0.5
while time.process_time() < until:
    pass
signal.setitimer(signal.ITIMER_REAL, 0)
"""


def test_what_computes_is_not_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", COMPUTING], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        assert process.wait(30) == 0
