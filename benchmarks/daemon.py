"""`remaphore run`, the real command, in a process of its own, with its log in a file and its metrics served."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

COMMAND = str(Path(sys.executable).parent / "remaphore")
SECONDS = 60.0  # for anything to happen; nothing takes that long unless it is broken
METRICS = '[plugins]\nenable = ["metrics"]\n[plugins.metrics]\nlisten = "127.0.0.1:0"\n'

ENDS = ("dropped", "rejected", "handled")
KINDS = ("received", *ENDS)

_COUNT = re.compile(r"^remaphore_messages_(\w+)_total(?:\{.*\})? (\S+)$", re.MULTILINE)
_SERVED = re.compile(r"metrics are served on (\S+)")


class Daemon:
    """A daemon that runs: its process, its log, its numbers."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.pid = process.pid
        self.log = log
        self._process = process
        self._url = ""

    def ready(self) -> None:
        """Return once it says that it receives."""
        wait_until(self._is_ready, f"the daemon is not ready, see {self.log}", pause=0.005)
        served = _SERVED.search(self.log.read_text())
        self._url = served[1] if served else ""

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"the daemon ended: {self.log.read_text()[-500:]}")
        return " ready" in self.log.read_text().lower()

    def counts(self) -> dict[str, float]:
        """Return what became of the messages so far, as a scrape of the metrics tells now."""
        samples = _COUNT.findall(wait_until(self._scrape, f"no metrics from {self._url}"))
        return {kind: sum(float(value) for name, value in samples if name == kind) for kind in KINDS}

    def _scrape(self) -> str:
        # A daemon whose event loop is busy for a second lets a scrape fail.
        with suppress(OSError), urllib.request.urlopen(self._url, timeout=SECONDS) as answer:
            return str(answer.read(), "ascii")
        return ""

    def counts_since(self, already: dict[str, float], number: int) -> dict[str, float]:
        """Return the counts beyond *already* once *number* messages are done with, and nothing before."""
        more = {kind: value - already[kind] for kind, value in self.counts().items()}
        return more if sum(more[kind] for kind in ENDS) == number else {}

    def cpu_seconds(self) -> float:
        """Return the CPU time that it and its verifying processes have used, all threads."""
        return sum(map(cpu_seconds, family(self.pid)))

    def resident_mib(self) -> float:
        """Return the memory that it holds now (VmRSS)."""
        return resident_mib(self.pid)

    def proportional_mib(self) -> float:
        """Return its share of the memory that it uses (PSS): a page that n processes use counts as 1/n."""
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
        return int(found[1]) / 1024 if found else 0.0


def family(pid: int) -> list[int]:
    """Return *pid* and its children: without handlers, a daemon and its verifying processes."""
    children: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            children += map(int, path.read_text().split())
    return [pid, *children]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used so far, all threads."""
    used = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread or process that has ended meanwhile
            used += int(path.read_text().split()[0])
    return used / 1e9


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


@contextmanager
def running(
    config: Path, *, hooks: Path, one_core: bool = False, command: Sequence[str] = (COMMAND,)
) -> Iterator[Daemon]:
    """Start a daemon with *config*; with *one_core*, on the first core only. It is asked to stop at the end."""
    # A ledger of its own: what earlier daemons took would fill its memory.
    instance = f"{config.stem}-{time.monotonic_ns()}"
    pinned = ("taskset", "-c", "0") if one_core else ()
    words = [*pinned, *command, "run", "-c", str(config), "--hooks", str(hooks), "--instance", instance]
    with _running(words, config.with_name(f"{instance}.log")) as daemon:
        yield daemon


@contextmanager
def receiving(config: Path) -> Iterator[Daemon]:
    """Start `remaphore receive` without a script. It is asked to stop at the end."""
    log = config.with_name(f"receive-{time.monotonic_ns()}.log")
    with _running([COMMAND, "receive", "-c", str(config)], log) as receiver:
        yield receiver


@contextmanager
def _running(words: Sequence[str], log: Path) -> Iterator[Daemon]:
    with log.open("wb") as stderr, subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=stderr) as process:
        try:
            daemon = Daemon(process, log)
            daemon.ready()
            yield daemon
        finally:
            process.send_signal(signal.SIGTERM)


def wait_until(happened: Callable[[], T], problem: str, *, pause: float = 0.05) -> T:
    """Return what *happened* returns, once that is true; TimeoutError with *problem* after SECONDS."""
    deadline = time.monotonic() + SECONDS
    while not (result := happened()):
        if time.monotonic() > deadline:
            raise TimeoutError(problem)
        time.sleep(pause)
    return result
