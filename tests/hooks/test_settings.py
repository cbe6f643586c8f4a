"""A plugin's table is checked against the settings that the plugin declares."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from remaphore import PluginError
from remaphore.hooks.manager import configure, empty, register
from remaphore.hooks.settings import build, check_declaration
from remaphore.testing import make_config
from tests.hooks.sample_plugins import Fine, Other


class Plugin:
    @dataclass(frozen=True)
    class Settings:
        name: str
        on: bool = False
        number: int = 1
        seconds: float = 1.5
        folder: Path | None = None
        tags: tuple[str, ...] = field(default_factory=lambda: ("a",))


def settings(**table):
    return build(Plugin(), table, name="own", source="x.toml")


def test_every_type_is_built_from_its_value():
    table = {"name": "n", "on": True, "number": 2, "seconds": 3, "folder": "/srv", "tags": ["b", "c"]}
    assert settings(**table) == Plugin.Settings("n", True, 2, 3.0, Path("/srv"), ("b", "c"))


def test_what_is_not_in_the_table_has_its_default():
    assert settings(name="") == Plugin.Settings("")


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("name", 1, "'name' is not a string"),
        ("on", 1, "'on' is not true or false"),
        ("number", True, "'number' is not an integer"),
        ("number", 1.0, "'number' is not an integer"),
        ("seconds", True, "'seconds' is not a number"),
        ("seconds", "1s", "'seconds' is not a number"),
        ("folder", "", "'folder' is not a path, as a string"),
        ("folder", False, "'folder' is not a path, as a string"),
        ("tags", "a", "'tags' is not an array of strings"),
        ("tags", ["a", 1], "'tags' is not an array of strings"),
    ],
)
def test_a_value_of_another_type_is_an_error_that_does_not_show_it(key, value, error):
    with pytest.raises(PluginError) as caught:
        settings(**{"name": "n", key: value})
    assert str(caught.value) == f"plugin 'own': {error}"
    assert caught.value.hint == f"change {key} of [plugins.own] of x.toml"


def test_a_missing_key_is_an_error_with_its_type():
    with pytest.raises(PluginError, match="plugin 'own': missing key 'name'") as caught:
        settings()
    assert caught.value.hint == "add name, a string, to [plugins.own] of x.toml"


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


@pytest.mark.parametrize(
    ("plugin", "cause"),
    [
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
        (KeyError("colour"), "KeyError: 'colour'"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (SystemExit(7), "SystemExit: 7"),
        (ValueError("too many"), "too many"),
    ],
)
def test_whatever_the_check_of_a_plugins_settings_raises_is_an_error_that_names_the_plugin(error, cause):
    @dataclass(frozen=True)
    class Settings:
        def __post_init__(self):
            raise error

    manager = empty()
    register(manager, type("Checking", (Fine,), {"Settings": Settings}), name="checking")
    with pytest.raises(PluginError) as caught:
        configure(manager, make_config())
    assert str(caught.value) == f"plugin 'checking': {cause}"
    assert caught.value.hint == "change [plugins.checking] of make_config()"


def test_a_table_of_a_plugin_that_is_not_installed_is_an_error_and_one_that_is_not_loaded_is_not():
    manager = empty()
    register(manager, Other, name="other")
    configure(manager, make_config(plugins={"metrics": {"nosuch": 1}}))
    with pytest.raises(PluginError, match=r"plugin 'nosuch' is not installed \(installed: .*metrics") as caught:
        configure(manager, make_config(plugins={"nosuch": {}}))
    assert caught.value.hint == "install it with pip, or delete [plugins.nosuch] of make_config()"


def test_no_plugin_is_configured_if_a_table_of_another_is_wrong():
    manager = empty()
    register(manager, Fine, name="first")
    register(manager, Other, name="second")
    with pytest.raises(PluginError, match="plugin 'second': unknown key 'm'") as caught:
        configure(manager, make_config(plugins={"second": {"m": 1}}))
    assert caught.value.hint == "known keys of [plugins.second] of make_config(): n"
    assert manager.get_plugin("first").settings is None
