"""What a program inherits of our signals, however we were started: an empty mask, and default actions only."""

import asyncio
import os
import signal

import pytest

from remaphore_plugins.processes.run import run
from remaphore_plugins.processes.signals import default_signals
from tests.harness.programs import CAP, ENV, pid_in, run_sh

CATCHABLE = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
SETS = (b"SigBlk", b"SigIgn", b"SigCgt")
# In such a set, signal n is bit n - 1. The C library keeps two for itself, which `make` passes on as ignored.
OURS = sum(1 << number - 1 for number in CATCHABLE)


@pytest.fixture
def inherited():
    """Return a function that ignores and blocks signals, as a process inherits it, for the length of the test."""
    actions: dict[int, object] = {}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def change(*, ignored=(), blocked=()):
        actions.update({number: signal.signal(number, signal.SIG_IGN) for number in ignored})
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)

    yield change
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, action in actions.items():
        signal.signal(number, action)


INHERITED = {
    "nohup": {"ignored": [signal.SIGHUP]},
    "background of a script": {"ignored": [signal.SIGINT, signal.SIGQUIT]},
    "threads of a JVM": {"blocked": [signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP]},
    "everything": {"ignored": CATCHABLE - {signal.SIGALRM, signal.SIGPROF}, "blocked": CATCHABLE},
}


@pytest.mark.parametrize("case", INHERITED)
async def test_program_starts_with_an_empty_mask_and_default_actions(case, inherited):
    inherited(**INHERITED[case])
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ()), [signal.getsignal(number) for number in CATCHABLE]
    result = await run([b"cat", b"/proc/self/status"], env=ENV, timeout=30, cap=CAP)
    now = signal.pthread_sigmask(signal.SIG_BLOCK, ()), [signal.getsignal(number) for number in CATCHABLE]
    sets = [line.split() for line in result.output.splitlines() if line.startswith(SETS)]
    assert [(name, int(mask, 16) & OURS) for name, mask in sets] == [(b"%b:" % name, 0) for name in SETS]
    if case != "everything":  # SIGCHLD stays at its default
        assert now == before


async def test_ignored_sigchld_costs_no_exit_status(inherited, tmp_path):
    inherited(ignored=[signal.SIGCHLD])
    os.mkfifo(tmp_path / "go")
    task = asyncio.get_running_loop().create_task(run_sh(f"echo $$ >{tmp_path}/pid; read x <{tmp_path}/go; exit 3"))
    await pid_in(tmp_path / "pid")  # it has started, and ends later
    await asyncio.to_thread((tmp_path / "go").write_text, "\n")
    assert (await task).exit_code == 3


def test_signal_that_is_blocked_or_ignored_does_not_end_us_while_a_program_is_started(inherited):
    inherited(ignored=[signal.SIGHUP], blocked=[signal.SIGUSR2])
    signal.raise_signal(signal.SIGUSR2)  # to this thread, where it is pending
    with default_signals():
        signal.raise_signal(signal.SIGHUP)


async def test_trap_of_a_program_runs_when_it_is_ended_although_we_block_sigterm(inherited, tmp_path):
    inherited(blocked=[signal.SIGTERM])
    stop = asyncio.get_running_loop().create_future()
    body = f"trap 'echo cleaned; exit 1' TERM; echo $$ >{tmp_path}/pid; while :; do sleep 0.02; done"
    task = asyncio.get_running_loop().create_task(run_sh(body, stop=stop))
    await pid_in(tmp_path / "pid")
    stop.set_result(None)
    assert (await task).output.endswith(b"cleaned\n")
