"""Hostile handlers: each has a defined reply, and none leaves a process, a zombie or a descriptor behind."""

import asyncio
import signal
from pathlib import Path

import pytest

from remaphore import Reply
from remaphore.tasks import spawn
from remaphore_plugins.hooks_d import handlers
from remaphore_plugins.processes import tree
from tests.harness.processes import own_children
from tests.harness.programs import (
    alive,
    handled,
    held,
    hooks_plugin,
    make_hooks,
    memory,
    message,
    pid_in,
    reset_peak,
    start,
    write_script,
)

HOUR = 3600.0


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
async def test_hostile_handler_has_a_defined_reply(case, tmp_path):
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


def replace_file(handler: Path) -> None:
    write_script(handler.with_name("new"), f"touch {handler.parents[2]}/made")
    handler.with_name("new").replace(handler)


BETWEEN = {
    "replaced": (replace_file, b"changed after it was checked"),
    "gone": (lambda handler: handler.unlink(), b"No such file or directory"),
    "its directory gone": (lambda handler: handler.parent.rename(handler.parent.with_name("x")), b"No such file"),
    "writable": (lambda handler: handler.chmod(0o777), b"changed after it was checked"),
    "its text": (lambda handler: handler.write_text("#!/bin/sh\n"), b"changed after it was checked"),
    "a link": (lambda handler: (handler.unlink(), handler.symlink_to("/bin/true")), b"changed after it was checked"),
}


@pytest.mark.parametrize("case", BETWEEN)
async def test_change_between_check_and_run_is_126_and_nothing_of_it_runs(case, tmp_path, monkeypatch):
    change, reason = BETWEEN[case]
    hooks = make_hooks(tmp_path, _1=f"touch {tmp_path}/made", _2=f"touch {tmp_path}/made")
    prepare = handlers.prepare

    def prepare_and_change(*words, **options):
        plan = prepare(*words, **options)
        change(hooks / "deploy" / "1")
        return plan

    made = hooks_plugin(hooks)
    monkeypatch.setattr(handlers, "prepare", prepare_and_change)
    reply = await handled(made)
    assert reply.exit_code == 126
    assert reply.output.startswith(b"remaphore: 1: not started because it is unsafe: ")
    assert reason in reply.output
    assert not (tmp_path / "made").exists()


async def test_what_becomes_unsafe_before_the_run_begins_is_rejected_and_what_becomes_safe_runs(tmp_path):
    hooks = make_hooks(tmp_path, _1="echo ran")
    made = hooks_plugin(hooks)
    running = made.remaphore_message(message())
    (hooks / "deploy").chmod(0o777)
    reply = await running
    assert reply.output.startswith(b"remaphore: refused: unsafe: ")
    running = made.remaphore_message(message())
    (hooks / "deploy").chmod(0o755)
    assert await running == Reply(0, b"ran\n")
    running = made.remaphore_message(message())
    (hooks / "deploy").rename(hooks / "other")
    assert await running is None


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
    assert b"not started because it is unsafe" in reply.output
    assert not made_file.exists()


async def test_handler_may_replace_itself_while_it_runs(tmp_path):
    body = f'printf "#!/bin/sh\\necho new\\n" >{tmp_path}/n; chmod 755 {tmp_path}/n; mv {tmp_path}/n "$0"; echo old'
    made = hooks_plugin(make_hooks(tmp_path, _1=body))
    assert await handled(made) == Reply(0, b"old\n")
    assert await handled(made) == Reply(0, b"new\n")


async def test_fork_bomb_of_a_handler_ends_at_the_timeout(tmp_path, put_forward, brief_grace):
    body = f"echo $$ >{tmp_path}/pid; for i in 1 2 3 4 5; do (while :; do (sleep 0.01) & wait; done) & done; wait"
    before = own_children()
    made = hooks_plugin(make_hooks(tmp_path, _1=body), timeout_seconds=HOUR)
    task = start(made)
    await pid_in(tmp_path / "pid")
    put_forward(HOUR)
    assert (await task).exit_code == 124
    await made.remaphore_shutdown("stopped")
    assert own_children() == before


async def test_a_message_that_is_cancelled_before_its_turn_starts_nothing(tmp_path):
    made = hooks_plugin(make_hooks(tmp_path, _1=f"touch {tmp_path}/made"))
    task = spawn(made.remaphore_message(message()), name="cancelled")
    task.cancel()
    await asyncio.wait({task})
    await made.remaphore_shutdown("stopped")
    assert not (tmp_path / "made").exists()


async def test_stop_ends_handlers_of_several_messages_at_once(tmp_path, brief_grace):
    body = f"trap '' TERM; echo $$ >{tmp_path}/pid-$2; while :; do sleep 600; done"
    made = hooks_plugin(make_hooks(tmp_path, _1=body))
    tasks = [start(made, payload=b"%d" % number) for number in range(3)]
    pids = [await pid_in(tmp_path / f"pid-{number}") for number in range(3)]
    await made.remaphore_shutdown("stopped")
    assert [(await task).exit_code for task in tasks] == [143, 143, 143]
    assert not any(map(alive, pids))


def test_two_graces_fit_into_the_shutdown_of_the_daemon():
    """The daemon gives its plugins five seconds: for the grace of what runs, and then for that of orphans."""
    assert 2 * tree.GRACE_SECONDS < 5
    assert signal.SIGTERM + 128 == handlers.STOPPED
