"""What running handlers needs of the kernel: each call that is denied is a finding with its effect; nothing changes."""

import subprocess
import sys
from pathlib import Path

import pytest

from remaphore.diagnostics.findings import Code, Level
from remaphore.diagnostics.runtime import check_runtime
from tests.harness.seccomp import denying

ROOT = Path(__file__).parents[2]
SHOW = "from remaphore.diagnostics.runtime import check_runtime; print(*check_runtime(), sep='\\n')"


def test_nothing_is_found_where_nothing_is_denied():
    assert list(check_runtime()) == []


@pytest.mark.parametrize(
    ("errno", "call", "level", "what"),
    [
        (1, "pidfd_open", Level.NOTE, "Operation not permitted: the end of a handler is noticed by polling"),
        (38, "pidfd_open", Level.NOTE, "Function not implemented: the end of a handler is noticed by polling"),
        (1, "prctl", Level.WARNING, "processes that handlers leave behind are not ended with them"),
    ],
)
def test_denied_call_is_a_finding(errno, call, level, what):
    command = [*denying(errno, call), sys.executable, "-c", SHOW]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    [line] = done.stdout.splitlines()
    assert repr(level) in line
    assert repr(Code.RUNTIME_LIMITED) in line
    assert call in line
    assert what in line


def test_the_proc_of_another_pid_namespace_is_a_finding():
    command = ["unshare", "--pid", "--fork", sys.executable, "-c", SHOW]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no pid namespace here: {done.stderr.strip()}")
    [line] = done.stdout.splitlines()
    assert "'/proc', what='that of another pid namespace: at a timeout, " in line


def test_proc_that_is_not_mounted_is_a_finding():
    """In a mount namespace of its own, with an empty file system over /proc."""
    script = 'mount -t tmpfs none /proc && exec "$0" -c "$1"'
    command = ["unshare", "--mount", "sh", "-c", script, sys.executable, SHOW]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    [line] = done.stdout.splitlines()
    assert "'/proc', what='not mounted" in line
