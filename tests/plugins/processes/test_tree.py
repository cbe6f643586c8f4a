"""Ending a program with all its descendants: at the timeout, when asked to stop, when cancelled."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from remaphore import proc
from remaphore_plugins.processes import tree
from remaphore_plugins.processes.run import RunResult
from tests.harness.programs import alive, held, marked, pid_in, run_sh
from tests.harness.waiting import until

HOUR = 3600.0

ORPHAN = """if 1:
    import os, signal, sys
    if os.fork():
        os._exit(0)
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open(sys.argv[1], "w") as file:
        print(os.getpid(), file=file)
    signal.pause()"""

# Each writes the pid of what must not survive to $1; none of them ends by itself while a test runs.
STUBBORN = {
    "the script itself": "trap '' TERM; echo $$ >$1; while :; do sleep 600; done",
    "a child": "sleep 600 & echo $! >$1; wait",
    "a child that ignores TERM": "(trap '' TERM; sleep 600 & sleep 600) & echo $! >$1; wait",
    "a grandchild that ignores TERM": "sh -c 'trap \"\" TERM; sleep 600 & echo $! >$0; wait' $1 & wait",
    "a child in its own session": "setsid sh -c 'trap \"\" TERM; echo $$ >$0; while :; do sleep 600; done' $1 & wait",
    "an orphan in its own group": f"{sys.executable} -c '{ORPHAN}' $1; sleep 600",
    "a stopped child": "sleep 600 & kill -STOP $!; echo $! >$1; wait",
}


def start(body: str, *words: object, **options) -> asyncio.Task[RunResult]:
    return asyncio.get_running_loop().create_task(run_sh(body, *map(str, words), **options))


async def cancelled(task: asyncio.Task[object]) -> bool:
    await asyncio.wait({task}, timeout=30)
    return task.cancelled()


@pytest.mark.parametrize("case", STUBBORN)
@pytest.mark.parametrize("how", ["timeout", "stop", "cancel"])
async def test_nothing_that_the_program_started_survives_it(case, how, tmp_path, brief_grace, put_forward):
    before = held()
    stop = asyncio.get_running_loop().create_future()
    task = start(STUBBORN[case], tmp_path / "pid", timeout=HOUR, stop=stop)
    pid = await pid_in(tmp_path / "pid")
    assert alive(pid)
    if how == "timeout":
        put_forward(HOUR)
    elif how == "stop":
        stop.set_result(None)
    else:
        task.cancel()
    assert await cancelled(task) == (how == "cancel")
    await until(lambda: not marked())
    assert held() == before
    if how != "cancel":
        assert (task.result().timed_out, task.result().stopped) == (how == "timeout", how == "stop")


async def test_timeout_ends_with_term_and_keeps_the_output(tmp_path, put_forward):
    task = start("echo so far; echo $$ >$1; exec sleep 600", tmp_path / "pid", timeout=HOUR)
    await pid_in(tmp_path / "pid")
    put_forward(HOUR)
    result = await task
    assert (result.timed_out, result.signal, result.output) == (True, signal.SIGTERM, b"so far\n")


async def test_program_that_handles_term_has_the_grace_to_finish(tmp_path, put_forward, monkeypatch):
    monkeypatch.setattr(tree, "GRACE_SECONDS", 30.0)
    body = "trap 'echo cleaned; exit 7' TERM; echo $$ >$1; while :; do :; done"
    task = start(body, tmp_path / "pid", timeout=HOUR)
    await pid_in(tmp_path / "pid")
    put_forward(HOUR)
    result = await task
    assert (result.exit_code, result.signal, result.timed_out) == (7, None, True)
    assert result.output == b"cleaned\n"


async def test_child_that_outlives_the_script_has_the_grace_too(tmp_path, monkeypatch):
    monkeypatch.setattr(tree, "GRACE_SECONDS", 30.0)
    monkeypatch.setattr(tree, "_POLL_SECONDS", 0)
    child, pid, dead, go = (tmp_path / name for name in ("child", "pid", "dead", "go"))
    script_is_dead = "grep -q '^State:.Z' /proc/$PPID/status"
    at_term = f"until {script_is_dead}; do :; done; touch {dead}; until [ -e {go} ]; do :; done; echo cleaned; exit"
    child.write_text(f'trap "{at_term}" TERM; echo $$ >{pid}; while :; do :; done')
    stop = asyncio.get_running_loop().create_future()
    task = start("sh $1 & wait", child, stop=stop)
    await pid_in(pid)
    stop.set_result(None)
    await until(dead.exists)
    for _ in range(100):
        await asyncio.sleep(0)  # it has polled as often meanwhile
    go.touch()
    assert (await task).output == b"cleaned\n"


@pytest.fixture
def sent(monkeypatch):
    """Return a list that receives each signal to a group when it is sent, as the group and the number."""
    sent, kill = [], os.killpg
    monkeypatch.setattr(os, "killpg", lambda group, number: (sent.append((group, number)), kill(group, number)))
    return sent


async def end_two_groups(tmp_path) -> None:
    stop = asyncio.get_running_loop().create_future()
    task = start(STUBBORN["a child in its own session"], tmp_path / "pid", stop=stop)
    await pid_in(tmp_path / "pid")
    stop.set_result(None)
    await task


async def test_each_group_receives_term_once(tmp_path, brief_grace, sent):
    await end_two_groups(tmp_path)
    heard = [group for group, number in sent if number == signal.SIGTERM]
    assert len(heard) == len(set(heard)) == 2  # a second TERM would run a trap twice


async def test_all_are_stopped_before_any_is_killed(tmp_path, brief_grace, sent):
    await end_two_groups(tmp_path)
    first = [number for _, number in sent].index(signal.SIGKILL)
    stopped = {group for group, number in sent[:first] if number == signal.SIGSTOP}
    assert stopped == {group for group, _ in sent[first:]}
    assert len(stopped) == 2


async def test_supervisor_that_replaces_dying_workers_leaves_none(tmp_path, brief_grace):
    sleepers = 20
    supervisor = tmp_path / "supervisor"
    supervisor.write_text("trap '' TERM\nfor i in $(seq $1); do while :; do setsid sleep 600; done & done\nwait\n")
    stop = asyncio.get_running_loop().create_future()
    task = start("setsid sh $1 $2 & wait", supervisor, sleepers, stop=stop)
    await until(lambda: len(marked()) > 2 * sleepers)
    stop.set_result(None)
    await task
    await until(lambda: not marked())


async def test_no_signal_reaches_our_own_group_or_every_process(monkeypatch):
    sent = []
    monkeypatch.setattr(os, "killpg", lambda group, number: sent.append(group))
    for group in (-1, 0, 1, 2, os.getpgrp()):
        proc.signal_group(group, signal.SIGTERM)
    assert sent == [2]


async def test_nothing_starts_once_stopped(tmp_path):
    stop = asyncio.get_running_loop().create_future()
    stop.set_result(None)
    result = await run_sh("touch $1", str(tmp_path / "made"), stop=stop)
    assert (result.exit_code, result.stopped) == (None, True)
    assert not (tmp_path / "made").exists()


async def test_stop_that_comes_too_late_changes_nothing():
    stop = asyncio.get_running_loop().create_future()
    result = await run_sh("exit 5", stop=stop)
    stop.set_result(None)
    assert (result.exit_code, result.stopped) == (5, False)


@pytest.mark.parametrize("times", [2, 5])
async def test_cancelling_again_cuts_the_grace_and_leaves_nothing(times, tmp_path, monkeypatch):
    monkeypatch.setattr(tree, "GRACE_SECONDS", HOUR)
    before = held()
    task = start(STUBBORN["a grandchild that ignores TERM"], tmp_path / "pid", timeout=None)
    await pid_in(tmp_path / "pid")
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    assert await cancelled(task)
    await until(lambda: not marked())
    assert held() == before


async def test_exception_while_ending_leaves_no_process(tmp_path, monkeypatch):
    before = held()
    stop = asyncio.get_running_loop().create_future()
    task = start("echo $$ >$1; trap '' TERM; while :; do :; done", tmp_path / "pid", stop=stop)
    await pid_in(tmp_path / "pid")
    monkeypatch.setattr(proc, "process_tree", lambda *_: 1 / 0)
    stop.set_result(None)
    with pytest.raises(ZeroDivisionError):
        await task
    await until(lambda: not marked())
    assert held() == before


async def test_bystanders_are_not_touched(tmp_path, brief_grace):
    bystander = await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)
    try:
        stop = asyncio.get_running_loop().create_future()
        task = start(STUBBORN["a child in its own session"], tmp_path / "pid", stop=stop)
        await pid_in(tmp_path / "pid")
        stop.set_result(None)
        await task
        assert alive(bystander.pid)
    finally:
        bystander.kill()
        await bystander.wait()


async def test_without_proc_the_group_is_still_ended(tmp_path, brief_grace, monkeypatch):
    monkeypatch.setattr(proc, "Path", lambda path: Path(os.devnull) / path.lstrip("/"))
    stop = asyncio.get_running_loop().create_future()
    task = start(STUBBORN["a grandchild that ignores TERM"], tmp_path / "pid", stop=stop)
    pid = await pid_in(tmp_path / "pid")
    stop.set_result(None)
    assert (await task).stopped
    await until(lambda: not alive(pid))


def process(number: int) -> proc.Process:
    """Return a process that cannot exist: its pid is above the kernel's limit of 2**22."""
    return proc.Process(pid=2**22 + number, start=1, parent=1, group=2**22 + number, session=2**22 + number)


@pytest.fixture
def signals(monkeypatch):
    """Return a list that receives each signal to a group, as its number and the group; none is sent."""
    signals = []
    monkeypatch.setattr(os, "killpg", lambda group, number: signals.append((number, group - 2**22)))
    return signals


async def test_sweeps_continue_until_one_finds_nothing_new(signals):
    """Process 1 forks 2 during the first sweep, and 2 forks 3 during the second."""
    found = iter([{1}, {1}, {1, 2}, {1, 2, 3}, {1, 2, 3}, {1, 2, 3}])
    killed = await tree.kill_tree(lambda seen: frozenset(map(process, next(found))), 0)
    last = {number: max(i for i, sent in enumerate(signals) if sent[0] == number) for number, _ in signals}
    assert {group for number, group in signals if number == signal.SIGSTOP} == {1, 2, 3}
    assert {group for number, group in signals if number == signal.SIGKILL} == {1, 2, 3}
    assert last[signal.SIGTERM] < last[signal.SIGSTOP] < last[signal.SIGKILL]
    assert killed == {process(1), process(2), process(3)}
    assert next(found, None) is None


async def test_fork_bomb_cannot_keep_the_sweeps_going_forever(signals):
    seen = []
    await tree.kill_tree(lambda _: (seen.append(process(len(seen) + 1)), frozenset(seen))[1], 0)
    assert len(seen) == 7  # for TERM, five times for STOP, for KILL
    assert {group for number, group in signals if number == signal.SIGKILL} == set(range(1, 8))


async def test_find_gets_all_that_was_seen_so_far(signals):
    """A process that was seen once may have lost its parent since, and then only this connects it with the tree."""
    asked, found = [], iter([{1, 2}, {2, 3}, {2, 3}, {2}])
    await tree.kill_tree(lambda seen: (asked.append(seen), frozenset(map(process, next(found))))[1], 0)
    assert asked == [frozenset(map(process, numbers)) for numbers in ([], [1, 2], [1, 2, 3], [1, 2, 3])]


async def test_later_process_with_the_same_pid_is_another_one():
    child = await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)
    try:
        [seen] = [found for found, _ in proc.children(os.getpid()) if found.pid == child.pid]
        assert proc.with_descendants([seen]) == {seen}
        assert proc.with_descendants([seen._replace(start=seen.start - 1)]) == frozenset()
    finally:
        child.kill()
        await child.wait()


async def test_it_returns_only_when_the_leader_has_exited(signals):
    exited = asyncio.get_running_loop().create_future()
    ending = tree.kill_tree(lambda _: frozenset(), 0, leader=2**22 + 1, exited=exited)
    task = asyncio.get_running_loop().create_task(ending)
    await until(lambda: (signal.SIGKILL, 1) in signals)
    await asyncio.sleep(0)
    assert not task.done()
    exited.set_result(None)
    assert await task == frozenset()


async def test_program_that_cannot_be_killed_blocks_nothing_and_is_reaped_when_it_ends(tmp_path, monkeypatch):
    """One of another user, such as after `exec sudo`, or one that waits for a network file system."""
    monkeypatch.setattr(tree, "GRACE_SECONDS", 0.05)
    monkeypatch.setattr(tree, "KILLED_SECONDS", 0.05)
    monkeypatch.setattr(os, "killpg", deny)
    os.mkfifo(tmp_path / "go")
    before = held()
    task = start("echo $$ >$1; exec cat <$2 >/dev/null 2>&1", tmp_path / "pid", tmp_path / "go", timeout=0.5)
    pid = await pid_in(tmp_path / "pid")
    result = await asyncio.wait_for(task, 30)
    assert (result.timed_out, result.survived, result.exit_code) == (True, True, None)
    assert result.error == f"pid {pid} still runs, because it cannot be killed"
    assert alive(pid)
    (tmp_path / "go").write_text("")
    await until(lambda: not Path(f"/proc/{pid}").exists())
    assert held() == before


def deny(_group, _number):
    raise PermissionError(1, "Operation not permitted")
