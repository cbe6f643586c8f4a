"""Terminals in which the commands of a page are typed: a shell each, with a home and an /etc/remaphore of its own.

The files of /etc, /usr/share and /var/lib of a real machine are in the terminal's folder here, sockets in one with a
short path, and a free port replaces the broker's usual one. `NAME.example.com:4222` is a port of localhost for the
machine NAME, and 0.0.0.0 is 127.0.0.1. Everything else is as on the page.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.docs.pages import Command
from tests.harness.ports import free_port

SECONDS = 50  # limit for every step; no step takes that long unless it is broken
PAUSE = 0.01
STAND_INS = Path(__file__).with_name("bin")
PORTS = ("4222", "9617")  # of the broker, and of the metrics
_PLACES = ("/etc/remaphore", "/usr/share/remaphore", "/var/lib/remaphore")
_HERE = re.compile(rf"(?<![\w./~}}-])(?:{'|'.join(_PLACES)})\b")
_HOST = re.compile(r"\b([a-z][a-z0-9-]*)\.example\.com\b(?::(\d+))?")
_ALL_ADDRESSES = re.compile(r"\b0\.0\.0\.0:(\d+)")
_READY = re.compile(r"\b[Rr]eady\b|^credentials: ", re.MULTILINE)


@dataclass
class Typed:
    """A typed command. Its output goes to files, since background processes may print after it has ended."""

    command: Command
    folder: Path

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text(errors="replace")

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text(errors="replace")

    @property
    def code(self) -> int | None:
        try:
            return int((self.folder / "code").read_text())
        except FileNotFoundError:
            return None

    @property
    def ready(self) -> bool:
        """True once it has printed that it waits."""
        return bool(_READY.search(self.out + self.err))

    @property
    def in_background(self) -> bool:
        return self.command.text.rstrip().endswith("&")

    def gone(self) -> bool:
        """Return whether its background process has ended."""
        try:
            os.kill(int((self.folder / "background").read_text()), 0)
        except (ProcessLookupError, FileNotFoundError, ValueError):
            return True
        return False

    def __str__(self) -> str:
        return f"line {self.command.line}: {self.command.text}\nexit code: {self.code}\n{self.out}{self.err}"


@dataclass
class PageShell:
    """A shell in which one command after the other is typed."""

    shell: subprocess.Popen[str]
    folder: Path
    typed: list[Typed] = field(default_factory=list)
    matched: set[tuple[int, int]] = field(default_factory=set)

    def type(self, command: Command) -> None:
        """Type it when the terminal is idle, and wait until it has ended or has printed that it is ready."""
        self.finish()
        folder = self.folder / f"{len(self.typed):03}"
        folder.mkdir(parents=True)
        now = Typed(command, folder)
        self.typed.append(now)
        assert self.shell.stdin is not None
        self.shell.stdin.write(
            f"{{ {command.text}\n}} >{folder}/out 2>{folder}/err </dev/null\n"
            f"echo $? >{folder}/new; echo $! >{folder}/background; mv {folder}/new {folder}/code\n"
        )
        self.shell.stdin.flush()
        if now.in_background:
            _wait(lambda: now.code is not None and (now.ready or now.gone()), now)
            assert now.ready or now.command.shown is not None, f"it has ended and was not ready:\n{now}"
        else:
            _wait(lambda: now.code is not None or ((folder / "err").exists() and now.ready), now)
        assert now.code in {command.code, None}, str(now)

    def finish(self) -> None:
        """Wait for the end of the last command."""
        if self.typed:
            last = self.typed[-1]
            _wait(lambda: last.code is not None, last)
            assert last.code == last.command.code, str(last)

    def check(self, shown: tuple[str, ...]) -> None:
        """Wait until the last command, alone or together with background processes, has printed what is *shown*."""
        last = self.typed[-1]
        deadline = time.monotonic() + SECONDS
        while not (_same(shown, last.out) or _same(shown, last.out + last.err)):
            quiet = last.code is not None and all(typed.gone() for typed in self.typed)
            taken = self._on_screen(shown)
            if taken:
                self.matched |= taken
                return
            in_time = not quiet and time.monotonic() < deadline
            assert in_time, f"the page shows\n{shown}\nand there was\n{last}"
            time.sleep(PAUSE)

    def _on_screen(self, shown: tuple[str, ...]) -> set[tuple[int, int]]:
        """Return the places of the lines that are *shown*, among all not yet matched; none if one is missing.

        Only background processes can print other lines between those that a page shows.
        """
        if not any(typed.in_background for typed in self.typed):
            return set()
        lines = [
            ((number, count), line)
            for number, typed in enumerate(self.typed)
            for count, line in enumerate((typed.out + typed.err).splitlines())
            if (number, count) not in self.matched
        ]
        taken: set[tuple[int, int]] = set()
        for wanted in shown:
            place = next((place for place, line in lines if place not in taken and _same((wanted,), line)), None)
            if place is None:
                return set()
            taken.add(place)
        return taken

    def close(self) -> None:
        """End the shell and everything that it has started; wait first if the last command has to end by itself."""
        try:
            if self.typed and "&&" in self.typed[-1].command.text:
                self.finish()
        finally:
            assert self.shell.stdin is not None
            self.shell.stdin.close()
            for number in (signal.SIGTERM, signal.SIGKILL):
                _signal(self.shell.pid, number)
                if _until(lambda: self.shell.poll() is not None and not _alive(self.shell.pid), SECONDS):
                    break


class Desk:
    """All terminals of a page, by name. programs: where `remaphore` is; variables: added to the environment."""

    def __init__(
        self, folder: Path, *, programs: Path = Path(sys.executable).parent, variables: Mapping[str, str] | None = None
    ) -> None:
        self.folder, self._programs, self._variables = folder, programs, variables or {}
        self._ports = {port: str(free_port()) for port in PORTS}
        self._host_ports: dict[tuple[str, str], str] = {}
        self._terminals: dict[str, PageShell] = {}
        self._sockets = tempfile.TemporaryDirectory(prefix="run")  # the path of a socket has 107 bytes at most
        folder.chmod(0o755)

    def type(self, command: Command) -> None:
        """Type *command* in its terminal, and check what it prints against what the page shows."""
        name = command.terminal or "here"
        if name not in self._terminals:
            self._terminals[name] = self._open(name)
        self._terminals[name].type(
            replace(command, text=self._translated(name, command.text)),
        )
        if command.shown is not None:
            self._terminals[name].check(tuple(self._translated(name, line) for line in command.shown))

    def close(self) -> None:
        """Close all terminals, the last one first."""
        error: BaseException | None = None
        for terminal in reversed(self._terminals.values()):
            try:
                terminal.close()
            except AssertionError as raised:
                error = raised
        self._sockets.cleanup()
        if error is not None:
            raise error

    def _translated(self, name: str, text: str) -> str:
        text = text.replace("/run/remaphore/", f"{self._sockets.name}/{name}.")
        text = _HERE.sub(rf"{self.folder / name}\g<0>", text)
        text = _ALL_ADDRESSES.sub(lambda found: f"127.0.0.1:{self._host_port(name, found[1])}", text)
        text = _HOST.sub(
            lambda found: f"localhost:{self._host_port(found[1], found[2])}" if found[2] else "localhost", text
        )
        return re.sub(rf"\b(?:{'|'.join(PORTS)})\b", lambda found: self._ports[found[0]], text)

    def _host_port(self, name: str, port: str) -> str:
        """Return the port that stands for *port* of machine *name*: all machines are this one, and its loopback."""
        return self._host_ports.setdefault((name, port), str(free_port()))

    def _open(self, name: str) -> PageShell:
        home = self.folder / name
        for place in _PLACES:
            home.joinpath(place[1:]).mkdir(parents=True, exist_ok=True)
        environment = {
            "PATH": f"{self._programs}:{STAND_INS}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(home),
            "DESK": str(self.folder),
            "BROKER_PORT": self._ports["4222"],
            "SITE_BROKER_PORT": self._host_port(name, "4222"),
            "REMAPHORE_CONFIG": f"{home}/etc/remaphore/remaphore.toml",
            "STATE_DIRECTORY": f"{home}/var/lib/remaphore",
            "XDG_STATE_HOME": f"{home}/state",
            "XDG_CONFIG_HOME": f"{home}/config",
            "LC_ALL": "C.UTF-8",
            **self._variables,
        }
        shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            text=True,
            cwd=home,
            env=environment,
            start_new_session=True,
        )
        return PageShell(shell, self.folder / "typed" / name)


def _same(shown: tuple[str, ...], printed: str) -> bool:
    """Return whether *printed* is what is *shown*: `...` in a line stands for anything, as a line for any lines."""
    pattern = "".join(
        r"(?:.*\n)*" if line.strip() == "..." else re.escape(line).replace(r"\.\.\.", ".*") + "\n" for line in shown
    )
    return re.fullmatch(pattern, printed.rstrip("\n") + "\n") is not None


def _wait(condition, typed: Typed) -> None:
    assert _until(condition, SECONDS), f"no result within {SECONDS} s:\n{typed}\nshown: {typed.command.shown}"


def _until(condition, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE)
    return True


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _alive(group: int) -> bool:
    """Return whether a process of the *group* runs. A zombie does not."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group, *_ = stat.read_text(errors="replace").rpartition(")")[2].split()
            if int(its_group) == group and state != "Z":
                return True
    return False
