"""A plugin's settings: the table `[plugins.NAME]`, checked against the frozen dataclass that the plugin declares.

    class Watcher:
        @dataclass(frozen=True)
        class Settings:
            folder: Path
            interval: timedelta = timedelta(seconds=30)

A field without a default must be in the table. Errors name file, table and key, as those of the core's own keys do.
Values are not quoted in errors, as one may be a secret in a wrong place; of durations, short texts are, as in the core.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from remaphore.config.tables import Table
from remaphore.errors import ConfigError, PluginError, cause, hint_of
from remaphore.protocol.duration import MICROSECOND
from remaphore.text import closest

# By the type of a field: what to write into the file, for hints.
_EXAMPLES: Mapping[object, str] = {
    str: '"..."',
    bool: "true",
    int: "1",
    float: "1.5",
    Path: '"FILE"',
    timedelta: '"30s"',
}
_KNOWN = (
    "str, bool, int, float, Path, timedelta, an enumeration or a Literal of strings, or a tuple[X, ...] of one of them"
)
_BARE_NAME = re.compile(r"[A-Za-z0-9_-]+")
_NO_HINTS = (ConfigError.default_hint, PluginError.default_hint)  # where the raising code has no better one


def check_declaration(plugin: object) -> None:
    """Raise TypeError if the `Settings` of *plugin* cannot be built from a table; a plugin without any is fine."""
    declared = getattr(plugin, "Settings", None)
    if declared is None:
        return
    parameters = vars(declared).get("__dataclass_params__") if inspect.isclass(declared) else None
    if parameters is None or not parameters.frozen:
        raise TypeError("its Settings is not a frozen dataclass: decorate the class with @dataclass(frozen=True)")
    try:
        hints = typing.get_type_hints(declared)
    except Exception as error:
        what = f"its Settings has an annotation that cannot be evaluated: {error}"
        raise TypeError(f"{what}; import or define the type at the top of the module") from error
    fields = _fields(declared)
    for name in fields:
        kind = _required_type(hints[name])
        scalar = _item_type(kind) or kind
        if scalar not in _EXAMPLES and not _choices(scalar):
            raise TypeError(f"its Settings has a field {name!r} whose type is not {_KNOWN}")
    for name in inspect.signature(declared).parameters:
        if name not in fields:
            raise TypeError(f"its Settings has a parameter {name!r} that is not a field (an InitVar cannot be a key)")


def build(plugin: object, table: Mapping[str, Any], *, name: str, source: str) -> object | None:
    """Return the `Settings` of *plugin* made of *table*; None if it declares none. Raise PluginError.

    name: the plugin's. source: the file with the table, whose directory is that of relative paths.
    """
    declared: Any = getattr(plugin, "Settings", None)
    at = f"plugins.{name if _BARE_NAME.fullmatch(name) else json.dumps(name)}"
    try:
        if table and (declared is None or not _fields(declared)):
            place = Table(table, source=source, known=None, at=at)
            raise place.error(next(iter(table)), "unknown key", f"it has no settings: delete [{at}]")
        return None if declared is None else _build(declared, table, at=at, source=source)
    except ConfigError as error:
        raise PluginError(str(error), hint=error.hint) from None


def _build(declared: Any, table: Mapping[str, Any], *, at: str, source: str) -> object:
    fields = _fields(declared)
    place = Table(table, source=source, known=fields, at=at, owner="version of the plugin")
    base = Path(source).absolute().parent
    hints = typing.get_type_hints(declared)
    values = {}
    for key, field in fields.items():
        kind = _required_type(hints[key])
        line = f"{key} = {_example(kind)}"
        if key in table:
            try:
                values[key] = _read(place, key, table[key], kind, base)
            except ConfigError as error:
                raise ConfigError(str(error), hint=f"write {line}" if error.hint in _NO_HINTS else error.hint) from None
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise place.error(key, "missing", f"add {line} to [{at}]")
    try:
        return typing.cast("object", declared(**values))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the plugin's own check, in `__post_init__`; sys.exit() in it included
        # `threshold: must be 1 or more` names its key; any other text is about the table.
        key, colon, what = cause(error).partition(": ")
        if not colon or key not in fields:
            key, what = "", cause(error)
        hint = hint_of(error)
        raise place.error(key, what, f"change {place.path(key)}" if hint in ("", *_NO_HINTS) else hint) from error


def _fields(declared: Any) -> dict[str, dataclasses.Field[Any]]:
    """Return the fields that a table may set, by name: not those with `init=False`."""
    return {field.name: field for field in dataclasses.fields(declared) if field.init}


def _required_type(declared: object) -> object:
    """Return `X` for `X | None`, of which None can only be the default, and every other type as it is."""
    if isinstance(declared, types.UnionType) or typing.get_origin(declared) is typing.Union:
        others = [each for each in typing.get_args(declared) if each is not type(None)]
        return others[0] if len(others) == 1 else declared
    return declared


def _item_type(kind: object) -> object | None:
    """Return `X` for `tuple[X, ...]`, None for every other type."""
    args = typing.get_args(kind)
    return args[0] if typing.get_origin(kind) is tuple and len(args) == 2 and args[1] is ... else None


def _choices(kind: object) -> dict[str, object]:
    """Return what each string stands for in the field's type, if that is an enumeration or a Literal of strings."""
    if typing.get_origin(kind) is typing.Literal:
        choices: dict[Any, object] = {each: each for each in typing.get_args(kind)}
    elif isinstance(kind, enum.EnumMeta):
        members: typing.Iterable[enum.Enum] = kind
        choices = {each.value: each for each in members}
    else:
        return {}
    return choices if all(isinstance(each, str) for each in choices) else {}


def _example(kind: object) -> str:
    item = _item_type(kind)
    if item is not None:
        return f"[{_example(item)}]"
    return next((json.dumps(choice) for choice in _choices(kind)), "") or _EXAMPLES[kind]


def _read(table: Table, at: str, value: object, kind: Any, base: Path) -> object:
    """Return *value*, which is at *at* of *table*, as an instance of the type *kind*. Raise ConfigError."""
    item = _item_type(kind)
    if item is not None:
        items = enumerate(table.check(at, value, list))
        return tuple(_read(table, f"{at}[{number}]", each, item, base) for number, each in items)
    choices = _choices(kind)
    if choices:
        word = table.check(at, value, str)
        if word not in choices:
            likely = closest(word, choices)
            known = f"known values: {', '.join(map(json.dumps, choices))}"
            raise table.error(at, "unknown value", f"did you mean {json.dumps(likely)}? ({known})" if likely else known)
        return choices[word]
    if kind is float:
        try:
            number = float(value) if type(value) is int else table.check(at, value, float)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise table.error(at, "must be a finite number")
        return number
    if kind is Path:
        return base / table.require_content(at, table.check(at, value, str))
    if kind is timedelta:
        # A timedelta counts microseconds; rounded up, so that more than 0 stays more than 0.
        nanoseconds = table.read_duration(at, table.require_content(at, table.check(at, value, str)))
        return timedelta(microseconds=-(-nanoseconds // MICROSECOND))
    return table.check(at, value, kind)
