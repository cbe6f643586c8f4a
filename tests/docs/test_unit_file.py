"""systemd accepts the unit files, for the installed command."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from remaphore.agent.listener import BACKLOG
from remaphore.agent.server import MAX_OPERATIONS, SPARE
from remaphore.cli import arguments
from remaphore.cli.commands import broker
from remaphore.cli.main import EXIT_USAGE
from remaphore.config.settings import AGENT_SOCKET

SYSTEMD = Path(__file__).parents[2] / "docs" / "systemd"
UNIT, BROKER = SYSTEMD / "remaphore.service", SYSTEMD / "remaphore-broker.service"
AGENT, SOCKET = SYSTEMD / "remaphore-agent.service", SYSTEMD / "remaphore-agent.socket"
units = pytest.mark.parametrize("unit", [UNIT, BROKER, AGENT], ids=lambda unit: unit.stem)


def verified(folder, unit, text):
    path = folder / unit.name
    path.write_text(text)
    (folder / SOCKET.name).write_text(SOCKET.read_text())  # the agent's service requires it
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
    text = re.sub(r"RestartSec=\d", "RestartSec=soon", unit.read_text()).replace("/usr/bin", "/nowhere")
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


def test_the_agent_accepts_the_command_of_its_unit_and_its_socket_is_the_default():
    text, sockets = AGENT.read_text(), SOCKET.read_text()
    words = shlex.split(re.search(r"^ExecStart=(.*)", text, re.MULTILINE)[1])
    assert words[:2] == ["/usr/bin/remaphore", "agent"]
    assert arguments.read(words[1:]).log_format == "json"
    assert f"\nListenStream={AGENT_SOCKET}\n" in sockets
    assert f"\nBacklog={BACKLOG}\n" in sockets
    for setting in ("SocketMode=0660", "SocketGroup=remaphore-users", "DirectoryMode=0755"):
        assert f"\n{setting}" in sockets
    for setting in (
        "Type=notify",
        f"Requires={SOCKET.name}",
        f"User={AGENT.stem}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        f"RestartPreventExitStatus={EXIT_USAGE}",
        "LimitCORE=0",
        "MemoryMax=",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=\n",
    ):
        assert f"\n{setting}" in text
    # Each of these took the socket away, or hid the clients of the agent.
    assert [
        line for line in text.splitlines() if line.startswith(("PartOf=", "RuntimeDirectory", "ProtectProc="))
    ] == []
    assert "d     /run/remaphore 0755 root root" in SYSTEMD.joinpath("remaphore-agent.tmpfiles.conf").read_text()
    limit = int(re.search(r"^LimitNOFILE=(\d+)", text, re.MULTILINE)[1])
    assert limit > 2 * (MAX_OPERATIONS + SPARE)
