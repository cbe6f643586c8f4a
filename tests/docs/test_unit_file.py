"""systemd accepts the unit files, for the installed command."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from remaphore.cli import arguments
from remaphore.cli.commands import broker
from remaphore.cli.main import EXIT_USAGE

SYSTEMD = Path(__file__).parents[2] / "docs" / "systemd"
UNIT, BROKER = SYSTEMD / "remaphore.service", SYSTEMD / "remaphore-broker.service"
units = pytest.mark.parametrize("unit", [UNIT, BROKER], ids=lambda unit: unit.stem)


def verified(folder, unit, text):
    path = folder / unit.name
    path.write_text(text)
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("this machine has no systemd-analyze: apt-get install systemd")
    return subprocess.run([analyze, "verify", str(path)], capture_output=True, text=True, check=False)


@units
def test_systemd_accepts_the_unit_file(unit, tmp_path):
    installed = Path(sys.executable).with_name("remaphore")
    done = verified(tmp_path, unit, unit.read_text().replace("/usr/bin/remaphore", str(installed)))
    reported = [line for line in done.stderr.splitlines() if "remaphore" in line]
    assert (done.returncode, reported) == (0, [])


@units
def test_a_mistake_in_it_is_detected(unit, tmp_path):
    text = unit.read_text().replace("RestartSec=5", "RestartSec=soon").replace("/usr/bin", "/nowhere")
    assert unit.name in verified(tmp_path, unit, text).stderr


def test_it_uses_the_notifications_of_the_daemon_and_ends_no_more_than_it_has_to():
    text = UNIT.read_text()
    for setting in (
        "Type=notify",
        "WatchdogSec=",
        "StateDirectory=remaphore",
        "ExecReload=/bin/kill -HUP $MAINPID",
        f"RestartPreventExitStatus={EXIT_USAGE}",
        "OOMPolicy=continue",
        "LimitCORE=0",
        "TasksMax=",
        "MemoryMax=",
    ):
        assert f"\n{setting}" in text


def test_the_broker_accepts_the_command_of_its_unit_and_ends_no_more_than_it_has_to():
    text = BROKER.read_text()
    command = re.search(r"^ExecStart=((?:.*\\\n)*.*)", text, re.MULTILINE)
    words = shlex.split(command[1].replace("\\\n", " "))
    assert (words[:2], words[-1]) == (["/usr/bin/remaphore", "broker"], "$OPTIONS")
    settings = broker.make_settings(arguments.read(words[1:-1]))
    assert str(settings.listen) == "0.0.0.0:4222"
    assert settings.tls is not None
    state, files = f"/var/lib/{BROKER.stem}", f"/etc/{BROKER.stem}"
    assert (words[words.index("--data") + 1], str(settings.tls.key.parent)) == (state, files)
    for setting in (
        "Type=notify",
        f"User={BROKER.stem}",
        f"StateDirectory={BROKER.stem}",
        "StateDirectoryMode=0700",
        "ExecReload=/bin/kill -HUP $MAINPID",
        f"RestartPreventExitStatus={EXIT_USAGE}",
        "LimitCORE=0",
        "LimitNOFILE=",
        "MemoryMax=",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=\n",
    ):
        assert f"\n{setting}" in text
