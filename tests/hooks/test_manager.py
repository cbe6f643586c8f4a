"""Plugins are found, checked and loaded by name; an error names where the plugin comes from."""

from importlib.metadata import EntryPoint

import pytest

from remaphore.errors import PluginError
from remaphore.hooks.manager import GROUP, configure, find, load, origin
from remaphore.hooks.markers import hookimpl
from remaphore.testing import make_config
from tests.hooks import sample_plugins

SAMPLES = sample_plugins.__name__


def point(name, attribute):
    return EntryPoint(name, f"{SAMPLES}:{attribute}", GROUP)


def test_the_bundled_plugins_are_found_like_any_other():
    found = find()
    assert {"hooks-d", "log", "reply-collector"} <= set(found)
    assert origin(found["log"]).startswith("remaphore ")


def test_only_requested_plugins_are_imported():
    broken = EntryPoint("broken", "no_such_module:Plugin", GROUP)
    manager = load(["fine"], [broken, point("fine", "Fine")])
    assert [name for name, _ in manager.list_name_plugin()] == ["fine"]


def test_plugins_have_the_order_in_which_they_were_requested():
    manager = load(["b", "a"], [point("a", "Fine"), point("b", "Fine")])
    assert [impl.plugin_name for impl in manager.hook.remaphore_shutdown.get_hookimpls()] == ["b", "a"]


@pytest.mark.parametrize(
    ("attribute", "cause"),
    [
        ("NoSuchClass", "NoSuchClass"),
        ("UnknownHook", "unknown hook"),
        ("UnknownArgument", "nosuch"),
        ("Wrapper", "wrapper"),
        ("Generator", "generator"),
        ("Eager", "order is that in which plugins are enabled"),
        ("AsyncAdmitted", "plain def"),
        ("AsyncConfigure", "plain def"),
        ("RaisesWhenMade", "cannot be made"),
        ("ExitsWhenMade", "7"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_named_with_its_origin_and_cause(attribute, cause):
    with pytest.raises(PluginError) as caught:
        load(["odd"], [point("odd", attribute)])
    assert "plugin 'odd' from " in str(caught.value)
    assert f"{SAMPLES}:{attribute}" in str(caught.value)
    assert cause in str(caught.value)


def test_a_plugin_that_cannot_be_imported_is_named_with_the_import_error():
    with pytest.raises(PluginError, match=r"plugin 'gone'.*No module named 'no_such_module'"):
        load(["gone"], [EntryPoint("gone", "no_such_module:Plugin", GROUP)])


def test_a_plugin_that_is_not_installed_is_an_error_that_lists_the_installed_ones():
    with pytest.raises(PluginError, match=r"'metrixs' is not installed \(installed: fine\)"):
        load(["metrixs"], [point("fine", "Fine")])


def test_two_plugins_with_one_name_are_an_error_that_names_both():
    with pytest.raises(PluginError, match=r"two plugins are named 'x'.*:Fine.*:Other"):
        find([point("x", "Fine"), point("x", "Other")])


def test_each_plugin_gets_its_own_table():
    manager = load(["a", "b"], [point("a", "Fine"), point("b", "Fine")])
    configure(manager, make_config(plugins={"a": {"n": 1}}), options={"b": {"argv": ("x",)}, "c": {"y": 1}})
    assert manager.get_plugin("a").settings == sample_plugins.Fine.Settings(n=1)
    assert manager.get_plugin("b").settings == sample_plugins.Fine.Settings(n=0)
    assert (manager.get_plugin("a").options, manager.get_plugin("b").options) == ({}, {"argv": ("x",)})


def test_a_plugin_that_rejects_its_settings_is_an_error_with_its_name():
    manager = load(["picky"], [point("picky", "Picky")])
    with pytest.raises(PluginError, match="plugin 'picky' cannot be configured: listen must be a port"):
        configure(manager, make_config())


def test_a_module_can_be_a_plugin():
    manager = load(["module"], [EntryPoint("module", SAMPLES, GROUP)])
    assert manager.hook.remaphore_shutdown.get_hookimpls()[0].plugin_name == "module"


def test_hookimpl_marks_a_function_for_this_project():
    def function():
        return None

    assert hookimpl(function) is function
    assert hasattr(function, "remaphore_impl")
