"""A valid setup of one node: everything that `check` examines exists and is valid."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from remaphore.config import search
from remaphore.diagnostics.checkup import check
from remaphore.diagnostics.findings import Code, Finding, Level
from remaphore.protocol import duration
from tests.harness.nats_server import Realm
from tests.harness.node_files import Entry, credentials_line, write_legacy, write_toml

PLUGINS = ("hooks-d", "log")  # loaded by the daemon whatever the configuration enables
UNIT = Path(__file__).parents[2] / "docs" / "systemd" / "remaphore.service"


class Machine:
    """Node one, in *folder*: its configuration, its files, and below `root` its systemd unit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.config = folder / "remaphore.toml"
        self.key = folder / "ops.key"
        self.creds = folder / "remaphore.creds"
        self.state = folder / "state" / "main"
        self.handler = folder / "hooks.d" / "ping" / "10-hello"
        self.unit = self.root / "etc/systemd/system/remaphore.service"
        self.now = time.time_ns()
        write_toml(
            self.config,
            1,
            "com.one",
            servers=["nats://127.0.0.1:1"],
            login=credentials_line(self.creds.name),
            settings='state_dir = "state"\nhooks = ["hooks.d"]\n',
            peers=[Entry("com.two", 2, ["ping"])],
            key_file=self.key.name,
        )
        self.config.chmod(0o644)
        self.login()
        self.state.mkdir(parents=True, mode=0o700)
        self.handler.parent.mkdir(parents=True)
        self.handler.write_text("#!/bin/sh\necho hello\n")
        for path, mode in ((self.handler, 0o755), (self.handler.parent, 0o755), (folder / "hooks.d", 0o755)):
            path.chmod(mode)
        (self.root / "usr/bin").mkdir(parents=True)
        (self.root / "usr/bin/remaphore").touch(mode=0o755)
        self.unit.parent.mkdir(parents=True)
        shutil.copy(UNIT, self.unit)

    def login(self, *, allow: str = "remaphore.>", **claims: int) -> None:
        """Get new credentials from the broker's administrator."""
        Realm().write_login(self.creds, allow=allow, **claims)

    def edit(self, old: str, new: str) -> None:
        """Replace *old* in the configuration by *new*."""
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new, 1))

    def append(self, text: str) -> None:
        """Append *text* to the configuration."""
        self.config.write_text(self.config.read_text() + text)

    def findings(self) -> list[Finding]:
        """Return the findings of `remaphore check`."""
        config = search.load(str(self.config), {})
        found = check(
            replace(config, hooks=config.hooks),
            plugins=(*PLUGINS, *config.enabled_plugins),
            environ={},
            now=self.now,
            root=self.root,
        )
        return list(found)

    def found(self, code: Code) -> list[Finding]:
        """Return the findings with *code*."""
        return [finding for finding in self.findings() if finding.code is code]


def bad(findings: list[Finding]) -> list[Finding]:
    """Return the errors and warnings among *findings*."""
    return [finding for finding in findings if finding.level in (Level.ERROR, Level.WARNING)]


def assert_hints(findings: list[Finding]) -> None:
    """Assert that errors and warnings have a hint, and that passed checks have none."""
    for finding in findings:
        assert finding.hint or finding.level in (Level.OK, Level.NOTE), f"{finding.code} has no hint"
        assert not (finding.hint and finding.level is Level.OK), f"{finding.code} has a hint, and needs none"


def type_in(command: str) -> None:
    """Run the command of a hint in a shell, as an administrator does, who has looked at what the hint names first."""
    command = command.rpartition("and then: ")[2]
    path = f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
    subprocess.run(["/bin/sh", "-ec", command], check=True, env={"PATH": path}, stdin=subprocess.DEVNULL)


def days(number: float) -> int:
    """Return *number* days in nanoseconds."""
    return int(number * 24 * duration.HOUR)


class Case(NamedTuple):
    """A finding: how to provoke it, and how to follow its hint; None if the hint is a command, which is then run.

    text: a part of its line.
    """

    code: Code
    level: Level
    provoke: Callable[[Machine], object]
    hint: Callable[[Machine], object] | None
    text: str


def peer(destination, key, verbs='["ping"]'):
    """Return the table of a peer."""
    return f'[[peers]]\ndestination = "{destination}"\nkey = "{key.public}"\nverbs = {verbs}\n'


def edited(old, new):
    """Replace *old* in the configuration by *new*."""
    return lambda machine: machine.edit(old, new)


def appended(text):
    """Append *text* to the configuration."""
    return lambda machine: machine.append(text)


def mode(path_of, number):
    """Set the mode of a file."""
    return lambda machine: path_of(machine).chmod(number)


def deleted(path_of):
    """Delete a file."""
    return lambda machine: path_of(machine).unlink()


def written(path_of, text, mode=0o755, folder_mode=0o755):
    """Write a file and create its directory."""

    def write(machine):
        path = path_of(machine)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(folder_mode)
        path.write_text(text)
        path.chmod(mode)

    return write


def legacy_format(machine):
    """Write the same node in the legacy format."""
    machine.config = write_legacy(
        machine.folder / "remaphore.conf",
        1,
        "com.one",
        server="nats://127.0.0.1:1",
        credentials=machine.creds,
        peers=[Entry("com.two", 2, ["ping"])],
    )
