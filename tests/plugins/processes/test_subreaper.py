"""Orphans of handlers: which may keep running, and until when. Driven through the plugin that has a subreaper."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from remaphore_plugins.processes import subreaper
from tests.harness.processes import children, own_children
from tests.harness.programs import alive, handled, hooks_plugin, make_hooks, pid_in, start
from tests.harness.waiting import until

HOUR = 3600.0
ROOT = Path(__file__).parents[3]

# A daemon: it leaves its session and its parents, writes its pid to the file $1 and ignores TERM.
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
    """Return a function that makes the command to start a daemon, which writes its pid to the named file."""
    (tmp_path / "daemon.py").write_text(DAEMON)
    return lambda name: f"{sys.executable} -I {tmp_path}/daemon.py {tmp_path}/{name} </dev/null >/dev/null 2>&1\n"


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(subreaper, "SWEEP_SECONDS", 0.01)


BACKGROUND = {
    "child in the session": "sleep 600 >/dev/null 2>&1 & echo $! >{pid}",
    "child in a session of its own": "setsid sh -c 'echo $$ >{pid}; exec sleep 600' >/dev/null 2>&1 &",
    "without an environment": "env -i setsid sh -c 'echo $$ >{pid}; exec sleep 600' >/dev/null 2>&1 &",
    "that ignores TERM": "(trap '' TERM; setsid sh -c 'echo $$ >{pid}; while :; do sleep 600; done' >/dev/null 2>&1 &)",
}


@pytest.mark.parametrize("case", [*BACKGROUND, "daemon"])
async def test_orphan_of_a_handler_that_ended_by_itself_lives_until_shutdown(case, tmp_path, double_fork, brief_grace):
    body = double_fork("pid") if case == "daemon" else BACKGROUND[case].format(pid=tmp_path / "pid")
    before = own_children()
    made = hooks_plugin(make_hooks(tmp_path, _1=body, _2="exit 3"))
    assert (await handled(made)).exit_code == 3
    pid = await pid_in(tmp_path / "pid")
    assert alive(pid)
    await made.remaphore_shutdown("stopped")
    assert not alive(pid)
    assert own_children() == before


async def test_daemon_that_a_handler_started_dies_with_it_at_the_timeout(
    tmp_path, double_fork, put_forward, brief_grace, often
):
    before = own_children()
    made = hooks_plugin(make_hooks(tmp_path, _1=double_fork("pid") + "sleep 600"), timeout_seconds=HOUR)
    task = start(made)
    pid = await pid_in(tmp_path / "pid")
    put_forward(HOUR)
    assert (await task).exit_code == 124
    await until(lambda: not alive(pid))
    await until(lambda: own_children() == before)


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


async def test_zombies_are_reaped(tmp_path, often):
    before = own_children()
    body = "for i in 1 2 3 4 5; do setsid true >/dev/null 2>&1 & done; (sleep 0 & sleep 0 &)"
    made = hooks_plugin(make_hooks(tmp_path, _1=body))
    for _ in range(5):
        assert (await handled(made)).exit_code == 0
    await until(lambda: own_children() == before)


async def test_children_of_other_plugins_are_neither_reaped_nor_ended(tmp_path, often):
    """Another plugin may start programs too; ours must not reap them."""
    code = f"import os; open('{tmp_path}/other', 'w').write('%d\\n' % os.getpid()); os.read(0, 1); raise SystemExit(7)"
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdin=asyncio.subprocess.PIPE)
    await pid_in(tmp_path / "other")
    made = hooks_plugin(make_hooks(tmp_path, _1="exit 0"))
    await handled(made)
    await made.remaphore_shutdown("stopped")
    other.stdin.close()
    assert await other.wait() == 7


async def test_cancelled_message_ends_its_handler_and_its_daemon(tmp_path, double_fork, brief_grace):
    made = hooks_plugin(make_hooks(tmp_path, _1=double_fork("pid") + "sleep 600"))
    task = start(made)
    pid = await pid_in(tmp_path / "pid")
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    await until(lambda: not alive(pid))


async def test_handler_of_an_identical_message_is_not_an_orphan(tmp_path, brief_grace):
    """It has the same message, its own session, and us as its parent."""
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


async def test_running_program_is_an_orphan_for_no_subreaper_of_this_process(tmp_path):
    """A sweep would reap it at its end, and a shutdown of another plugin would end it."""
    made = hooks_plugin(make_hooks(tmp_path, _1=f"echo $$ >{tmp_path}/pid; exec sleep 600"))
    task = start(made)
    pid = await pid_in(tmp_path / "pid")
    assert pid not in {orphan.pid for orphan in subreaper.Subreaper()._living()}
    task.cancel()
    await asyncio.wait({task})
    assert pid not in subreaper.leaders


async def test_orphans_of_identical_messages_are_distinguished(tmp_path, double_fork, brief_grace):
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


def make_zombie() -> int:
    """Start a program in its own session; return its pid once it has exited."""
    child = os.posix_spawn("/bin/true", ["true"], {}, setsid=True)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    return child


@pytest.mark.parametrize("handler", [False, True])
async def test_zombie_is_reaped_after_five_seconds_and_one_of_a_handler_never(handler, put_forward):
    """Until then, another plugin can reap its child itself; `run` reaps a handler."""
    reaper, child = subreaper.Subreaper(), make_zombie()
    if handler:
        subreaper.leaders.add(child)
    reaper._sweep()
    put_forward(subreaper.SWEEP_SECONDS / 2)
    reaper._sweep()
    assert child in own_children()
    put_forward(subreaper.SWEEP_SECONDS / 2)
    reaper._sweep()
    assert (child in own_children()) == handler
    reaper._timer.cancel()
    if handler:
        subreaper.leaders.discard(child)
        reap(child)


def reap(child: int) -> None:
    assert os.waitpid(child, 0) == (child, 0)


# As PID 1 of a new pid namespace: a process of another origin is put into it, as by `docker exec`, and leaves an orphan
# in no session of ours. No handler ever runs. `mine` is a child that code of the daemon waits for, but not soon.
PID_1 = """
import asyncio, os, subprocess, sys
from remaphore_plugins.processes import subreaper
from remaphore_plugins.script import Script
from tests.harness.processes import own_children
from tests.harness.programs import hooks_plugin
from tests.harness.waiting import until
from pathlib import Path

subreaper.SWEEP_SECONDS = 0.2
subreaper._SOON_SECONDS = 0.05
if sys.argv[1] == "hooks-d":
    made = hooks_plugin()
else:
    made = Script()
    made.remaphore_configure({"argv": ("true",)})

async def main():
    assert os.getpid() == 1
    mine = subprocess.Popen(["sh", "-c", "exit 7"])
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await until(lambda: own_children() <= {mine.pid})
    print(mine.wait())

asyncio.run(main())
"""


@pytest.mark.parametrize("plugin", ["hooks-d", "script"])
def test_as_pid_1_orphans_of_others_are_reaped_before_any_handler_has_run(plugin):
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", PID_1, plugin]
    pipe = subprocess.PIPE
    if subprocess.run([*command[:5], "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine permits no pid namespace")
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as daemon:
        assert daemon.stdout.readline() == "ready\n", daemon.stderr.read()
        [pid] = children(daemon.pid)
        orphan = "(true & true & setsid true &)"
        entered = subprocess.run(["nsenter", "-t", str(pid), "-p", "-m", "sh", "-c", orphan], check=False)
        out, errors = daemon.communicate("\n", timeout=60)
    assert entered.returncode == 0
    assert (out, errors) == ("7\n", "")


# Where /proc is that of another pid namespace. There, a process with the pid *ours* has a child with the pid *theirs*.
# Here, these are a process with a subreaper, and one that is none of its children, and writes which signals it gets.
OTHER_PROC = """
import asyncio, os, signal, sys, time
from pathlib import Path
from remaphore import proc
from remaphore_plugins.processes.subreaper import Subreaper

ours, theirs, signals = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])

def fork(then, pid=0):
    if pid:
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
    if child := os.fork():
        return child
    try:
        then()
    finally:
        os._exit(0)

def bystander():
    os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: signals.write_text("TERM"))
    signals.write_text(str(os.getpid()))
    time.sleep(600)

def between():
    fork(bystander, theirs)
    time.sleep(600)

def daemon():
    fork(between)
    while not (signals.exists() and signals.read_text()):
        time.sleep(0.01)
    asyncio.run(Subreaper().end(0.1))
    print(os.getpid(), signals.read_text(), [*proc.children(ours)], [*proc.process_tree(ours, ())], flush=True)

os.waitpid(fork(daemon, ours), 0)
"""


def test_where_proc_is_that_of_another_pid_namespace_no_process_of_another_number_is_signalled(tmp_path):
    namespace = ["unshare", "--pid", "--fork", "--kill-child"]
    last_pid = Path("/proc/sys/kernel/ns_last_pid")
    if (
        os.geteuid() != 0
        or not os.access(last_pid, os.W_OK)
        or subprocess.run([*namespace, "true"], check=False).returncode
    ):
        pytest.skip("this user may not make a pid namespace, or choose pids in it")
    sleeper = ["sleep", "600"]
    with subprocess.Popen(sleeper, start_new_session=True) as theirs:
        try:
            words = [sys.executable, "-c", OTHER_PROC, str(os.getpid()), str(theirs.pid), str(tmp_path / "signals")]
            done = subprocess.run(
                [*namespace, *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
            )
        finally:
            theirs.kill()
    assert (done.stdout, done.stderr) == (f"{os.getpid()} {theirs.pid} [] []\n", "")


# A subreaper keeps that attribute over exec(2), so it adopts before it was ever asked to.
INHERITED = """
import os, sys
from remaphore.proc import set_subreaper
if sys.argv[1] == "first":
    set_subreaper(True)
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[2], "second"])
import asyncio, subprocess
from remaphore_plugins.processes import subreaper
from tests.harness.processes import own_children
from tests.harness.waiting import until
subreaper.SWEEP_SECONDS = subreaper._SOON_SECONDS = 0.05
subreaper.Subreaper().watch()

async def main():
    subprocess.run(["sh", "-c", "setsid sh -c 'sleep 0.1 & sleep 0.1 &'"], check=True)
    await until(lambda: own_children())
    await until(lambda: not own_children())

asyncio.run(main())
"""


def test_attribute_of_a_subreaper_that_was_inherited_is_noticed():
    done = subprocess.run(
        [sys.executable, "-c", INHERITED, "first", INHERITED], cwd=ROOT, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
