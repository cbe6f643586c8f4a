"""Whatever a test finds, it leaves no process behind."""

import asyncio
import contextlib
import os
import signal

import pytest

from remaphore_plugins.exec_script import process
from remaphore_plugins.exec_script.orphans import set_subreaper
from tests.plugins.exec_script.helpers import alive, marked


@pytest.fixture(autouse=True)
def no_survivor(tmp_path):
    """Kill what survived a failing test: what it marked, and the process whose pid stands in its file `pid`."""
    yield
    file = tmp_path / "pid"
    named = {int(file.read_text())} if file.is_file() and file.read_text().endswith("\n") else set()
    for pid in marked() | {pid for pid in named if alive(pid)}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(autouse=True)
def no_subreaper():
    """Leave the orphans to init again: the process of the tests outlives the plugin that adopts them."""
    yield
    set_subreaper(False)


@pytest.fixture
def brief_grace(monkeypatch):
    """Cut the time between TERM and KILL short, for what does not listen to TERM."""
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.1)


@pytest.fixture
async def put_forward(monkeypatch):
    """Return a function that puts the event loop's clock forward, so that a timer is due without waiting for it."""
    loop, offset = asyncio.get_running_loop(), [0.0]
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + offset[0])

    def move(seconds: float) -> None:
        offset[0] += seconds

    return move
