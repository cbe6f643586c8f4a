"""Commands in processes of their own, and the figures that /proc has about a process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

SECONDS = 30  # for anything to happen; nothing waits that long unless it is broken
MIB = 1024 * 1024


class Process:
    """A running command whose stderr is read line by line."""

    def __init__(self, words, *, command=(sys.executable, "-m", "remaphore"), **options):
        command = [*command, *map(str, words)]
        self.popen = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.popen.stderr:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait_for(self, text):
        """Wait until a line of stderr contains *text*, and return that line."""
        with self._news:
            found = self._news.wait_for(lambda: self._ended or any(text in line for line in self.lines), SECONDS)
        shown = "\n".join(self.lines)
        assert found, f"no {text!r} within {SECONDS} s:\n{shown}"
        matching = [line for line in self.lines if text in line]
        assert matching, f"ended without {text!r}:\n{shown}"
        return matching[0]

    def events(self, *names):
        """Return the events of its JSON log, or those with one of these names."""
        found = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [event for event in found if not names or event["event"] in names]

    def finish(self):
        """Wait for the end; return exit code and stdout. After twice SECONDS it is killed, and the exit code is -9."""
        limit = threading.Timer(2 * SECONDS, self.popen.kill)
        limit.start()
        try:
            with self.popen.stdout:
                out = self.popen.stdout.read()
            code = self.popen.wait()
        finally:
            limit.cancel()
        self._reader.join(SECONDS)
        return code, out

    def stop(self, number=signal.SIGTERM):
        """Send a signal, and wait for the end."""
        self.popen.send_signal(number)
        return self.finish()

    def end(self):
        """Stop it if it still runs, by SIGTERM first: a broker and a receiver then stop what they have started."""
        if self.popen.poll() is None:
            self.popen.terminate()
        try:
            self.popen.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        self._reader.join(SECONDS)
        for stream in (self.popen.stdout, self.popen.stderr):
            stream.close()


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    return _memory(pid, "VmRSS:")


def peak_mib(pid: int) -> float:
    """Return the largest resident memory that a process ever had."""
    return _memory(pid, "VmHWM:")


def _memory(pid: int, name: str) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().partition(name)[2].split()[0]) / 1024


def descriptors(pid: int) -> int:
    """Return how many file descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int) -> int:
    """Return how many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def children(pid: int) -> list[int]:
    """Return the pids of the children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def child_states(pid: int) -> list[str]:
    """Return the state of each child of a process: Z is a zombie."""
    states = []
    for child in children(pid):
        try:
            states.append(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0])
        except FileNotFoundError:  # reaped meanwhile
            continue
    return states


def own_children() -> set[int]:
    """Return the pids of our own children, including zombies."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_bytes().rpartition(b")")[2].split()[1]) == os.getpid():
                found.add(int(stat.parent.name))
    return found
