"""A fleet on this machine: a broker with authentication, nodes with keys, and the command that users type."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.factories import make_key

SECONDS = 30  # for anything to happen; nothing waits that long unless it is broken
DESTINATIONS = {"one": "com.example.one", "two": "com.example.two", "three": "org.example.three"}


class Process:
    """A command that runs; its stderr is read line by line as it comes."""

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
        """Wait until a line of stderr holds *text*, and return that line."""
        with self._news:
            found = self._news.wait_for(lambda: self._ended or any(text in line for line in self.lines), SECONDS)
        shown = "\n".join(self.lines)
        assert found, f"no {text!r} within {SECONDS} s:\n{shown}"
        matching = [line for line in self.lines if text in line]
        assert matching, f"ended without {text!r}:\n{shown}"
        return matching[0]

    def finish(self):
        """Wait for the end; return exit code and stdout."""
        with self.popen.stdout:
            out = self.popen.stdout.read()
        code = self.popen.wait(SECONDS)
        self._reader.join(SECONDS)
        return code, out

    def stop(self, number=signal.SIGTERM):
        """Send a signal, and wait for the end."""
        self.popen.send_signal(number)
        return self.finish()

    def end(self):
        """Stop it if it still runs: politely, because a broker and a receiver stop what they have started."""
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


@dataclass
class Fleet:
    """The nodes one, two and three, who know each other, on one broker."""

    folder: Path
    server: str = ""
    credentials: str = ""
    processes: list[Process] = field(default_factory=list)

    def config(self, name, *, verbs="*", peer_verbs="*", peers=None, form="toml", extra="", **changes):
        """Write the configuration of node *name* and return its path."""
        values = {"server": self.server, "credentials": self.credentials, **changes}
        known = [other for other in DESTINATIONS if other != name] if peers is None else peers
        path = self.folder / f"{name}.{form}"
        path.touch(mode=0o600)
        path.write_text(_write(form, name, values, verbs.split(","), peer_verbs.split(","), known) + extra)
        return path

    def run(self, *words, **options):
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "remaphore", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
            **options,
        )

    def start(self, *words, ready="", **options):
        """Start a command, and wait for a line of its stderr: *ready*, or the one after which it receives."""
        process = Process(words, **options)
        self.processes.append(process)
        if ready is not None:
            process.wait_for(ready or ("ready" if words[0] == "run" else "Ready"))
        return process

    def script(self, text, name="script"):
        """Write an executable shell script, and return its path."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)
        return path


def _write(form, name, values, verbs, peer_verbs, known):
    number = list(DESTINATIONS).index(name) + 1
    own = make_key(number)
    keys = {other: make_key(list(DESTINATIONS).index(other) + 1).public for other in known}
    if form == "conf":
        return (
            f"server: {values['server']}\ncredentials: {values['credentials']}\ndestination: {DESTINATIONS[name]}\n"
            f"allow_skew: 30s\n[ Identities ]\n{own.public} {own.reveal()} [{','.join(verbs)}]\n[ Peers ]\n"
            + "".join(f"{DESTINATIONS[other]} {key} [{','.join(peer_verbs)}]\n" for other, key in keys.items())
        )
    secret = Path(values["credentials"]).with_name(f"{name}.key")
    secret.touch(mode=0o600)
    secret.write_text(own.reveal() + "\n")
    return (  # TOML
        f'destination = "{DESTINATIONS[name]}"\nservers = ["{values["server"]}"]\n'
        f'credentials = "{values["credentials"]}"\nallow_skew = "30s"\n'
        f'[[identities]]\nkey = "{own.public}"\nprivate_key_file = "{secret}"\nverbs = {verbs!r}\n'
        + "".join(
            f'[[peers]]\ndestination = "{DESTINATIONS[other]}"\nkey = "{key}"\nverbs = {peer_verbs!r}\n'
            for other, key in keys.items()
        )
    )


@pytest.fixture
def fleet(tmp_path):
    fleet = Fleet(tmp_path)
    try:
        broker = fleet.start("broker", "--data", tmp_path / "broker", "--port", 0, ready=None)
        fleet.server = broker.popen.stdout.readline().partition(": ")[2].strip()
        fleet.credentials = broker.popen.stdout.readline().partition(": ")[2].strip()
        assert fleet.server, broker.lines
        yield fleet
    finally:
        for process in reversed(fleet.processes):
            process.end()


@pytest.fixture
def nodes(fleet):
    """The configurations of the three nodes, in TOML."""
    return {name: fleet.config(name) for name in DESTINATIONS}


def environment(**changes):
    """This process's environment, with *changes*."""
    return {**os.environ, **changes}
