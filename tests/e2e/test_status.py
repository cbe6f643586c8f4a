"""`remaphore status` as an administrator types it: before the first connection, at work, stopping, and killed."""

import json
import signal

import pytest

from tests.harness.fleet import DESTINATIONS
from tests.harness.ports import free_port
from tests.harness.waiting import until

ONE, TWO, _ = DESTINATIONS.values()


@pytest.fixture
def node(fleet):
    """Writes the configuration of a node with a state directory and a handler that waits for a file."""
    for folder in (fleet.folder, fleet.folder.parent):
        folder.chmod(0o755)

    def write(name, **changes):
        config = fleet.config(name, **changes)
        handler = fleet.folder / f"{name}.hooks" / "deploy" / "10-wait"
        handler.parent.mkdir(parents=True)
        handler.write_text(f"#!/bin/sh\nwhile ! test -e {fleet.folder}/go; do sleep 0.05; done\nexit 3\n")
        handler.chmod(0o755)
        settings = f'state_dir = "{fleet.folder}/{name}.state"\nhooks = ["{handler.parent.parent}"]\n'
        config.write_text(settings + config.read_text())
        return config

    return write


def test_a_daemon_that_waits_for_its_broker_has_a_status_and_one_that_was_killed_has_none(fleet, node):
    config = node("two", server=f"nats://127.0.0.1:{free_port()}")
    daemon = fleet.start("run", "-c", config, ready="broker_disconnected")
    done = fleet.run("status", "-c", config)
    assert f"{TWO}: starting, up " in done.stdout
    assert f"; pid {daemon.popen.pid}, waiting for the broker since 20" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")
    daemon.stop(signal.SIGKILL)
    done = fleet.run("status", "-c", config)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("remaphore: error: no daemon is running with the state directory ")
    assert f"the last one (pid {daemon.popen.pid}) did not end cleanly\n" in done.stderr
    assert "\nremaphore: hint: start it" in done.stderr


async def test_what_runs_and_waits_is_shown_here_and_to_a_peer_that_may_ask_until_it_has_ended(fleet, node):
    one, two = node("one"), node("two")
    file = fleet.folder / "two.state" / "main" / "status.json"

    def written():
        return json.loads(file.read_text())["status"]

    daemon = fleet.start("run", "-c", two)
    for number in (1, 2):
        fleet.run("send", "-c", one, "--to", TWO, "--verb", "deploy", "--id", f"release-{number}", "secret")
    await until(lambda: written()["waiting"])
    asked = fleet.run("status", "-c", one, "--json", "--timeout", "10s", "com.example.*")
    local = fleet.run("status", "-c", two, "--json")
    assert (asked.returncode, local.returncode) == (0, 0)
    for done in (asked, local):
        (node_row,) = json.loads(done.stdout)["nodes"]
        status = node_row["status"]
        (row,) = status["running"]
        assert (row["verb"], row["id"], row["peer"], row["state"]) == ("deploy", "release-1", ONE, "running")
        assert [(row["verb"], row["messages"]) for row in status["waiting"]] == [("deploy", 1)]
        assert status["state"] == "receiving"
    assert "secret" not in asked.stdout + file.read_text()
    daemon.popen.send_signal(signal.SIGTERM)
    found = {}
    await until(lambda: found.update(written()) or found["state"] == "stopping")
    assert [row["id"] for row in found["running"]] == ["release-1"]
    (fleet.folder / "go").touch()
    assert daemon.finish()[0] == 0
    assert not file.exists()
    done = fleet.run("status", "-c", one, ONE)
    assert (done.returncode, done.stdout) == (3, "")
    assert f"{ONE} is this node" in done.stderr
    done = fleet.run("status", "-c", one, TWO, "--timeout", "200ms")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"remaphore: {TWO}: no reply within 0.2 s\n" in done.stderr
