"""A process has its handlers and its signal mask from the first moment on, whatever its caller has done to them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from remaphore import interrupts

# What a command does: begin, then something that does not end by itself. It prints a line once it can be signalled.
WAITING = """
import signal, subprocess, sys, time
from remaphore import interrupts
from remaphore.interrupts import Interrupted
interrupts.begin(reloads={reloads})
try:
    print("waiting", subprocess.run(["true"]).returncode, flush=True)
    sys.stdin.readline()
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
            assert process.stdout.readline() == "waiting 0\n"  # the status of a child too, with SIGCHLD ignored
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


@pytest.mark.parametrize("ignored", [(), (signal.SIGHUP,)])
def test_a_hangup_before_there_is_a_configuration_is_remembered(ignored: tuple[int, ...]) -> None:
    with started(reloads=True, ignored=ignored) as process:
        process.send_signal(signal.SIGHUP)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert end(process) == "continued [1]\n"


def test_the_first_process_of_a_namespace_has_handlers_for_what_has_no_default_action_there() -> None:
    code = "from remaphore import interrupts; interrupts.begin(reloads=False); print(open('/proc/self/status').read())"
    status = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    assert [number for number in interrupts.ENDING if not caught & 1 << number - 1] == []


BLOCKED = """
import os, signal, sys
from remaphore import interrupts
interrupts.begin(reloads=False)
interrupts.on_interrupt(lambda number: None, signals=interrupts.ENDING, seconds=0.3)
print("blocked", flush=True)
{blocked}
"""


@pytest.mark.parametrize("number", interrupts.ENDING)
def test_a_process_that_makes_no_progress_after_a_signal_is_ended(number: signal.Signals) -> None:
    code = BLOCKED.format(blocked="os.read(0, 1)")
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        try:
            assert process.wait(30) == 128 + number
        finally:
            process.kill()


def test_what_computes_is_not_ended() -> None:
    code = BLOCKED.format(
        blocked="import time\nuntil = time.process_time() + 0.7\nwhile time.process_time() < until: 0"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(30) == 0
