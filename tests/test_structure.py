"""The shape of the code: short functions, short files, and few functions that exist only because of a limit."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for folder in ("remaphore", "plugins") for path in (ROOT / folder).rglob("*.py"))
FUNCTION_LINES, FILE_LINES = 50, 350
# Private functions that are used once, in percent of all functions. Comparable projects have about 5 %.
USED_ONCE = 15.0

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(text: str) -> list[Function]:
    """Return all functions of a file, the nested ones too."""
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, Function)]


def used_once(text: str) -> list[Function]:
    """Return the functions with a leading underscore whose name is twice in the file: its definition and one use."""
    return [
        node
        for node in functions(text)
        if re.match("_[^_]", node.name) and len(re.findall(rf"\b{node.name}\b", text)) == 2
    ]


def _lines(node: Function) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_function_and_no_file_is_too_long(path: Path) -> None:
    text = path.read_text()
    place = path.relative_to(ROOT)
    long = [f"{place}:{node.lineno} {node.name}" for node in functions(text) if _lines(node) > FUNCTION_LINES]
    assert long == []
    assert len(text.splitlines()) <= FILE_LINES


def test_few_functions_are_private_and_used_once() -> None:
    found, number = [], 0
    for path in FILES:
        text = path.read_text()
        number += len(functions(text))
        found += [f"{path.relative_to(ROOT)}:{node.lineno} {node.name}" for node in used_once(text)]
    assert 100 * len(found) / number < USED_ONCE, f"{len(found)} of {number}: inline some of\n" + "\n".join(found)


def test_what_is_used_once_is_counted() -> None:
    text = "def _once(): ...\ndef _twice(): ...\ndef public(): ...\n_once(), _twice(), _twice(), public()\n"
    assert [node.name for node in used_once(text)] == ["_once"]
