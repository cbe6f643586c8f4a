"""systemd accepts the unit file, for the installed command."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from remaphore.cli.main import EXIT_USAGE

UNIT = Path(__file__).parents[2] / "docs" / "systemd" / "remaphore.service"


def verified(folder, text):
    path = folder / "remaphore.service"
    path.write_text(text)
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("this machine has no systemd-analyze: apt-get install systemd")
    return subprocess.run([analyze, "verify", str(path)], capture_output=True, text=True, check=False)


def test_systemd_accepts_the_unit_file(tmp_path):
    installed = Path(sys.executable).with_name("remaphore")
    done = verified(tmp_path, UNIT.read_text().replace("/usr/bin/remaphore", str(installed)))
    reported = [line for line in done.stderr.splitlines() if "remaphore" in line]
    assert (done.returncode, reported) == (0, [])


def test_a_mistake_in_it_is_detected(tmp_path):
    done = verified(
        tmp_path, UNIT.read_text().replace("WatchdogSec=30", "WatchdogSec=soon").replace("/usr/bin", "/nowhere")
    )
    assert "remaphore.service" in done.stderr


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
