"""The unit file is one that systemd takes, for the command that is installed."""

import shutil
import subprocess
import sys
from pathlib import Path

UNIT = Path(__file__).parents[2] / "docs" / "systemd" / "remaphore.service"


def verified(folder, text):
    path = folder / "remaphore.service"
    path.write_text(text)
    analyze = shutil.which("systemd-analyze")
    assert analyze, "install systemd: apt-get install systemd"
    return subprocess.run([analyze, "verify", str(path)], capture_output=True, text=True, check=False)


def test_systemd_takes_the_unit_file(tmp_path):
    installed = Path(sys.executable).with_name("remaphore")
    done = verified(tmp_path, UNIT.read_text().replace("/usr/bin/remaphore", str(installed)))
    about_it = [line for line in done.stderr.splitlines() if "remaphore" in line]
    assert (done.returncode, about_it) == (0, [])


def test_a_mistake_in_it_would_be_seen(tmp_path):
    done = verified(
        tmp_path, UNIT.read_text().replace("WatchdogSec=30", "WatchdogSec=soon").replace("/usr/bin", "/nowhere")
    )
    assert "remaphore.service" in done.stderr


def test_it_asks_for_what_the_daemon_tells():
    text = UNIT.read_text()
    for setting in ("Type=notify", "WatchdogSec=", "StateDirectory=remaphore", "ExecReload=/bin/kill -HUP $MAINPID"):
        assert setting in text
