"""Every error has a hint: at the place that raises it, in its class, or its class states why none can exist.

The source is read, not run: each `raise` of a RemaphoreError in remaphore/ and plugins/ is a case.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from remaphore import errors
from remaphore.errors import RemaphoreError

ROOT = Path(__file__).parents[1]
FILES = [*(ROOT / "remaphore").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
# A hint in a message: after a semicolon or in brackets, or the words that once introduced one.
HINT = re.compile(
    r"; (?:add|begin|check|choose|copy|correct|delete|edit|get|give|install|keep|leave|make|move|name|open|put|remove"
    r"|repeat|report|run|save|say|see|set|start|stop|take|update|use|write)\b|\bhint\b|\bmends?\b|\(write "
)


def classes() -> dict[str, bool]:
    """Return the name of each error class in the source, and whether it has a default hint or a reason for none."""
    found = {
        name: cls for name, cls in vars(errors).items() if isinstance(cls, type) and issubclass(cls, RemaphoreError)
    }
    known = {name: bool(cls.default_hint or cls.no_hint) for name, cls in found.items()}
    definitions = [node for file in FILES for node in ast.walk(tree(file)) if isinstance(node, ast.ClassDef)]
    before = -1
    while before != len(known):  # until no class has a base that is not known yet
        before = len(known)
        for node in definitions:
            bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
            if node.name not in known and any(base in known for base in bases):
                own = {ast.unparse(target) for each in node.body for target in targets(each)}
                known[node.name] = bool(own & {"default_hint", "no_hint"}) or any(known.get(base) for base in bases)
    return known


def targets(node: ast.stmt) -> list[ast.expr]:
    if isinstance(node, ast.AnnAssign):
        return [node.target] if node.value else []
    return node.targets if isinstance(node, ast.Assign) else []


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


CLASSES = classes()


def calls(source: ast.AST) -> Iterator[ast.Call]:
    """Yield each call that makes an error of ours, raised there or returned for it."""
    for node in ast.walk(source):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in CLASSES:
            yield node


def literals(call: ast.Call) -> str:
    """Return the text of a message as far as it is written there, with `{}` for what is computed."""
    parts: list[str] = []
    for argument in call.args[:1]:
        for node in ast.walk(argument):
            if isinstance(node, ast.JoinedStr):
                parts.append("".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values))  # type: ignore[misc]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts.append(node.value)
    return "\n".join(parts)


def problems(source: ast.AST) -> Iterator[str]:
    """Yield what is wrong with each error in *source*: no hint anywhere, or a hint in its message."""
    for call in calls(source):
        name = ast.unparse(call.func).rpartition(".")[2]
        hinted = any(keyword.arg == "hint" for keyword in call.keywords)
        if not hinted and not CLASSES[name]:
            yield f"{call.lineno}: {name} has no hint= here, and its class neither default_hint nor no_hint"
        if HINT.search(literals(call)):
            yield f"{call.lineno}: the message of {name} contains a hint, which is a field: {literals(call)!r}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_each_error_has_a_hint_and_none_in_its_message(file: Path) -> None:
    assert list(problems(tree(file))) == []


def test_the_classes_are_found() -> None:
    assert {"RemaphoreError", "UsageError", "ConfigError", "DecodeError", "LedgerError"} <= CLASSES.keys()
    assert [name for name, hinted in CLASSES.items() if not hinted] == ["RemaphoreError"]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("raise RemaphoreError('cannot do it')", 1),
        ("raise RemaphoreError('cannot do it', hint='use another')", 0),
        ("raise ConfigError('a.toml: empty')", 0),
        ("raise ConfigError('a.toml: empty; write a value')", 1),
        ("raise errors.ConfigError(f'{path}: empty; hint: ' + words)", 1),
        ("raise DecodeError('too long')", 0),
        ("raise ValueError('empty; write a value')", 0),
    ],
)
def test_the_check_finds_a_missing_hint_and_one_in_a_message(text: str, count: int) -> None:
    assert len(list(problems(ast.parse(text)))) == count


def test_the_hint_is_that_of_the_place_or_of_the_class() -> None:
    assert errors.ConfigError("a").hint == errors.ConfigError.default_hint
    assert errors.ConfigError("a", hint="b").hint == "b"
    assert errors.DecodeError("a").hint == ""
