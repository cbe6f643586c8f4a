"""The reference of the Python API has every public name, with every field, made from the docstrings."""

import builtins
import collections.abc
import dataclasses
import enum
import inspect
import pathlib
import re
import typing
from importlib import import_module

import pytest

from docs.generate import api

NAMES = [pytest.param(entry, id=f"{module}.{entry.name}") for module in api.MODULES for entry in api.entries(module)]
NAMES += [pytest.param(entry, id=entry.name) for entry in api.further()]
PAGE = "\n".join(api.page())
# Callables, a choice of strings, what a `MemoryBus` is, a secret that has no use in a plugin, classes of Python.
OPAQUE = {
    "Clock",
    "Deliver",
    "AuthKind",
    "Bus",
    "PrivateKey",
    "PathLike",
    "TracebackType",
    "Task",
    "AbstractAsyncContextManager",
}
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE))


@pytest.mark.places
@pytest.mark.parametrize("entry", NAMES)
def test_every_public_name_has_a_docstring_that_describes_each_field_and_method(entry):
    assert entry.doc, f"write a docstring for {entry.name}; for a constant, a string on the line after it"
    said = api.meanings(entry.doc, api.fields(entry.value))
    missing = [name for name in api.fields(entry.value) if not said.get(name)]
    assert missing == [], f"the docstring of {entry.name} lacks `name: meaning.` of {', '.join(missing)}"
    members = [name for name, member in api.methods(entry.value).items() if not inspect.getdoc(member)]
    assert members == [], f"{entry.name}: write the docstrings of {', '.join(members)}"
    section = SECTIONS[entry.name]
    assert all(f"| `{name}` | " in section for name in said)
    assert all(f"{entry.name}.{name}" in section for name in api.methods(entry.value))


def test_the_page_has_each_name_once_under_its_module():
    found = re.findall(r"^##+ (\S+)$", PAGE, re.MULTILINE)
    expected = [each for module in api.MODULES for each in (module, *import_module(module).__all__)]
    assert found == [*expected, *api.FURTHER]
    assert len({name.lower() for name in found}) == len(found), "two headings would have the same anchor"


@pytest.mark.places
def test_every_class_in_a_signature_is_on_the_page():
    known = {*SECTIONS, *OPAQUE}
    for module in (builtins, collections.abc, typing, pathlib):
        known |= set(vars(module))
    shown = "\n".join(re.findall(r"```python\n(?!from |async |assert )(.*?)```", PAGE, re.DOTALL))
    shown = re.sub(r"'[^']*'|\"[^\"]*\"|^\w+\.[A-Z_]+ = .*$", "", shown, flags=re.MULTILINE)
    classes = {word for word in re.findall(r"(?<!\w)[A-Z][a-z]\w*", shown) if word not in known}
    assert classes == set(), f"make them public, or add them to FURTHER of docs/generate/api.py: {classes}"


def test_no_public_module_has_a_name_that_is_neither_public_nor_private():
    for name in api.MODULES[2:]:
        module = import_module(name)
        own = {key for key, value in vars(module).items() if getattr(value, "__module__", "") == name and key[0] != "_"}
        assert own <= set(module.__all__), f"add them to __all__ of {name}, or begin their names with _"


def test_methods_of_a_private_base_are_shown():
    assert all(f"\n{call}(" in SECTIONS["Node"] for call in ("async Node.send", "Node.request", "async Node.reply"))


def test_what_is_shown_is_what_is_declared():
    @dataclasses.dataclass(frozen=True)
    class Pair:
        """Two numbers; see `a|b`.

        Pair(1)

        a: the first, in [s]. b: the second,
        which a_b explains.
        """

        a: "int | None"
        b: "dict[str, int]" = dataclasses.field(default_factory=dict)

        def total(self, *, scale: "float" = 1.0, then: "object" = lambda: 0) -> "float":
            """Return the sum."""

    entry = api.Entry("Pair", Pair, inspect.getdoc(Pair))
    assert "\n".join(api._entry(entry, {"Pair"})).split("\n\n") == [
        "### Pair",
        "```python\nPair(a: int | None, b: dict[str, int] = ...)\n```",
        "Two numbers; see `a\\|b`.",
        "```python\nPair(1)\n```",
        (
            "| field | type | meaning |\n|---|---|---|\n| `a` | `int \\| None` | the first, in \\[s\\]. |"
            "\n| `b` | `dict[str, int]` | the second, which a\\_b explains. |"
        ),
        "```python\nPair.total(*, scale: float = 1.0, then: object = ...) -> float\n```",
        "Return the sum.\n",
    ]
    assert api.fields(enum.Enum("E", {"A": "one"})) == {"one": "E"}
