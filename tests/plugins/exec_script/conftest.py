"""Whatever a test finds, it leaves no process behind."""

import contextlib
import os
import signal

import pytest

from tests.plugins.exec_script.helpers import alive


@pytest.fixture(autouse=True)
def no_survivor(tmp_path):
    """Kill the process whose pid stands in the test's file `pid`, should it have survived a failing test."""
    yield
    file = tmp_path / "pid"
    if file.is_file() and file.read_text().endswith("\n") and alive(int(file.read_text())):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(file.read_text()), signal.SIGKILL)
