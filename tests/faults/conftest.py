"""Fixtures of the fault tests: a site whose processes are ended, whatever became of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.fault_site import FaultSite

MakeSite = Callable[..., FaultSite]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each of these tests more than the usual minute: they wait for faults, longer on a machine that is busy."""
    for item in items:
        if item.path.parent == Path(__file__).parent and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[MakeSite]:
    """Makes sites: sites(*servers), each in a folder of its own."""
    made: list[FaultSite] = []

    def make(*servers: str) -> FaultSite:
        made.append(FaultSite(tmp_path / f"site{len(made)}", *servers))
        return made[-1]

    yield make
    for site in made:
        site.end()
