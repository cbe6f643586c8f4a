"""Fixtures that several packages' tests use."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
import pytest_asyncio
import structlog

from remaphore import logs
from remaphore.embedded.broker import Broker
from tests.harness.fleet import DESTINATIONS, Fleet, running_fleet
from tests.harness.nats_server import NatsServer, running

# What the caller ignores or blocks, as nohup and background jobs do, the commands that the tests start would inherit.
signal.pthread_sigmask(signal.SIG_SETMASK, ())
for _number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

# A busy machine is no reason to fail; the long profile is for `make test-long`.
hypothesis.settings.register_profile("default", deadline=None, print_blob=True)
hypothesis.settings.register_profile("long", deadline=None, print_blob=True, max_examples=20_000)
hypothesis.settings.load_profile("default")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Undo what a test has set up with `remaphore.logs`, which holds on to its stderr."""
    root, loop = logging.getLogger(), logging.getLogger("asyncio")
    levels = root.level, loop.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = [handler for handler in root.handlers if not isinstance(handler, logs._Forward)]
    for logger, level in zip((root, loop), levels, strict=True):
        logger.setLevel(level)


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A real nats-server that asks for no login."""
    async with running(tmp_path / "server") as server:
        yield server


@pytest_asyncio.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """The embedded broker, running, with its login."""
    async with Broker(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """The broker of three nodes, in a process of its own."""
    with running_fleet(tmp_path) as fleet:
        yield fleet


@pytest.fixture
def nodes(fleet: Fleet) -> dict[str, Path]:
    """The configurations of the three nodes, in TOML."""
    return {name: fleet.config(name) for name in DESTINATIONS}
