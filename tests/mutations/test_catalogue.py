"""Each promise has a mutation, and each mutation turns the test that the page names red."""

from __future__ import annotations

import ast

import pytest

from tests.mutations import runner
from tests.mutations.catalogue import ROOT, mutations, promises

MUTATIONS = mutations()
# Tests that no mutation turns red, each with the reason.
WITHOUT = {
    "tests/attacks/test_secret_leaks.py::test_no_secret_is_in_the_arguments_or_the_environment_of_a_running_process": (
        "no code would put one there: it guards against a program that starts itself again"
    ),
    "tests/attacks/test_secret_leaks.py::test_nothing_that_the_command_line_says_quotes_a_secret": (
        "it compares what eight commands say; no one place keeps the promise"
    ),
}


@pytest.mark.places
def test_each_promise_and_each_test_that_it_names_has_a_mutation() -> None:
    rows = promises()
    assert len(rows) > 70
    without = {row.text for row in rows} - {each.promise.text for each in MUTATIONS}
    assert without == set(), f"tests/mutations/*.toml: add a mutation for each of {without}"
    named, mutated = {name for row in rows for name in row.tests}, {name for each in MUTATIONS for name in each.tests}
    unmutated = named - mutated - WITHOUT.keys()
    assert unmutated == set(), f"tests/mutations/*.toml: add a mutation that turns each of these red: {unmutated}"
    assert WITHOUT.keys() - (named - mutated) == set(), "take it from the list"


def test_no_two_mutations_have_the_same_name() -> None:
    names = [each.name for each in MUTATIONS]
    assert sorted(names) == sorted(set(names))


@pytest.mark.places
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_can_be_applied_and_its_tests_exist(mutation) -> None:
    changed = mutation.mutated()
    assert changed != (ROOT / mutation.file).read_text()
    if mutation.file.endswith(".py"):
        ast.parse(changed)
    for name in mutation.tests:
        file, _, function = name.partition("::")
        assert f"def {function}(" in (ROOT / file).read_text()


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_each_mutation_turns_the_named_tests_red(capsys) -> None:
    with capsys.disabled():
        assert runner.run(MUTATIONS, report=print) == []
