"""Signals and the service manager before, while and after there is a broker; and a machine without threads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.conftest import MakeSite
from tests.faults.fault_site import FaultSite, said
from tests.faults.test_broker_away import manager
from tests.harness.nats_server import NatsServer
from tests.harness.processes import Process, children
from tests.harness.waiting import until

# The installed command after FIRST, which stands for what its caller or this machine has done.
LAUNCH = "import os, signal, socket, threading, time\n{first}\nfrom remaphore.cli.main import command\ncommand()"
# As agents in a JVM or in .NET leave it to what they start.
ALL_BLOCKED = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})
"""
# A resolver that does not answer for an hour.
NO_RESOLVER = "socket.getaddrinfo = lambda *_arguments, **_options: time.sleep(3600)"
# A signal arrives while the configuration is read, before there is an event loop.
EARLY = """
import remaphore.cli.configuration as module
load = module.load_daemon_config
def early(*arguments, **options):
    config = load(*arguments, **options)
    {signals}
    return config
module.load_daemon_config = early
"""
NO_THREADS = """
def refused(*_arguments):
    raise RuntimeError("can't start new thread")
threading._start_new_thread = refused
"""


@contextmanager
def run(site: FaultSite, *words: object, first: str = "", **options: object) -> Iterator[Process]:
    """Run a command to the end of the block, at the latest."""
    process = Process(words, command=(sys.executable, "-c", LAUNCH.format(first=first)), **options)
    site.processes.append(process)
    try:
        yield process
    finally:
        process.end()


@contextmanager
def silent() -> Iterator[socket.socket]:
    """The socket of a broker that accepts connections, and says nothing on them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def address(broker: socket.socket) -> str:
    return f"nats://127.0.0.1:{broker.getsockname()[1]}"


@contextmanager
def refusing() -> Iterator[socket.socket]:
    """A socket that keeps the address of a broker that is not running."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound


WAITING = "READY=1\nSTATUS=waiting for the broker"


@pytest.mark.parametrize(
    ("state", "number", "first"),
    [
        ("away", signal.SIGTERM, ALL_BLOCKED),
        pytest.param("silent", signal.SIGINT, "", marks=pytest.mark.long),
        pytest.param("lookup", signal.SIGTERM, NO_RESOLVER, marks=pytest.mark.long),
    ],
)
async def test_a_daemon_without_its_broker_has_started_and_reloads_and_stops(
    state: str, number: signal.Signals, first: str, sites: MakeSite
) -> None:
    with silent() as mute, refusing() as away:
        site = sites({"away": address(away), "silent": address(mute), "lookup": "nats://broker.example.com"}[state])
        config = site.config()
        env = {**os.environ, "NOTIFY_SOCKET": str(site.folder / "notify"), "WATCHDOG_USEC": "200000"}
        with manager(site.folder) as notifications, run(site, "run", "-c", config, first=first, env=env) as daemon:
            await until(lambda: notifications)
            assert notifications[0] == WAITING
            await until(lambda: notifications.count("WATCHDOG=1") > 1)
            config.write_text(config.read_text().replace("[[peers]]", "[[peers]]\nsubject = 1", 1))
            assert await reloaded(daemon, notifications) == f"{WAITING}; the reload failed, see the log"
            await said(daemon, "reload_rejected")
            site.config()
            assert await reloaded(daemon, notifications) == WAITING
            await said(daemon, "reloaded peers=1")
            daemon.popen.send_signal(number)
            code, _ = await asyncio.to_thread(daemon.finish)
            assert (code, notifications[-1]) == (0, "STOPPING=1")
            daemon.wait_for("stopped received=0 handled=0")


async def reloaded(daemon: Process, notifications: list[str]) -> str:
    """Let *daemon* reload; return what it notifies at the end of that."""
    before = len(notifications)
    daemon.popen.send_signal(signal.SIGHUP)
    await until(lambda: any(text.startswith("READY=1") for text in notifications[before:]))
    states = [text for text in notifications[before:] if text != "WATCHDOG=1" and not text.startswith("STATUS=")]
    assert [text.partition("=")[0] for text in states] == ["RELOADING", "READY"]
    return states[-1]


@pytest.mark.parametrize("signals", ["HUP", pytest.param("TERM", marks=pytest.mark.long)])
async def test_a_signal_before_there_is_an_event_loop_is_not_lost(signals: str, sites: MakeSite) -> None:
    first = EARLY.format(signals=f"os.kill(os.getpid(), signal.SIG{signals})")
    site = sites("nats://127.0.0.1:1")  # where no broker can be
    with run(site, "run", "-c", site.config(), first=first) as daemon:
        if signals == "HUP":
            await said(daemon, "reloaded peers=1")
            daemon.popen.terminate()
        assert (await asyncio.to_thread(daemon.finish))[0] == 0


async def test_a_check_that_a_signal_ends_is_no_success(sites: MakeSite) -> None:
    site = sites("nats://127.0.0.1:1")
    first = EARLY.format(signals="os.kill(os.getpid(), signal.SIGTERM)")
    with run(site, "run", "--check", "-c", site.config(), first=first) as check:
        assert (await asyncio.to_thread(check.finish))[0] == 143


OTHERS = ("receive", "request", "send", "ping", "doctor", "broker", "demo")


@pytest.mark.parametrize("word", ["run", *(pytest.param(word, marks=pytest.mark.long) for word in OTHERS)])
async def test_a_command_that_is_the_first_process_of_a_container_ends_at_term(word: str, sites: MakeSite) -> None:
    namespace = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--pid", "--fork"]
    if not works(*namespace, "true"):
        pytest.skip("this machine makes no PID namespaces")
    with silent() as broker:
        site = sites(address(broker))
        options = {"broker": ["--data", site.folder / "broker", "--port", "0"], "demo": []}.get(
            word, ["-c", site.config()]
        )
        command = (*namespace, "--kill-child", sys.executable, "-m", "remaphore")
        process = Process([word, *options], command=command)
        site.processes.append(process)
        (pid,) = await first_child(process)
        # The kernel ignores what PID 1 has no handler for.
        await until(lambda: caught(pid) & 1 << signal.SIGTERM - 1)
        with contextlib.ExitStack() as stack:
            if word not in ("broker", "demo"):  # the others wait for what the broker says first
                stack.enter_context((await asyncio.get_running_loop().sock_accept(broker))[0])
            os.kill(pid, signal.SIGTERM)
            code, _ = await asyncio.to_thread(process.finish)
        assert code == (0 if word in ("run", "broker") else 143)
        assert any("stopped" in line for line in process.lines) == (word == "run")
        assert "Traceback" not in "\n".join(process.lines)


def works(*command: str) -> bool:
    """Return whether this machine permits a command."""
    return shutil.which(command[0]) is not None and subprocess.run(command, check=False).returncode == 0


async def first_child(process: Process) -> list[int]:
    """Return the pid of the child of *process*, once it has one."""
    await until(lambda: children(process.popen.pid))
    return children(process.popen.pid)


def caught(pid: int) -> int:
    """Return the mask of the signals for which a process has handlers."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0], 16)


@pytest.mark.parametrize("words", ["run", "run --check"])
async def test_without_threads_run_refuses_with_the_limit_to_raise(words: str, sites: MakeSite) -> None:
    site = sites("nats://127.0.0.1:1")
    with run(site, *words.split(), "-c", site.config(), first=NO_THREADS) as daemon:
        await until(lambda: daemon.popen.poll() is not None)
        assert (await asyncio.to_thread(daemon.finish))[0] == 3
        error, hint = daemon.lines
        assert error == "remaphore: error: cannot start a thread: can't start new thread"
        assert hint.startswith("remaphore: hint: raise the limit that is reached: TasksMax")


async def test_without_threads_the_other_commands_work_or_say_why(server: NatsServer, sites: MakeSite) -> None:
    site = sites(server.url)
    config = site.config()
    expected = {"send": 0, "receive --timeout 10ms": 1, "check": 1}
    async with asyncio.TaskGroup() as group:
        for words, code in expected.items():
            group.create_task(ends_with(code, site, words, config))


async def test_without_descriptors_commands_say_which_limit_to_raise(server: NatsServer, sites: MakeSite) -> None:
    """Two free ones are enough to read files, and not for an event loop."""
    site = sites(server.url)
    first = "import resource; at = os.dup(0); resource.setrlimit(resource.RLIMIT_NOFILE, (at + 2,) * 2); os.close(at)"
    for words in ("send", "receive --timeout 10ms", "ping --count 1"):
        with run(site, *words.split(), "-c", site.config(), first=first) as process:
            code, _ = await asyncio.to_thread(process.finish)
        assert (code, process.lines) == (
            3, ["remaphore: error: too many open files", "remaphore: hint: raise LimitNOFILE of the unit, or ulimit -n"]
        ), words  # fmt: skip


async def ends_with(code: int, site: FaultSite, words: str, config: Path) -> None:
    """Fail unless a command without threads ends with *code* and no traceback, and only `check` names the limit."""
    with run(site, *words.split(), "-c", config, first=NO_THREADS) as process:
        result, out = await asyncio.to_thread(process.finish)
    shown = "\n".join([out, *process.lines])
    assert (words, result) == (words, code), shown
    assert "Traceback" not in shown
    assert ("threads: cannot start a thread" in shown) == (words == "check")
