"""A plugin's table is checked against the settings that the plugin declares."""

from dataclasses import InitVar, dataclass, field
from datetime import date, timedelta
from enum import Enum
from pathlib import Path
from typing import ClassVar, Literal, Optional, Tuple  # noqa: UP035 - an older spelling, which plugins may have

import pytest

from remaphore import PluginError
from remaphore.config import search
from remaphore.errors import DurationError
from remaphore.hooks.manager import configure, empty, register
from remaphore.hooks.settings import build, check_declaration
from remaphore.testing import make_config
from tests.harness.node_files import write_toml
from tests.hooks.sample_plugins import Fine, Other


class Mode(Enum):
    FAST = "fast"
    SAFE = "safe"


class Plugin:
    @dataclass(frozen=True)
    class Settings:
        name: str
        on: bool = False
        number: int = 1
        seconds: float = 1.5
        folder: Path | None = None
        tags: tuple[str, ...] = field(default_factory=lambda: ("a",))
        interval: timedelta = timedelta(seconds=30)
        level: Literal["low", "high"] = "low"
        mode: Mode = Mode.FAST
        ports: Tuple[int, ...] = ()  # noqa: UP006 - an older spelling, which plugins may have
        places: tuple[Path, ...] = ()
        waits: Optional[tuple[timedelta, ...]] = None  # noqa: UP045 - the same


def settings(plugin=Plugin, **table):
    return build(plugin(), table, name="own", source="/etc/x.toml")


def error_of(plugin, table):
    with pytest.raises(PluginError) as caught:
        settings(plugin, **table)
    return str(caught.value).removeprefix("/etc/x.toml: plugins.own"), caught.value.hint


def test_every_type_is_built_from_its_value():
    table = {"name": "n", "on": True, "number": 2, "seconds": 3, "folder": "/srv", "tags": ["b", "c"]}
    table |= {"interval": "1m30s", "level": "high", "mode": "safe", "ports": [1, 2], "places": ["a", "/b"]}
    assert settings(**table, waits=["1ms", "1ns"]) == Plugin.Settings(
        *("n", True, 2, 3.0, Path("/srv"), ("b", "c"), timedelta(seconds=90), "high", Mode.SAFE, (1, 2)),
        (Path("/etc/a"), Path("/b")),
        (timedelta(milliseconds=1), timedelta(microseconds=1)),
    )


def test_what_is_not_in_the_table_has_its_default():
    assert settings(name="") == Plugin.Settings("")


def test_a_relative_path_starts_at_the_directory_of_the_file_as_those_of_the_core(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "etc").mkdir()
    write_toml(tmp_path / "etc/x.toml", 1, "com.a", settings='hooks = ["hooks"]\n')
    config = search.load("etc/x.toml", {})
    built = build(Plugin(), {"name": "", "folder": "~/data"}, name="own", source=config.source)
    assert (built.folder, *config.hooks) == (tmp_path / "etc/~/data", tmp_path / "etc/hooks")


@pytest.mark.parametrize(
    ("key", "value", "error", "hint"),
    [
        ("name", 1, ".name: must be a string, not an integer", 'write name = "..."'),
        ("on", 1, ".on: must be true or false, not an integer", "write on = true"),
        ("number", True, ".number: must be an integer, not true or false", "write number = 1"),
        ("number", 1.0, ".number: must be an integer, not a number", "write number = 1"),
        ("seconds", True, ".seconds: must be a number, not true or false", "write seconds = 1.5"),
        ("seconds", "1s", ".seconds: must be a number, not a string", "write seconds = 1.5"),
        ("seconds", float("nan"), ".seconds: must be a finite number", "write seconds = 1.5"),
        ("seconds", int("9" * 400), ".seconds: must be a finite number", "write seconds = 1.5"),
        ("folder", "", ".folder: empty", "write a value or delete it"),
        ("folder", False, ".folder: must be a string, not true or false", 'write folder = "FILE"'),
        ("tags", "a", ".tags: must be an array, not a string", 'write tags = ["..."]'),
        ("tags", ["a", 1], ".tags[1]: must be a string, not an integer", 'write tags = ["..."]'),
        ("interval", 30, ".interval: must be a string, not an integer", 'write interval = "30s"'),
        ("interval", "30", ".interval: missing unit in duration '30'", "add a unit, for example 30s"),
        ("interval", "-1s", ".interval: must be more than 0", "use a value such as 5s"),
        ("interval", "", ".interval: empty", "write a value or delete it"),
        ("waits", ["1s", "x" * 90], ".waits[1]: too long for a duration", DurationError.default_hint),
        ("level", "hihg", ".level: unknown value", 'did you mean "high"? (known values: "low", "high")'),
        ("mode", "Q", ".mode: unknown value", 'known values: "fast", "safe"'),
        ("mode", 1, ".mode: must be a string, not an integer", 'write mode = "fast"'),
        ("places", ["a", ""], ".places[1]: empty", "write a value or delete it"),
        ("ports", [1, date(2026, 1, 1)], ".ports[1]: must be an integer, not a date or time", "write ports = [1]"),
    ],
)
def test_a_wrong_value_is_an_error_with_file_table_and_key_that_does_not_show_it(key, value, error, hint):
    assert error_of(Plugin, {"name": "n", key: value}) == (error, hint)


def test_a_missing_key_is_an_error_with_a_line_to_add():
    assert error_of(Plugin, {}) == (".name: missing", 'add name = "..." to [plugins.own]')


NEWER = " (if a newer version of the plugin knows this key, update this one)"


@pytest.mark.parametrize(
    ("key", "error", "hint"),
    [
        ("nmae", ".nmae: unknown key", f"did you mean name?{NEWER}"),
        ("Mode", ".Mode: unknown key", f"did you mean mode?{NEWER}"),
        ("n\u00e4me", '."...": unknown key', f"did you mean name?{NEWER}"),
        ("na\u200bme", '."...": unknown key', "delete or replace U+200B zero width space"),
        ("S" * 56, '."...": unknown key', f"known keys: {', '.join(Plugin.Settings.__annotations__)}{NEWER}"),
    ],
)
def test_an_unknown_key_is_an_error_that_says_which_was_meant(key, error, hint):
    assert error_of(Plugin, {"name": "", key: 1}) == (error, hint)


class Bare:
    pass


class Empty:
    @dataclass(frozen=True)
    class Settings:
        LIMIT: ClassVar[int] = 3


@pytest.mark.parametrize("plugin", [Bare, Empty])
def test_a_plugin_without_settings_has_no_keys(plugin):
    assert settings(Bare) is None
    assert error_of(plugin, {"x": 1}) == (".x: unknown key", "it has no settings: delete [plugins.own]")


def test_a_name_that_needs_quotes_in_the_file_has_them_in_the_error():
    with pytest.raises(PluginError, match=r'^x.toml: plugins."acme.disk".name: missing$') as caught:
        build(Plugin(), {}, name="acme.disk", source="x.toml")
    assert caught.value.hint == 'add name = "..." to [plugins."acme.disk"]'


@dataclass(frozen=True)
class Base:
    common: str
    shared: ClassVar[int] = 3


class Child:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Settings(Base):
        count: int = 1
        computed: int = field(init=False, default=0)


def test_settings_may_inherit_have_slots_and_class_variables():
    built = settings(Child, common="c", count=2)
    assert (built.common, built.count, built.shared) == ("c", 2, 3)
    for key in ("shared", "computed"):
        assert error_of(Child, {"common": "c", key: 1})[0] == f".{key}: unknown key"


class Mutable:
    @dataclass
    class Settings:
        name: str = ""


class Untyped:
    class Settings:
        name = ""


class Strange:
    @dataclass(frozen=True)
    class Settings:
        names: dict[str, int] = field(default_factory=dict)


class Either:
    @dataclass(frozen=True)
    class Settings:
        value: int | str = 0


class Undecorated:
    class Settings(Base):
        count: int = 1


class Initial:
    @dataclass(frozen=True)
    class Settings:
        count: InitVar[int]


class Unresolved:
    @dataclass(frozen=True)
    class Settings:
        where: "Elsewhere" = ""  # noqa: F821 - as after `if TYPE_CHECKING: from x import Elsewhere`


class Built:
    Settings = Base("c")


class Numbered:
    @dataclass(frozen=True)
    class Settings:
        level: Literal["a", 1] = 1


class Listed:
    @dataclass(frozen=True)
    class Settings:
        names: list[str] = field(default_factory=list)


@pytest.mark.parametrize(
    ("plugin", "cause"),
    [
        (Undecorated, "not a frozen dataclass"),
        (Built, "not a frozen dataclass"),
        (Initial, "parameter 'count' that is not a field"),
        (Unresolved, "an annotation that cannot be evaluated: name 'Elsewhere' is not defined; import"),
        (Numbered, "field 'level' whose type is not"),
        (Listed, "field 'names' whose type is not str, .* or a tuple"),
        (Mutable, "not a frozen dataclass"),
        (Untyped, "not a frozen dataclass"),
        (Strange, "field 'names' whose type is not"),
        (Either, "field 'value' whose type is not"),
    ],
)
def test_settings_that_no_table_could_fill_are_an_error_when_the_plugin_is_loaded(plugin, cause):
    with pytest.raises(TypeError, match=cause):
        check_declaration(plugin())
    with pytest.raises(TypeError, match=cause):
        register(empty(), type("Both", (plugin, Fine), {}), name="both")


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (KeyError("colour"), "plugins.checking: KeyError: 'colour'"),
        (ZeroDivisionError(), "plugins.checking: ZeroDivisionError"),
        (SystemExit(7), "plugins.checking: SystemExit: 7"),
        (ValueError("too many"), "plugins.checking: too many"),
        (ValueError("limit: must be 1 or more"), "plugins.checking.limit: must be 1 or more"),
        (PluginError("limit: odd", hint="use 2"), "plugins.checking.limit: odd"),
        (ValueError("other: odd"), "plugins.checking: other: odd"),
    ],
)
def test_whatever_the_check_of_a_plugins_settings_raises_is_an_error_that_names_the_plugin(error, cause):
    @dataclass(frozen=True)
    class Settings:
        limit: int = 0

        def __post_init__(self):
            raise error

    manager = empty()
    register(manager, type("Checking", (Fine,), {"Settings": Settings}), name="checking")
    with pytest.raises(PluginError) as caught:
        configure(manager, make_config())
    assert str(caught.value) == f"make_config(): {cause}"
    assert caught.value.hint == (
        "use 2" if "odd" in cause and "limit" in cause else f"change {cause.partition(':')[0]}"
    )


def test_a_table_of_a_plugin_that_is_not_installed_is_an_error_and_one_that_is_not_loaded_is_not():
    manager = empty()
    register(manager, Other, name="other")
    configure(manager, make_config(plugins={"metrics": {"nosuch": 1}}))
    with pytest.raises(PluginError, match=r"plugin 'nosuch' is not installed \(installed: .*metrics") as caught:
        configure(manager, make_config(plugins={"nosuch": {}}))
    assert caught.value.hint == "install it with pip, or delete [plugins.nosuch] of make_config()"
    with pytest.raises(PluginError, match="plugin 'metrcs' is not installed") as caught:
        configure(manager, make_config(plugins={"metrcs": {}}))
    assert caught.value.hint.startswith("did you mean metrics? If not, install it with pip, or delete")


def test_no_plugin_is_configured_if_a_table_of_another_is_wrong():
    manager = empty()
    register(manager, Fine, name="first")
    register(manager, Other, name="second")
    with pytest.raises(PluginError, match=r"make_config\(\): plugins.second.mm: unknown key") as caught:
        configure(manager, make_config(plugins={"second": {"mm": 1}}))
    assert caught.value.hint == f"known keys: n{NEWER}"
    assert manager.get_plugin("first").settings is None
