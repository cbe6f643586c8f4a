"""docs/reliability.md names a test for each fault, and has a row for each test of tests/faults."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "reliability.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| fault ")]
NAMED = re.findall(r"`([\w/]+\.py)::(test_\w+)`", PAGE)
ABOUT_THE_CHECKER = "faults/test_accounts.py"


def defined(file):
    return re.findall(r"^(?:async )?def (test_\w+)\(", (TESTS / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_is_named_exists(file, name):
    assert name in defined(file)


def test_each_fault_has_a_test_and_there_are_faults():
    assert len(ROWS) > 30
    assert [row for row in ROWS if "::test_" not in row] == []


def test_each_test_of_a_fault_has_its_row():
    files = [f"faults/{path.name}" for path in sorted((TESTS / "faults").glob("test_*.py"))]
    assert ABOUT_THE_CHECKER in files
    there = {(file, name) for file in files if file != ABOUT_THE_CHECKER for name in defined(file)}
    assert there - set(NAMED) == set()
