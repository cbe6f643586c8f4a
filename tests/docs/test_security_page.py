"""docs/security.md names existing tests, every attack, and the current limits."""

import ast
import re
from functools import cache, reduce
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`", PAGE)))
LIMITS = re.findall(r"^\| [^|]+ \| `([\w.]+)` \| ([\d.]+) \| [^|]+ \|$", PAGE, re.MULTILINE)
PROMISES = [
    line
    for line in PAGE.partition("## Promises")[2].partition("## What is not promised")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| promise ")
]


@cache
def defined(file):
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_is_named_exists(file, name):
    assert (ROOT / file).is_file()
    assert not name or name in defined(file)


def test_each_promise_has_a_test_and_there_are_promises():
    assert len(PROMISES) > 20
    assert [line for line in PROMISES if "::test_" not in line] == []


def test_each_attack_is_on_the_page_and_states_the_attacker_and_what_must_happen():
    files = sorted((ROOT / "tests" / "attacks").glob("test_*.py"))
    assert files
    listed = {file for file, name in NAMED if not name}
    assert [path.name for path in files if f"tests/attacks/{path.name}" not in listed] == []
    texts = {path.name: ast.get_docstring(ast.parse(path.read_text())) or "" for path in files}
    assert [name for name, text in texts.items() if "Attacker: " not in text or "must happen" not in text] == []


@pytest.mark.parametrize(("name", "value"), LIMITS)
def test_a_limit_on_the_page_is_that_of_the_code(name, value):
    parts = name.split(".")
    modules = [".".join(parts[:count]) for count in range(1, len(parts)) if parts[count - 1].islower()]
    module = import_module(modules[-1])
    assert str(reduce(getattr, parts[len(modules) :], module)) == value


def test_no_limit_is_left_out_of_the_check():
    table = PAGE.partition("| what | name | value | where |")[2].partition("\n\n")[0]
    assert len(LIMITS) == len(table.strip().splitlines()) - 1 > 20
