"""A plugin of the running daemon that sends, asks, stores and works in the background."""

import json
import signal
import time

import pytest

from tests.harness.fleet import environment
from tests.harness.plugins import installer
from tests.harness.processes import SECONDS

PLUGIN = '''
import asyncio
import json
from remaphore import hookimpl

class Plugin:
    """Sends `deployed` after each deployment, writes whom it can ask, and has a request open that is not answered."""

    @hookimpl
    async def remaphore_startup(self, context):
        self.context = context
        starts = context.state_dir / "starts"
        starts.write_text(f"{len(starts.read_text()) + 1}" if starts.exists() else "x")
        context.spawn(self.ask())
        context.spawn(self.fail(), name="broken")
        context.spawn(self.wait())

    @hookimpl
    async def remaphore_handled(self, message, reply):
        if message.verb == "deploy":
            await self.context.node.send("deployed", to="com.example.one", payload=f"{reply.exit_code}", timeout=5)

    async def ask(self):
        new, file = (self.context.state_dir / name for name in ("asked.new", "asked"))
        while True:
            async with self.context.node.request("ping", timeout=0.2) as request:
                answered = [reply.peer async for reply in request]
            new.write_text(json.dumps([request.message.sender, request.expected, answered]))
            new.replace(file)

    async def fail(self):
        raise SystemExit("broken on purpose")

    async def wait(self):
        async with self.context.node.request("silent", to="org.example.three", timeout=None) as request:
            async for reply in request:
                pass
'''


@pytest.fixture
def start(fleet, tmp_path, monkeypatch):
    """Starts the daemon of a node, with the plugin if it is enabled."""
    site = tmp_path / "site"
    site.mkdir()
    installer(site, monkeypatch)("hands", PLUGIN)

    def start(config, *words):
        environ = environment(PYTHONPATH=str(site), STATE_DIRECTORY=str(tmp_path / "state"))
        return fleet.start("run", "-c", config, "--hooks", tmp_path / "hooks.d", *words, env=environ)

    return start


def wait_until(read, expected):
    ends = time.monotonic() + SECONDS
    while (found := read()) != expected:
        assert time.monotonic() < ends, found
        time.sleep(0.01)


def test_it_sends_asks_and_stores_across_reloads_a_kill_and_a_stop(fleet, start, tmp_path):
    enabled = '[plugins]\nenable = ["hands"]\n'
    one, two = fleet.config("one"), fleet.config("two", extra=enabled)
    folder = tmp_path / "state" / "main" / "plugins" / "hands"
    start(one, "--instance", "one")
    daemon = start(two)

    def asked():
        file = folder / "asked"
        return json.loads(file.read_text())[1:] if file.exists() else None

    wait_until(asked, [["com.example.one", "org.example.three"], ["com.example.one"]])
    assert (folder.stat().st_mode & 0o777, sorted(folder.parent.iterdir())) == (0o700, [folder])
    assert not (tmp_path / "state" / "one" / "plugins").exists()
    assert "plugin=hands" in daemon.wait_for("plugin_failed")
    assert "task=broken" in daemon.wait_for("plugin_failed")

    key = json.loads((folder / "asked").read_text())[0]
    fleet.config("two", extra=enabled, peers=["one"])
    daemon.popen.send_signal(signal.SIGHUP)
    wait_until(asked, [["com.example.one"], ["com.example.one"]])
    assert json.loads((folder / "asked").read_text())[0] == key

    daemon.stop(signal.SIGKILL)
    fleet.config("two", extra=enabled)
    daemon = start(two)
    wait_until((folder / "starts").read_text, "2")
    waiting = fleet.start(
        "receive",
        "-c",
        one,
        "--verb",
        "deployed",
        "--once",
        "--timeout",
        "20s",
        fleet.script(f'printf "%s" "$2" > {tmp_path}/told'),
    )
    asked_for = fleet.run("request", "-c", one, "--to", "com.example.two", "--verb", "deploy", "--timeout", "20s")
    assert asked_for.stdout == "com.example.two,127,no handler\n"
    assert waiting.finish() == (0, "")
    assert (tmp_path / "told").read_text() == "127"
    assert daemon.stop() == (0, "")
    assert [line for line in daemon.lines if "abandoned" in line or "Traceback" in line] == []
