"""The options of `check`, and that plugins do not disturb its output."""

import json

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
