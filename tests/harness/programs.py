"""What the tests of `script`, `hooks_d` and `processes` share: real scripts, conditions, processes seen from outside.

The fixtures at the end are those of the whole folder tests/plugins.
"""

import asyncio
import contextlib
import os
import signal
import threading
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from remaphore import Message, Reply, VerbSettings
from remaphore.proc import set_subreaper
from remaphore_plugins.hooks_d import HooksD
from remaphore_plugins.processes import tree
from remaphore_plugins.processes.run import RunResult, run
from tests.harness.nodes import make_config
from tests.harness.processes import own_children
from tests.harness.waiting import until

MARK = b"TEST_RUN=%b" % uuid.uuid4().hex.encode()  # in the environment of all that the tests start, to find it
ENV = {"PATH": b"/usr/local/bin:/usr/bin:/bin", "TEST_RUN": MARK.partition(b"=")[2]}
CAP = 65_536


def write_script(path: Path, body: str, *, first: str = "#!/bin/sh\n") -> str:
    path.write_text(first + body)
    path.chmod(0o755)
    return str(path)


async def run_sh(body: str, *words: str, timeout: float | None = 30, cap: int = CAP, **options) -> RunResult:
    """Run the text of a shell script; *words* are its $1, $2 and so on."""
    argv = [os.fsencode(word) for word in ("sh", "-c", body, "sh", *words)]
    return await run(argv, env=ENV, timeout=timeout, cap=cap, **options)


async def pid_in(file: Path) -> int:
    """Return the pid that a script writes to *file*, as soon as it is there."""
    await until(lambda: _text(file).endswith("\n"))
    return int(_text(file))


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] not in {b"Z", b"X"}


def marked() -> set[int]:
    """Return the pids of all living processes that were started with `ENV`, whatever their parent is now."""
    found = set()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # gone meanwhile, or not readable
            if MARK in environment.read_bytes().split(b"\0"):
                found.add(int(environment.parent.name))
    return found


def held() -> tuple[int, set[int], int]:
    """Return what a run must release: descriptors, children and threads."""
    return len(list(Path("/proc/self/fd").iterdir())), own_children(), threading.active_count()


def message(**values) -> Message:
    defaults = {
        "sender": "3v96Sender",
        "destination": "**",
        "verb": "deploy",
        "uuid": b"\x01\xab",
        "time_ns": 1_700_000_000_999_999_999,
    }
    return Message(**(defaults | values))


def make_hooks(folder: Path, **handlers: str) -> Path:
    """Make a hooks directory whose verb `deploy` has *handlers*, each the text of a script; `_` stands for `-`."""
    verb = folder / "hooks.d" / "deploy"
    verb.mkdir(parents=True, exist_ok=True)
    for each in (verb.parent, verb):
        each.chmod(0o755)
    for name, body in handlers.items():
        write_script(verb / name.strip("_").replace("_", "-"), body)
    return verb.parent


def hooks_plugin(*hooks: Path, **settings) -> HooksD:
    """Return the plugin for the directories *hooks*; *settings* are those of the verb `deploy`."""
    made = HooksD()
    verbs = {"deploy": VerbSettings(**settings)} if settings else {}
    made.remaphore_configure(replace(make_config(2), hooks=hooks, verbs=verbs), {})
    return made


async def handled(made: HooksD, **values) -> Reply | None:
    """Return the reply of *made* to the message of these *values*."""
    running = made.remaphore_message(message(**values))
    return None if running is None else await running


def start(made: HooksD, **values) -> asyncio.Task[Reply | None]:
    """Start the handlers of *made* for the message of these *values*, in a task."""
    return asyncio.get_running_loop().create_task(handled(made, **values))


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def memory(name: str) -> int:
    """Return our own resident memory in kB, now (VmRSS) or at its highest (VmHWM)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


@pytest.fixture(autouse=True)
def no_survivor(tmp_path):
    """Kill what survived a failing test: all with its mark, and the process whose pid is in its file `pid`."""
    yield
    file = tmp_path / "pid"
    named = {int(file.read_text())} if file.is_file() and file.read_text().endswith("\n") else set()
    for pid in marked() | {pid for pid in named if alive(pid)}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(autouse=True)
def no_subreaper():
    """Leave orphans to init again: the test process outlives the plugin that adopts them."""
    yield
    set_subreaper(False)


@pytest.fixture
def brief_grace(monkeypatch):
    """Shorten the time between TERM and KILL, for programs that ignore TERM."""
    monkeypatch.setattr(tree, "GRACE_SECONDS", 0.1)


@pytest.fixture
async def put_forward(monkeypatch):
    """Return a function that sets the event loop's clock forward, so that a timer expires without a wait."""
    loop, offset = asyncio.get_running_loop(), [0.0]
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + offset[0])

    def move(seconds: float) -> None:
        offset[0] += seconds

    return move
