"""A plugin of pytest: `--at-most SECONDS` for each test, also for one that has a longer limit of its own.

The process ends there: what a mutant has broken may also keep a test from being cleaned up.
"""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--at-most", type=float, metavar="SECONDS")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Replace the limits of all tests."""
    for item in items:
        item.add_marker(pytest.mark.timeout(config.getoption("--at-most"), method="thread"), append=False)
