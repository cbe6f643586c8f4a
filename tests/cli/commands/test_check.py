"""The options of `check`, and that plugins do not disturb its output."""

import json
import os
import subprocess
import sys

import pytest

from remaphore.cli import arguments
from remaphore.cli.commands.check import Check
from remaphore.cli.main import main
from remaphore.diagnostics.findings import Code
from tests.harness.machine import Machine
from tests.harness.plugins import installer


@pytest.mark.parametrize(
    ("typed", "options"),
    [
        ("check", Check()),
        ("check -c f --hooks a --hooks b --json", Check(config="f", hooks=("a", "b"), json=True)),
    ],
)
def test_the_options_are_read(typed, options):
    assert arguments.read(typed.split()) == options


def test_output_of_a_plugin_that_is_imported_is_not_a_finding(tmp_path, monkeypatch, capsys):
    (tmp_path / "node").mkdir(mode=0o755)
    machine = Machine(tmp_path / "node")
    source = (
        "import logging, remaphore\nprint('loud')\n"
        "class Plugin:\n    @remaphore.hookimpl\n    def remaphore_configure(self, config):\n"
        "        logging.getLogger('loud').warning('I log')\n"
    )
    installer(tmp_path, monkeypatch)("loud", source)
    machine.append('[plugins]\nenable = ["loud"]\n')
    assert main(["check", "-c", str(machine.config), "--json"]) == 0
    shown = capsys.readouterr()
    rows = [json.loads(line) for line in shown.out.splitlines()]
    assert "hooks-d, log, loud" in next(row["what"] for row in rows if row["code"] == Code.PLUGINS_OK)
    assert "I log" not in shown.err


def test_handler_directories_of_the_command_line_override_those_of_the_file(tmp_path, capsys):
    tmp_path.chmod(0o755)
    machine = Machine(tmp_path)
    main(["check", "-c", str(machine.config), "--hooks", str(tmp_path / "other.d"), "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["where"] for row in rows if row["code"] == Code.HOOKS_MISSING] == [str(tmp_path / "other.d")]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a directory away")
def test_directories_that_we_may_not_search_are_findings_and_no_traceback(tmp_path):
    """Such as below a HOME of another user."""
    without = "--{0}=-dac_override,-dac_read_search"
    first = ["setpriv", without.format("bounding-set"), without.format("inh-caps")]
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    os.chown(closed, 65534, 65534)
    machine = Machine(tmp_path)
    machine.edit('state_dir = "state"', f'state_dir = "{closed}/state"')
    machine.edit('hooks = ["hooks.d"]', f'hooks = ["{closed}/hooks.d"]')
    command = [*first, sys.executable, "-m", "remaphore", "check", "--json", "-c", machine.config]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "setpriv" in done.stderr:
        pytest.skip(done.stderr)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    found = [(row["code"], row["where"]) for row in rows if row["level"] in ("error", "warning")]
    assert (Code.HANDLER_UNSAFE, f"{closed}/hooks.d") in found, done
    assert (Code.STATE_UNUSABLE, f"{closed}/state/main") in found
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
