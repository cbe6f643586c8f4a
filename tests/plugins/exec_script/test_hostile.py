"""Handlers at their worst: each has a defined reply, and none leaves a process, a zombie or a descriptor behind."""

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from remaphore import Reply
from remaphore.tasks import spawn
from remaphore_plugins.exec_script import handlers, orphans, process
from tests.plugins.exec_script.helpers import (
    alive,
    children,
    handled,
    held,
    hooks_plugin,
    make_hooks,
    message,
    pid_in,
    until,
    write_script,
)
from tests.plugins.exec_script.test_process import memory, reset_peak

HOUR = 3600.0

# Leaves its session and its parents; $1 tells where to write its pid. TERM does not end it.
DAEMON = """import os, signal, sys
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1], 'w') as file: print(os.getpid(), file=file)
while True: signal.pause()
"""


@pytest.fixture
def double_fork(tmp_path) -> Callable[[str], str]:
    """Return a function that returns a command: it starts a daemon that writes its pid to a file of the test."""
    (tmp_path / "daemon.py").write_text(DAEMON)
    return lambda name: f"{sys.executable} -I {tmp_path}/daemon.py {tmp_path}/{name} </dev/null >/dev/null 2>&1\n"


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(orphans, "SWEEP_SECONDS", 0.01)


def start(made, **values) -> asyncio.Task[Reply | None]:
    return asyncio.get_running_loop().create_task(handled(made, **values))


HOSTILE = {
    "binary": ("printf '\\377\\000\\033[2J\\n'", Reply(0, b"\xff\0\x1b[2J\n")),
    "closes stdin": ("exec <&-; exit 5", Reply(5, b"")),
    "closes all": ("exec <&- >&- 2>&-; exit 6", Reply(6, b"")),
    "looks like a rejection": ("echo remaphore: refused; exit 0", Reply(0, b"remaphore: refused\n")),
    "kills its own group": ("kill -9 -$$", Reply(137, b"remaphore: 1: killed by signal 9\n")),
    "dies of HUP": ("kill -1 $$", Reply(129, b"remaphore: 1: killed by signal 1\n")),
    "removes itself": ('rm -f -- "$0"; echo gone', Reply(0, b"gone\n")),
    "reads nothing of a large payload": ("exit 0", Reply(0, b"")),
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_each_has_its_reply(case, tmp_path):
    body, expected = HOSTILE[case]
    before = held()
    assert await handled(hooks_plugin(make_hooks(tmp_path, _1=body)), payload=b"x" * 131_000) == expected
    assert held() == before


async def test_a_gigabyte_costs_no_memory_and_is_counted(tmp_path):
    made = hooks_plugin(make_hooks(tmp_path, _1="head -c 1G /dev/zero"), cap=1000)
    reset_peak()
    before = memory("VmRSS")
    reply = await handled(made)
    note = b"\nremaphore: output truncated: kept 1000 of 1073741824 bytes\n"
    assert reply == Reply(0, bytes(1000) + note)
    assert memory("VmHWM") - before < 20_000


async def test_pipe_held_by_a_child_delays_neither_the_next_handler_nor_the_reply(tmp_path):
    hooks = make_hooks(tmp_path, _1=f"sleep 600 & echo $! >{tmp_path}/pid; echo 1; exit 2", _2="echo 2")
    made = hooks_plugin(hooks)
    assert await handled(made) == Reply(2, b"1\n2\n")
    assert alive(await pid_in(tmp_path / "pid"))
    await made.remaphore_shutdown("stopped")
    assert not alive(await pid_in(tmp_path / "pid"))


BACKGROUND = {
    "child in the session": "sleep 600 >/dev/null 2>&1 & echo $! >{pid}",
    "child in a session of its own": "setsid sh -c 'echo $$ >{pid}; exec sleep 600' >/dev/null 2>&1 &",
    "without an environment": "env -i setsid sh -c 'echo $$ >{pid}; exec sleep 600' >/dev/null 2>&1 &",
    "that ignores TERM": "(trap '' TERM; setsid sh -c 'echo $$ >{pid}; while :; do sleep 600; done' >/dev/null 2>&1 &)",
}


@pytest.mark.parametrize("case", [*BACKGROUND, "daemon"])
async def test_background_of_a_handler_that_ended_well_is_left_alone_until_the_stop(
    case, tmp_path, double_fork, brief_grace
):
    body = double_fork("pid") if case == "daemon" else BACKGROUND[case].format(pid=tmp_path / "pid")
    before = children()
    made = hooks_plugin(make_hooks(tmp_path, _1=body, _2="exit 3"))
    assert (await handled(made)).exit_code == 3
    pid = await pid_in(tmp_path / "pid")
    assert alive(pid)
    await made.remaphore_shutdown("stopped")
    assert not alive(pid)
    assert children() == before


async def test_daemon_that_a_handler_started_dies_with_it_at_the_timeout(
    tmp_path, double_fork, put_forward, brief_grace, often
):
    before = children()
    made = hooks_plugin(make_hooks(tmp_path, _1=double_fork("pid") + "sleep 600"), timeout_seconds=HOUR)
    task = start(made)
    pid = await pid_in(tmp_path / "pid")
    put_forward(HOUR)
    assert (await task).exit_code == 124
    await until(lambda: not alive(pid))
    await until(lambda: children() == before)


async def test_daemon_of_an_earlier_handler_survives_the_timeout_of_a_later_one(
    tmp_path, double_fork, put_forward, brief_grace
):
    hooks = make_hooks(tmp_path, _1=double_fork("pid"), _2=f"echo $$ >{tmp_path}/second; exec sleep 600")
    made = hooks_plugin(hooks, timeout_seconds=HOUR)
    task = start(made)
    pid = await pid_in(tmp_path / "pid")
    await pid_in(tmp_path / "second")
    put_forward(HOUR)
    assert (await task).exit_code == 124
    assert alive(pid)
    await made.remaphore_shutdown("stopped")
    assert not alive(pid)


async def test_daemon_of_another_message_survives_a_timeout(tmp_path, double_fork, put_forward, brief_grace):
    hooks = make_hooks(
        tmp_path, _1=f'[ "$2" = wait ] && {{ echo $$ >{tmp_path}/w; exec sleep 600; }}\n' + double_fork("pid")
    )
    made = hooks_plugin(hooks, timeout_seconds=HOUR)
    task = start(made, payload=b"wait")
    await pid_in(tmp_path / "w")
    assert (await handled(made, payload=b"go")).exit_code == 0
    pid = await pid_in(tmp_path / "pid")
    put_forward(HOUR)
    assert (await task).exit_code == 124
    assert alive(pid)
    await made.remaphore_shutdown("stopped")
    assert not alive(pid)


async def test_nothing_stays_as_a_zombie(tmp_path, often):
    before = children()
    body = "for i in 1 2 3 4 5; do setsid true >/dev/null 2>&1 & done; (sleep 0 & sleep 0 &)"
    made = hooks_plugin(make_hooks(tmp_path, _1=body))
    for _ in range(5):
        assert (await handled(made)).exit_code == 0
    await until(lambda: children() == before)


async def test_children_that_others_started_are_neither_reaped_nor_ended(tmp_path, often):
    """Another plugin may start programs too; ours must not take their exit status."""
    code = f"import os; open('{tmp_path}/other', 'w').write('%d\\n' % os.getpid()); os.read(0, 1); raise SystemExit(7)"
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdin=asyncio.subprocess.PIPE)
    await pid_in(tmp_path / "other")
    made = hooks_plugin(make_hooks(tmp_path, _1="exit 0"))
    await handled(made)
    await made.remaphore_shutdown("stopped")
    other.stdin.close()
    assert await other.wait() == 7


def replace_file(handler: Path) -> None:
    write_script(handler.with_name("new"), f"touch {handler.parents[2]}/made")
    handler.with_name("new").replace(handler)


BETWEEN = {
    "replaced": (replace_file, b"changed after it was checked"),
    "gone": (lambda handler: handler.unlink(), b"No such file or directory"),
    "its directory gone": (lambda handler: handler.parent.rename(handler.parent.with_name("x")), b"No such file"),
    "writable": (lambda handler: handler.chmod(0o777), b"writable by others"),
    "in a writable directory": (lambda handler: handler.parent.chmod(0o777), b"writable by others"),
    "below a writable directory": (lambda handler: handler.parents[2].chmod(0o777), b"writable by others"),
}


@pytest.mark.parametrize("case", BETWEEN)
async def test_change_between_check_and_run_is_126_and_nothing_of_it_runs(case, tmp_path, monkeypatch):
    change, reason = BETWEEN[case]
    hooks = make_hooks(tmp_path, _1=f"touch {tmp_path}/made", _2=f"touch {tmp_path}/made")
    prepare = handlers.prepare

    def prepare_and_change(*words):
        plan = prepare(*words)
        change(hooks / "deploy" / "1")
        return plan

    made = hooks_plugin(hooks)
    monkeypatch.setattr(handlers, "prepare", prepare_and_change)
    reply = await handled(made)
    assert reply.exit_code == 126
    assert reply.output.startswith(b"remaphore: 1: not started, because it is unsafe: ")
    assert reason in reply.output
    assert not (tmp_path / "made").exists()


WHILE_RUNNING = {
    "the next file": "chmod 777 {verb}/2",
    "the next file, and back": "chmod 777 {verb}/2; chmod 755 {verb}/2",
    "the next file's text": "echo 'touch {made}' >>{verb}/2",
    "the directory": "chmod 777 {verb}",
    "an ancestor": "chmod 777 {top}",
    "a link's target": "chmod 777 {top}/opt/real",
    "a link's target's directory": "chmod 777 {top}/opt",
    "the link": "ln -sfn {top}/opt/other {verb}/3",
    "a removed one": "rm {verb}/2",
}


@pytest.mark.parametrize("case", WHILE_RUNNING)
async def test_handler_that_makes_a_later_one_unsafe_is_the_last_to_run(case, tmp_path):
    made_file, opt = tmp_path / "made", tmp_path / "opt"
    opt.mkdir()
    opt.chmod(0o755)
    for name in ("real", "other"):
        write_script(opt / name, f"touch {made_file}")
    verb = tmp_path / "hooks.d" / "deploy"
    change = WHILE_RUNNING[case].format(verb=verb, top=tmp_path, made=made_file)
    hooks = make_hooks(tmp_path, _1=change, _2="echo second")
    (verb / "3").symlink_to(opt / "real")
    reply = await handled(hooks_plugin(hooks))
    assert reply.exit_code == 126
    assert b"not started, because it is unsafe" in reply.output
    assert not made_file.exists()


async def test_handler_that_replaces_itself_while_it_runs_is_not_hurt(tmp_path):
    body = f'printf "#!/bin/sh\\necho new\\n" >{tmp_path}/n; chmod 755 {tmp_path}/n; mv {tmp_path}/n "$0"; echo old'
    made = hooks_plugin(make_hooks(tmp_path, _1=body))
    assert await handled(made) == Reply(0, b"old\n")
    assert await handled(made) == Reply(0, b"new\n")


async def test_fork_bomb_of_a_handler_ends_at_the_timeout(tmp_path, put_forward, brief_grace):
    body = f"echo $$ >{tmp_path}/pid; for i in 1 2 3 4 5; do (while :; do (sleep 0.01) & wait; done) & done; wait"
    before = children()
    made = hooks_plugin(make_hooks(tmp_path, _1=body), timeout_seconds=HOUR)
    task = start(made)
    await pid_in(tmp_path / "pid")
    put_forward(HOUR)
    assert (await task).exit_code == 124
    await made.remaphore_shutdown("stopped")
    assert children() == before


async def test_cancelled_message_ends_its_handler_and_its_daemon(tmp_path, double_fork, brief_grace):
    made = hooks_plugin(make_hooks(tmp_path, _1=double_fork("pid") + "sleep 600"))
    task = start(made)
    pid = await pid_in(tmp_path / "pid")
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    await until(lambda: not alive(pid))


async def test_a_message_that_is_cancelled_before_its_turn_starts_nothing(tmp_path):
    made = hooks_plugin(make_hooks(tmp_path, _1=f"touch {tmp_path}/made"))
    task = spawn(made.remaphore_message(message()), name="cancelled")
    task.cancel()
    await asyncio.wait({task})
    await made.remaphore_shutdown("stopped")
    assert not (tmp_path / "made").exists()


async def test_handler_of_an_identical_message_is_not_taken_for_an_orphan(tmp_path, brief_grace):
    """It has the same message, a session of its own, and us as its parent."""
    body = f"mkdir {tmp_path}/lock && {{ echo $$ >{tmp_path}/pid; exec sleep 600; }}\n"
    body += f"echo $$ >{tmp_path}/second; until [ -e {tmp_path}/go ]; do :; done; echo whole"
    made = hooks_plugin(make_hooks(tmp_path, _1=body))
    first = start(made)
    await pid_in(tmp_path / "pid")
    second = start(made)
    await pid_in(tmp_path / "second")
    first.cancel()
    await asyncio.wait({first})
    (tmp_path / "go").touch()
    reply = await second
    assert (reply.exit_code, reply.output.endswith(b"\nwhole\n")) == (0, True)


async def test_what_handlers_of_identical_messages_leave_is_told_apart(tmp_path, double_fork, brief_grace):
    body = f"mkdir {tmp_path}/lock 2>/dev/null && {{ {double_fork('pid')} exit; }}\n{double_fork('second')} sleep 600"
    made = hooks_plugin(make_hooks(tmp_path, _1=body))
    assert (await handled(made)).exit_code == 0
    left = await pid_in(tmp_path / "pid")
    ended = start(made)
    pid = await pid_in(tmp_path / "second")
    ended.cancel()
    await asyncio.wait({ended})
    await until(lambda: not alive(pid))
    assert alive(left)
    await made.remaphore_shutdown("stopped")
    await until(lambda: not alive(left))


async def test_stop_ends_handlers_of_several_messages_at_once(tmp_path, brief_grace):
    body = f"trap '' TERM; echo $$ >{tmp_path}/pid-$2; while :; do sleep 600; done"
    made = hooks_plugin(make_hooks(tmp_path, _1=body))
    tasks = [start(made, payload=b"%d" % number) for number in range(3)]
    pids = [await pid_in(tmp_path / f"pid-{number}") for number in range(3)]
    await made.remaphore_shutdown("stopped")
    assert [(await task).exit_code for task in tasks] == [143, 143, 143]
    assert not any(map(alive, pids))


def test_hostile_replies_fit_into_the_daemon_s_stop():
    """The daemon gives its plugins five seconds: what runs has its grace, and after it what was left behind."""
    assert 2 * process.GRACE_SECONDS < 5
    assert signal.SIGTERM + 128 == handlers.STOPPED
