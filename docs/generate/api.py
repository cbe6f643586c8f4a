"""The reference of the public Python names, for the site, made from signatures, annotations and docstrings.

Not mkdocstrings, which is well kept: it reads fields from sections that our docstrings do not have, cannot follow names
that are imported when first used, needs four further packages, and is a plugin of the MkDocs that ends in 2027.

A docstring says `field: meaning.` for each field of a class, each at the beginning of a sentence. What is missing is
named by tests/docs/test_api_page.py.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from importlib import import_module
from itertools import pairwise
from types import ModuleType
from typing import Any, NamedTuple

MODULES = ("remaphore", "remaphore.testing", "remaphore.text", "remaphore.nodeset", "remaphore.trust")
# Classes that public names return or contain: a plugin uses their instances, and imports none of them.
FURTHER = {
    "Node": "remaphore.node",
    "Request": "remaphore.requesting.requester",
    "Wait": "remaphore.receiving.wait",
    "Heard": "remaphore.receiving.wait",
    "HeldLock": "remaphore.coordination.held_lock",
    "Peer": "remaphore.protocol.peers",
    "PayloadRule": "remaphore.protocol.payloads",
    "Identity": "remaphore.config.settings",
    "Auth": "remaphore.config.settings",
    "AgentSettings": "remaphore.config.settings",
    "AgentRule": "remaphore.config.settings",
    "Tls": "remaphore.config.settings",
    "Problem": "remaphore.config.settings",
}
# Constructors and methods that only the host uses.
_INTERNAL = {
    *("Request", "Request.start", "Request.stop", "Request.end", "Wait", "HeldLock"),
    *("PluginContext", "HarnessNode", "HarnessNode.apply_config"),
}
_INTRODUCTION = """\
The names that plugins and other programs may import, from five modules. No other name of the package is public.
[Hooks](../hooks.md) has the functions that a plugin implements, [Writing a plugin](../writing-plugins.md) the steps."""
_FURTHER = """\
Instances of these are in the fields and results above. Their attributes and methods are public; to import them is not
necessary."""
_WIDTH = 88
_EMPTY = inspect.Parameter.empty


class _Shown(str):
    """A text that `inspect` shows without quotes."""

    __slots__ = ()
    __repr__ = str.__str__

    @classmethod
    def of(cls, annotation: Any) -> Any:
        """Return what to show for *annotation*: its source, as annotations are not evaluated here."""
        return cls(getattr(annotation, "__forward_arg__", annotation)) if annotation is not _EMPTY else _EMPTY

    @classmethod
    def default(cls, value: Any) -> Any:
        """Return what to show for a default value; `...` for a function, or what a factory makes."""
        return cls("...") if "<" in repr(value) and value is not _EMPTY else value


class Entry(NamedTuple):
    """A name of a module, and what it stands for. doc: its docstring, or the string that follows a constant."""

    name: str
    value: Any
    doc: str


def entries(module: str) -> Iterator[Entry]:
    """Yield each name in `__all__` of *module*."""
    loaded = import_module(module)
    for name in loaded.__all__:
        value = getattr(loaded, name)
        home = import_module(loaded._HOME[name]) if hasattr(loaded, "_HOME") else loaded
        yield Entry(name, value, _doc(value) if _is_documented(value) else constant_docs(home).get(name, ""))


def further() -> Iterator[Entry]:
    """Yield the classes of `FURTHER`."""
    for name, module in FURTHER.items():
        value = getattr(import_module(module), name)
        yield Entry(name, value, _doc(value))


def page() -> Iterator[str]:
    """Yield the page, as Markdown."""
    yield f"# Python API\n\n{_INTRODUCTION}\n"
    known = {entry.name for module in MODULES for entry in entries(module)} | FURTHER.keys()
    for module in MODULES:
        yield f"## {module}\n"
        yield from _prose(_doc(import_module(module)))
        for entry in entries(module):
            yield from _entry(entry, known)
    yield f"## Further classes\n\n{_FURTHER}\n"
    for entry in further():
        yield from _entry(entry, known)


def fields(value: Any) -> dict[str, str]:
    """Return the fields of a class by name, each with its annotation; empty for what has none."""
    if not inspect.isclass(value):
        return {}
    if issubclass(value, enum.Enum):
        return dict.fromkeys((each.value for each in value), value.__name__)
    if dataclasses.is_dataclass(value):
        return {field.name: str(field.type) for field in dataclasses.fields(value) if not field.name.startswith("_")}
    return {name: _Shown.of(value.__annotations__[name]) for name in getattr(value, "_fields", ())}


def meanings(doc: str, names: Mapping[str, str]) -> dict[str, str]:
    """Return what *doc* says about each of *names*: the text from `name: ` to the next one, or to its paragraph's end.

    `Two numbers. a: the first. b: the second, in s.` has the meanings `the first.` and `the second, in s.`
    """
    found: dict[str, str] = {}
    for paragraph in _paragraphs(doc):
        parts = _split(paragraph, names)
        found |= dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))
    return found


def methods(value: Any) -> dict[str, Any]:
    """Return the public methods and properties of a class, by name: its own, and those of its private bases."""
    if not inspect.isclass(value):
        return {}
    return {
        name: member
        for kind in (value, *(base for base in value.__mro__ if base.__name__.startswith("_")))
        for name, member in vars(kind).items()
        if not name.startswith("_")
        and f"{value.__name__}.{name}" not in _INTERNAL
        and (isinstance(member, (property, classmethod)) or inspect.isfunction(member))
    }


def signature(name: str, value: Any) -> str:
    """Return the signature of a function or constructor, as it is written, on lines that are not too wide."""
    called = value.__func__ if isinstance(value, classmethod) else value
    declared = inspect.signature(called)
    parameters = [
        each.replace(annotation=_Shown.of(each.annotation), default=_Shown.default(each.default))
        for each in declared.parameters.values()
        if each.name not in {"self", "cls"}
    ]
    made = declared.replace(
        parameters=parameters,
        return_annotation=_EMPTY if inspect.isclass(called) else _Shown.of(declared.return_annotation),
    )
    text = str(made)
    kind = "async " if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called) else ""
    line = f"{kind}{name}{text}"
    if len(line) <= _WIDTH:
        return line
    head, _, rest = line.partition("(")
    inside, _, result = rest.rpartition(")")
    split = "".join(f"    {each.strip()},\n" for each in _top_level(inside))
    return f"{head}(\n{split}){result}"


def constant_docs(module: ModuleType) -> dict[str, str]:
    """Return the string that follows each assignment of *module*, by the name; also of names that it imports."""
    body = ast.parse(inspect.getsource(module)).body
    found: dict[str, str] = {}
    for each in body:
        if isinstance(each, ast.ImportFrom) and str(each.module).startswith("remaphore."):
            found |= constant_docs(import_module(str(each.module)))
    return found | {
        target.id: inspect.cleandoc(after.value.value)
        for before, after in pairwise(body)
        for target in (before.targets if isinstance(before, ast.Assign) else ())
        if isinstance(target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and isinstance(after.value.value, str)
    }


def _is_documented(value: Any) -> bool:
    return inspect.isclass(value) or inspect.isroutine(value)


def _doc(value: Any) -> str:
    # Not inspect.getdoc, which inherits: a dataclass or an exception without a docstring has none here.
    own = vars(value).get("__doc__") if inspect.isclass(value) else getattr(value, "__doc__", "")
    return inspect.cleandoc(own or "")


def _entry(entry: Entry, known: set[str]) -> Iterator[str]:
    name, value, doc = entry
    named, members = fields(value), methods(value)
    yield f"### {name}\n"
    shown = [_declaration(name, value)]
    yield f"```python\n{shown[0]}\n```\n"
    yield from _prose(doc, named)
    if named:
        said = meanings(doc, named)
        yield "| field | type | meaning |\n|---|---|---|"
        yield from (f"| `{each}` | {_code(kind)} | {_text(said.get(each, ''))} |" for each, kind in named.items())
        yield ""
    for each, member in members.items():
        shown.append(_member(f"{name}.{each}", member))
        yield f"```python\n{shown[-1]}\n```\n"
        yield from _prose(_doc(member))
    words = dict.fromkeys(re.findall(r"\w+", " ".join([*named.values(), *shown])))
    links = [f"[{word}](#{word.lower()})" for word in words if word in known and word != name]
    if links:
        yield f"See {', '.join(links)}.\n"


def _declaration(name: str, value: Any) -> str:
    if not _is_documented(value):
        return f"{name} = {value!r}" if isinstance(value, (int, float, str)) else name
    if inspect.isclass(value) and issubclass(value, enum.Enum):
        return "\n".join(f'{name}.{each.name} = "{each.value}"' for each in value)
    if inspect.isclass(value) and issubclass(value, Exception):
        line = f"class {name}({', '.join(base.__name__ for base in value.__bases__)})"
        return f"{line}\n{signature(name, value)}" if "__init__" in vars(value) else line
    if name in _INTERNAL or getattr(value, "_is_protocol", False):
        return f"class {name}"
    return signature(name, value)


def _member(name: str, member: Any) -> str:
    if isinstance(member, property):
        return f"{name}: {_Shown(inspect.signature(member.fget).return_annotation)}"  # type: ignore[arg-type]
    return signature(name, member)


def _paragraphs(doc: str) -> list[str]:
    return [each for each in re.split(r"\n[ \t]*\n", doc) if each.strip()]


def _split(paragraph: str, names: Mapping[str, str]) -> list[str]:
    """Return the text before the first of *names*, then each name and its text."""
    line = " ".join(paragraph.split())
    return re.split(rf"(?:^|(?<=[.;] ))({'|'.join(map(re.escape, names))}): ", line) if names else [line]


def _prose(doc: str, named: Mapping[str, str] = {}) -> Iterator[str]:
    """Yield the paragraphs of *doc* without the meanings of the fields *named*; code as a block."""
    for paragraph in _paragraphs(doc):
        if _is_code(paragraph):
            yield f"```python\n{textwrap.dedent(paragraph)}\n```\n"
        elif before := _split(paragraph, named)[0].strip():
            yield f"{_text(before)}\n"


def _is_code(paragraph: str) -> bool:
    """Return whether *paragraph* is Python: prose is not, except for a single word."""
    if paragraph.startswith("    "):
        return True
    try:
        body = ast.parse(paragraph).body
    except SyntaxError:
        return False
    return not all(isinstance(each, ast.Expr) and isinstance(each.value, ast.Name) for each in body)


def _top_level(parameters: str) -> Iterator[str]:
    """Yield the parts of *parameters* between commas that are in no bracket."""
    depth, part = 0, ""
    for character in parameters:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            yield part
            part = ""
        else:
            part += character
    yield part


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


def _text(text: str) -> str:
    """Escape, outside of code, what has a meaning in Markdown, but for the emphasis of parameters."""
    parts = re.split(r"(`[^`]*`)", text)
    escaped = (part.replace("|", "\\|") if number % 2 else _escape(part) for number, part in enumerate(parts))
    return "".join(escaped)


def _escape(text: str) -> str:
    return re.sub(r"(\*\*|[_<|\[\]$])", lambda found: "".join(f"\\{each}" for each in found[0]), text)
