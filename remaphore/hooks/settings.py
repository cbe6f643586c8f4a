"""A plugin's settings: the table `[plugins.NAME]`, checked against the frozen dataclass that the plugin declares.

    class Metrics:
        @dataclass(frozen=True)
        class Settings:
            listen: str = "127.0.0.1:9617"

A field without a default must be in the table. Values are never quoted in errors: one may be a secret in a wrong place.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from remaphore.errors import PluginError, hint_of

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,40}")  # shorter than a seed, in base58 or as an nkey


class _Kind(NamedTuple):
    """What a value of a TOML file must be for a field of one type, and how it becomes a value of that type."""

    name: str
    accepts: Callable[[object], bool]
    convert: Callable[[Any], object]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# By the type of the field. `check_declaration` rejects, when a plugin is loaded, a field of a type that is not here.
_KINDS: Mapping[object, _Kind] = {
    str: _Kind("a string", lambda value: isinstance(value, str), str),
    bool: _Kind("true or false", lambda value: isinstance(value, bool), bool),
    int: _Kind("an integer", lambda value: _is_number(value) and not isinstance(value, float), int),
    float: _Kind("a number", _is_number, float),
    Path: _Kind("a path, as a string", lambda value: isinstance(value, str) and value != "", Path),
    tuple[str, ...]: _Kind(
        "an array of strings",
        lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
        tuple,
    ),
}


def check_declaration(plugin: object) -> None:
    """Raise TypeError if the `Settings` of *plugin* cannot be built from a table; a plugin without any is fine."""
    declared = getattr(plugin, "Settings", None)
    if declared is None:
        return
    parameters = getattr(declared, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        raise TypeError("its Settings is not a frozen dataclass")
    hints = typing.get_type_hints(declared)
    for field in dataclasses.fields(declared):
        if _required_type(hints[field.name]) not in _KINDS:
            known = "str, bool, int, float, Path or tuple[str, ...]"
            raise TypeError(f"its Settings has a field {field.name!r} whose type is not {known}")


def build(plugin: object, table: Mapping[str, Any], *, name: str, source: str) -> object | None:
    """Return the `Settings` of *plugin* made of *table*; None if it declares none. Raise PluginError.

    name: the plugin's. source: the file with the table, for the hints.
    """
    declared = getattr(plugin, "Settings", None)
    place = f"[plugins.{name}] of {source}"
    fields = {field.name: field for field in dataclasses.fields(declared)} if declared else {}
    for key in table:
        if key not in fields:
            shown = repr(key) if _BARE_KEY.fullmatch(key) else '"..."'
            known = f"known keys of {place}: {', '.join(fields)}" if fields else f"it has no settings; delete {place}"
            raise PluginError(f"plugin {name!r}: unknown key {shown}", hint=known)
    if declared is None:
        return None
    values = {}
    hints = typing.get_type_hints(declared)
    for key, field in fields.items():
        kind = _KINDS[_required_type(hints[key])]
        if key in table:
            if not kind.accepts(table[key]):
                raise PluginError(f"plugin {name!r}: {key!r} is not {kind.name}", hint=f"change {key} of {place}")
            values[key] = kind.convert(table[key])
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise PluginError(f"plugin {name!r}: missing key {key!r}", hint=f"add {key}, {kind.name}, to {place}")
    try:
        return typing.cast("object", declared(**values))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the plugin's own check, in `__post_init__`; sys.exit() in it included
        from remaphore.hooks.manager import cause

        raise PluginError(f"plugin {name!r}: {cause(error)}", hint=hint_of(error) or f"change {place}") from error


def _required_type(declared: object) -> object:
    """Return `X` for `X | None`, of which None can only be the default, and every other type as it is."""
    if isinstance(declared, types.UnionType) or typing.get_origin(declared) is typing.Union:
        others = [each for each in typing.get_args(declared) if each is not type(None)]
        return others[0] if len(others) == 1 else declared
    return declared
