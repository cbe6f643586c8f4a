"""What the tests of `exec-script` share: real scripts, waiting for conditions, processes seen from outside."""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

from remaphore import Message
from remaphore_plugins.exec_script.process import Finished, run

ENV = {"PATH": b"/usr/local/bin:/usr/bin:/bin"}
CAP = 65_536


def write_script(path: Path, body: str, *, first: str = "#!/bin/sh\n") -> str:
    path.write_text(first + body)
    path.chmod(0o755)
    return str(path)


async def run_sh(body: str, *words: str, timeout: float | None = 30, cap: int = CAP, **options) -> Finished:
    """Run the text of a shell script; *words* are its $1, $2 and so on."""
    argv = [os.fsencode(word) for word in ("sh", "-c", body, "sh", *words)]
    return await run(argv, env=ENV, timeout=timeout, cap=cap, **options)


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Return as soon as *condition* holds; fail if it does not in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        assert loop.time() < deadline, "the condition never held"
        await asyncio.sleep(0.005)


async def pid_in(file: Path) -> int:
    """Return the pid that a script writes to *file*, once it has."""
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


def children() -> set[int]:
    """Return the pids of our own children, zombies too."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.add(int(stat.parent.name))
    return found


def held() -> tuple[int, set[int], int]:
    """Return what a run must give back: descriptors, children and threads."""
    return len(list(Path("/proc/self/fd").iterdir())), children(), threading.active_count()


def message(**values) -> Message:
    defaults = {
        "sender": "3v96Sender",
        "destination": "**",
        "verb": "deploy",
        "uuid": b"\x01\xab",
        "time_ns": 1_700_000_000_999_999_999,
    }
    return Message(**(defaults | values))
