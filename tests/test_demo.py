"""`remaphore demo` runs real commands to its end, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.harness.fleet import environment


def test_the_demonstration_shows_a_semaphore_and_a_request_and_leaves_no_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "remaphore", "demo"]
    env = environment(TMPDIR=str(tmp_path))
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=env)
    assert done.returncode == 0, done.stderr
    lines = set(done.stdout.splitlines())
    assert lines >= {"left continues", "right continues", "tokyo continues"}
    assert lines >= {"com.example.us.left,0,all is well", "com.example.jp.tokyo,1,no space left on device"}
    assert "3 expected, 2 ok, 1 failed" in done.stderr
    assert list(tmp_path.iterdir()) == []
