"""The first hour of an administrator: from the wheel to twelve machines, with the commands of the documentation only.

The pages are typed one by one elsewhere (tests/docs); here they follow each other, in a fleet of their size.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.harness.fresh_venv import FreshVenv, build_wheel, clean_environment
from tests.harness.ports import free_port

FLEET = [f"com.example.web.{number}" for number in range(1, 13)]
LIMIT = 20 * 60  # seconds for all of it: the promise

HANDLER = """\
#!/bin/sh
set -eu
cd "$(dirname "$0")/../.."
[ ! -e full ] || { echo "no space left on device"; exit 1; }
[ ! -e hanging ] || sleep 60
echo "$2" >> versions
echo "deployed $2"
"""


class Site:
    """Machines, each a folder with its configuration, and a shell line at a time."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self._programs = f"{programs}:{Path(sys.executable).parent}"  # nats-server is beside the running interpreter
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def environment(self, machine: str) -> dict[str, str]:
        home = self.folder / machine
        (home / "remaphore").mkdir(parents=True, exist_ok=True)
        return clean_environment(
            PATH=f"{self._programs}:/usr/bin:/bin",
            HOME=str(home),
            REMAPHORE_CONFIG=str(home / "remaphore" / "remaphore.toml"),
        )

    def type(self, machine: str, line: str, *, code: int = 0) -> str:
        """Run the shell *line* on *machine* to its end; return what it printed."""
        ran = subprocess.run(
            ["sh", "-c", line],
            cwd=self.folder / machine if (self.folder / machine).is_dir() else self.folder,
            env=self.environment(machine),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode == code, f"{machine}$ {line}\nexit code {ran.returncode}\n{ran.stdout}{ran.stderr}"
        return ran.stdout

    def start(self, machine: str, line: str, word: str) -> None:
        """Start the shell *line* on *machine* in the background; return when its log has *word*."""
        with self._log(machine).open("ab") as out:
            place = out.tell()
            self._running[machine] = subprocess.Popen(
                ["sh", "-c", f"exec {line}"],
                cwd=self.folder / machine,
                env=self.environment(machine),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        self._wait(machine, word, place)

    def reload(self, machine: str) -> None:
        """Let the daemon of *machine* read its configuration again; return when it has."""
        place = self._log(machine).stat().st_size
        self._running[machine].send_signal(signal.SIGHUP)
        self._wait(machine, "reloaded", place)

    def stop(self, machine: str) -> None:
        process = self._running.pop(machine)
        process.terminate()
        assert process.wait(60) == 0, self._log(machine).read_text()

    def _log(self, machine: str) -> Path:
        return self.folder / machine / "log"

    def _wait(self, machine: str, word: str, place: int) -> None:
        def text() -> str:
            return self._log(machine).read_bytes()[place:].decode()

        deadline = time.monotonic() + 60
        while word not in text():
            assert time.monotonic() < deadline and self._running[machine].poll() is None, text()  # noqa: PT018
            time.sleep(0.01)

    def close(self) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    venv = FreshVenv(tmp_path / "venv", "argcomplete", "tomlkit")
    venv.install(build_wheel(ROOT, tmp_path / "wheel"))
    site = Site(tmp_path / "site", venv.bin)
    yield site
    site.close()


@pytest.mark.long
@pytest.mark.timeout(LIMIT)
def test_the_first_hour_leads_from_the_wheel_to_thirteen_nodes(site: Site) -> None:
    site.environment("control")
    assert "remaphore request" in site.type("control", "remaphore demo")
    url = start_broker(site)
    for number in range(1, 14):
        add_login(site, f"web{number}", url, f"com.example.web.{number}")
    add_login(site, "control", url, "com.example.control")
    exchange_keys(site, 12)
    site.type("web1", "remaphore check")
    for number in (*range(1, 9), *range(10, 13)):  # web9 is absent
        start_node(site, number)

    doctor = site.type("control", "remaphore doctor --timeout 3s", code=4)
    assert "com.example.web.9: no reply" in doctor
    assert "com.example.web.[1-8,10-12] (11): replies" in doctor
    roll_out(site)
    rotate_key(site)

    exchange_keys(site, 13)
    start_node(site, 13)
    for number in range(1, 13):
        site.reload(f"web{number}")
    site.type("control", "remaphore request --to com.example.web.13 --verb deploy v43")
    asked = site.type("control", "remaphore request --to 'com.example.web.[1-13]' --verb deploy --fold v43")
    assert asked == "com.example.web.[1-13] (13): exit code 0\n  deployed v43\n"
    for number in range(1, 14):
        site.stop(f"web{number}")


def start_broker(site: Site) -> str:
    """Run a broker with TLS, as docs/howto/broker.md does; return its URL."""
    site.environment("broker")
    port = free_port()
    new = "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    site.type("broker", f"{new} -x509 -days 3650 -subj '/CN=CA of example.com' -keyout ca.key -out ca.crt")
    site.type("broker", f"{new} -keyout tls.key -subj /CN=nats -addext subjectAltName=DNS:localhost -out tls.csr")
    signing = "openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -copy_extensions copy"
    site.type("broker", f"{signing} -out tls.crt")
    names = " ".join(f"--creds {name}" for name in ["control", *(f"web{number}" for number in range(1, 14))])
    site.type("broker", f"remaphore broker --data data {names}")
    line = f"remaphore broker --data data --listen 127.0.0.1:{port} --tls-cert tls.crt --tls-key tls.key"
    site.start("broker", line, "server: ")
    return f"tls://localhost:{port}"


def add_login(site: Site, machine: str, url: str, destination: str) -> None:
    """Configure *machine*, which has its login and the CA from the broker."""
    site.environment(machine)
    site.type(machine, f"install -m 600 ../broker/data/creds/{machine}.creds remaphore/nats.creds")
    site.type(machine, "install -m 644 ../broker/ca.crt remaphore/ca.crt")
    files = "--credentials remaphore/nats.creds --ca-file remaphore/ca.crt"
    site.type(machine, f"remaphore init --destination {destination} --server {url} {files} > own.peer")


def exchange_keys(site: Site, nodes: int) -> None:
    """Collect the peer lines on control, and give every node the same peers.d, as docs/howto/fleet.md does."""
    site.type("control", "remaphore peer add --drop-in --verbs ping,deploy --file own.peer")
    lines = " ".join(f"../web{number}/own.peer" for number in range(1, nodes + 1))
    site.type("control", f"cat {lines} > web.peers && remaphore peer add --drop-in --verbs ping --file web.peers")
    for number in range(1, nodes + 1):
        site.type(f"web{number}", "rm -rf remaphore/peers.d && cp -r ../control/remaphore/peers.d remaphore/peers.d")


def start_node(site: Site, number: int) -> None:
    machine = f"web{number}"
    folder = site.folder / machine / "remaphore" / "hooks.d" / "deploy"
    folder.mkdir(parents=True, mode=0o755)
    handler = folder / "10-version"
    handler.write_text(HANDLER)
    handler.chmod(0o755)
    site.start(machine, "remaphore run --hooks remaphore/hooks.d", "ready")


def roll_out(site: Site) -> None:
    """Deploy to all in batches: one fails, one hangs, one is absent; then repair these, and ask only these again."""
    (site.folder / "web4" / "remaphore" / "full").touch()
    (site.folder / "web7" / "remaphore" / "hanging").touch()
    line = (
        "remaphore request --to 'com.example.web.*' --verb deploy --batch 4 --timeout 5s --json --save result.json v42"
    )
    first = json.loads(site.type("control", line, code=4))
    assert first["summary"]["failed"] == ["com.example.web.4"]
    assert first["summary"]["missing"] == ["com.example.web.7", "com.example.web.9"]
    assert len(first["summary"]["ok"]) == 9

    (site.folder / "web4" / "remaphore" / "full").unlink()
    (site.folder / "web7" / "remaphore" / "hanging").unlink()
    site.stop("web7")
    site.start("web7", "remaphore run --hooks remaphore/hooks.d", "ready")
    start_node(site, 9)
    again = site.type("control", "remaphore request --retry result.json --save result.json --verb deploy v42")
    assert sorted(again.splitlines()) == [f"com.example.web.{number},0,deployed v42" for number in (4, 7, 9)]
    nothing = site.type("control", "remaphore request --retry result.json --verb deploy v42")
    assert nothing == ""
    for number in range(1, 13):
        assert (site.folder / f"web{number}" / "remaphore" / "versions").read_text() == "v42\n"


def rotate_key(site: Site) -> None:
    """Give web1 a new key, as docs/howto/rotate-keys.md does."""
    site.type("web1", "remaphore peer show > old.peer && remaphore identity add > new.peer")
    site.reload("web1")
    site.type("control", "remaphore peer add --drop-in --rotate --verbs ping --file ../web1/new.peer")
    site.type("control", "remaphore request --to com.example.web.1 --verb deploy --id during v42-1")
    site.type("web1", "remaphore identity default $(cut -d ' ' -f 3 new.peer)")
    site.reload("web1")
    site.type("control", "remaphore peer remove $(cut -d ' ' -f 3 ../web1/old.peer)")
    site.type("control", "remaphore request --to com.example.web.1 --verb deploy --id after v42-2")
    site.type("web1", "remaphore identity remove --delete-key-file $(cut -d ' ' -f 3 old.peer)")
    site.reload("web1")
    site.type("control", "remaphore request --to com.example.web.1 --verb deploy --id end v42-3")
    site.type("web1", "mv new.peer own.peer")
