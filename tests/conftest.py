"""Fixtures that several packages' tests use."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import pkgutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import coverage
import hypothesis
import pytest
import pytest_asyncio
import structlog

from remaphore import logs, protocol
from remaphore.embedded.broker import Broker
from tests.harness.caller import forget_the_caller
from tests.harness.fleet import DESTINATIONS, Fleet, running_fleet
from tests.harness.nats_server import NatsServer, running

forget_the_caller()


def _measure_no_children() -> None:
    """Let coverage measure the workers, and not the processes that tests start: that would double their time.

    It starts with this variable in each process, workers included, so only they may remove it.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.pop("COVERAGE_PROCESS_CONFIG", None)


def _measure_again(measured: coverage.Coverage) -> None:
    measured.start()
    _measure_no_children()  # each start sets the variable again


_measure_no_children()

# A busy machine is no reason to fail; the long profile is for `make test-long`.
hypothesis.settings.register_profile("default", deadline=None, print_blob=True)
hypothesis.settings.register_profile("long", deadline=None, print_blob=True, max_examples=20_000)
hypothesis.settings.load_profile("default")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object | None:
    """Keep the tests of a file with the mark `xdist_group` in one worker, where they share what took seconds to make.

    xdist's own `--dist loadgroup` has no effect with pytest 9.2, which has other names for its tests inside.
    """
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if _is_grouped(config.rootpath / file) else nodeid

    return ByFile(config, log)


@functools.cache
def _is_grouped(file: Path) -> bool:
    return "xdist_group(" in file.read_text()


def _measures_the_protocol_only(measured: coverage.Coverage | None) -> bool:
    return measured is not None and bool(measured.get_option("run:source"))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Interrupt the coverage of the protocol while the tests are collected: it doubles the time of their imports."""
    measured = coverage.Coverage.current()
    if not _measures_the_protocol_only(measured):
        return (yield)
    for module in pkgutil.iter_modules(protocol.__path__, f"{protocol.__name__}."):
        importlib.import_module(module.name)  # the lines of a module itself count, too
    measured.stop()
    try:
        return (yield)
    finally:
        _measure_again(measured)


@pytest.fixture(scope="module", autouse=True)
def _coverage_where_it_counts(request: pytest.FixtureRequest) -> Iterator[None]:
    """Interrupt coverage in tests that are not needed for its result: it multiplies the time of what computes.

    `make test` measures the protocol, all lines of which the tests of two folders run.
    """
    measured = coverage.Coverage.current()
    folder = request.path.relative_to(Path(__file__).parent).parts[0]
    elsewhere = folder not in {"protocol", "receiving"} or request.path.name == "test_lease_simulation.py"
    interrupted = folder in {"attacks", "faults"} or (_measures_the_protocol_only(measured) and elsewhere)
    if measured is not None and interrupted:
        measured.stop()
    yield
    if measured is not None and interrupted:
        _measure_again(measured)


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


@pytest.fixture(scope="session")
def broker_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The broker that the tests share: it keeps nothing, so what one test has sent, no other receives."""
    with running_fleet(tmp_path_factory.mktemp("broker")) as fleet:
        yield fleet


@pytest.fixture
def fleet(tmp_path: Path, broker_of_all: Fleet) -> Iterator[Fleet]:
    """Three nodes, and the broker of all tests, which runs in a process of its own and must not be stopped."""
    with running_fleet(tmp_path, like=broker_of_all) as fleet:
        yield fleet


@pytest.fixture
def nodes(fleet: Fleet) -> dict[str, Path]:
    """The configurations of the three nodes, in TOML."""
    return {name: fleet.config(name) for name in DESTINATIONS}
