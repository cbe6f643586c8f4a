"""The command of a lock is a job as any other on a terminal: Ctrl-C, Ctrl-Z, fg, bg, input, and pipelines."""

import asyncio
import contextlib
import json
import os
import pty
import select
import signal
import sys
from pathlib import Path

import pytest

from tests.harness.programs import alive
from tests.harness.waiting import until

PROGRAM = Path(__file__).parent / "guarded.py"
# One process: a shell that is stopped between vfork(2) and exec(2) of a child waits, and does not stop.
WAITS = """import os, signal
signal.signal(signal.SIGINT, lambda *_: os._exit(4))
open("command", "w").write(str(os.getpid()))
while True: signal.pause()"""
WAIT = f"exec {sys.executable} -c '{WAITS}'"
SECONDS = 60


class Shell:
    """An interactive bash on a terminal, in *folder*. seen: all that it has written."""

    def __init__(self, folder):
        self.folder = folder
        os.mkfifo(folder / "orders")
        (folder / "events").touch()
        self.seen = ""
        self._pid, self.terminal = pty.fork()
        if self._pid == 0:
            os.chdir(folder)
            os.environ.update(PS1="ready> ", TERM="dumb", PYTHONPATH=str(Path(__file__).parents[2]))
            os.execvp("bash", ["bash", "--norc", "--noediting", "-i"])
        self.wait_for("ready> ")

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        guarded = json.loads((self.folder / "events").read_text().splitlines()[0])
        for pid in (self._pid, guarded["lock"], guarded["guardian"], *self.pids()):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self.terminal)

    def start(self, body, *, seconds=600, after=""):
        """Run *body* in a shell under a guardian, and wait until it has written its pid."""
        self.type(f"{sys.executable} {PROGRAM} {seconds} 0.2 sh -c {quoted(body)} 3<>orders 4>>events {after}\n")
        self.until(self.pids)

    def type(self, text):
        os.write(self.terminal, text.encode())

    def wait_for(self, text):
        self.until(lambda: text in self.seen)
        self.seen = self.seen.partition(text)[2]

    def until(self, condition):
        def read():
            while select.select([self.terminal], [], [], 0)[0]:
                self.seen += os.read(self.terminal, 4096).decode()
            return condition()

        asyncio.run(until(read, limit=SECONDS))

    def pids(self):
        path = self.folder / "command"
        return [int(path.read_text())] if path.exists() and path.read_text().strip() else []

    def state(self):
        """Return the state of the command in /proc: T if it is stopped."""
        return Path(f"/proc/{self.pids()[0]}/stat").read_text().rpartition(")")[2].split()[0]

    def ending(self):
        """Return the exit code of the command, and why it was ended, once it is known."""
        events = self.folder / "events"
        self.until(lambda: '"why"' in events.read_text())
        ending = json.loads(events.read_text().splitlines()[-1])
        return ending["exit_code"], ending["why"]


def quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.fixture
def shell(tmp_path):
    with Shell(tmp_path) as shell:
        yield shell


def test_ctrl_c_reaches_the_command_alone(shell):
    shell.start(WAIT)
    shell.type("\x03")
    assert shell.ending() == (4, "")


def test_ctrl_z_stops_the_command_and_the_lock_and_fg_continues_both(shell):
    shell.start(WAIT)
    shell.type("\x1a")
    shell.wait_for("Stopped")
    assert shell.state() == "T"
    shell.type("echo prompt$((1 + 1))\n")
    shell.wait_for("prompt2")  # the shell has its terminal again
    shell.type("fg\n")
    shell.until(lambda: shell.state() != "T")
    shell.type("\x03")
    assert shell.ending() == (4, "")


def test_a_command_that_stays_stopped_ends_with_its_lease(shell):
    shell.start(WAIT, seconds=2)
    (pid,) = shell.pids()
    shell.type("\x1a")
    shell.wait_for("Stopped")
    shell.until(lambda: not alive(pid))
    shell.type("fg\n")
    assert shell.ending()[1] == "the lease was not renewed in time"


def test_a_command_in_the_background_leaves_the_terminal_to_the_shell_until_fg(shell):
    os.mkfifo(shell.folder / "go")
    shell.start('echo $$ >command; read go <go; read line; echo "got $line"', after="&")
    shell.type("echo prompt$((1 + 1))\n")
    shell.wait_for("prompt2")
    shell.type("fg\n")
    shell.wait_for("guarded.py")
    (shell.folder / "go").write_text("go\n")
    shell.type("word\n")
    shell.wait_for("got word")
    assert shell.ending() == (0, "")


def test_a_command_in_the_background_that_wants_input_is_stopped_until_fg(shell):
    shell.start('echo $$ >command; read line; echo "got $line"', after="&")
    shell.until(lambda: shell.state() == "T")
    shell.type("wait\n")  # a shell tells of a job in the background before its next prompt
    shell.wait_for("Stopped")
    shell.type("fg\n")
    shell.type("word\n")
    shell.wait_for("got word")
    assert shell.ending() == (0, "")


def test_a_command_that_was_stopped_continues_in_the_background(shell):
    shell.start(WAIT)
    shell.type("\x1a")
    shell.wait_for("Stopped")
    shell.type("bg\n")
    shell.until(lambda: shell.state() != "T")
    shell.type("echo prompt$((1 + 1))\n")
    shell.wait_for("prompt2")
    os.kill(shell.pids()[0], signal.SIGINT)
    assert shell.ending() == (4, "")


def test_a_command_reads_from_the_terminal(shell):
    shell.start('echo $$ >command; read line; echo "got $line"')
    shell.type("word\n")
    shell.wait_for("got word")
    assert shell.ending() == (0, "")


def test_in_a_pipeline_the_terminal_is_the_pagers_until_the_command_asks_for_it(shell):
    pager = "read line </dev/tty; echo paged $line; exec cat"
    body = 'echo $$ >command; read go <go; read line; echo "got $line"; exec sleep 600'
    os.mkfifo(shell.folder / "go")
    shell.start(body, after=f"| sh -c {quoted(pager)}")
    shell.type("word\n")
    shell.wait_for("paged word")
    (shell.folder / "go").write_text("go\n")
    shell.until(lambda: os.tcgetpgrp(shell.terminal) == shell.pids()[0])
    shell.type("answer\n")
    shell.wait_for("got answer")
    shell.type("\x03")
    assert shell.ending() == (128 + signal.SIGINT, "")


@pytest.mark.parametrize("wiring", ["</dev/zero", "| cat", ">/dev/null"])
def test_ctrl_z_stops_the_command_also_where_the_terminal_is_not_its_own(shell, wiring):
    shell.start(WAIT, after=wiring)
    shell.type("\x1a")
    shell.wait_for("Stopped")
    assert shell.state() == "T"
    shell.type("fg\n")
    shell.until(lambda: shell.state() != "T")
    os.kill(shell.pids()[0], signal.SIGINT)
    assert shell.ending() == (4, "")
