"""A plugin that cannot be loaded or configured is fatal at startup, with its name, distribution and cause."""

import pytest

from remaphore.errors import PluginError
from remaphore.hooks.manager import configure, load
from remaphore.testing import make_config
from tests.harness.plugins import installer

HEAD = "from remaphore import hookimpl\nclass Plugin:\n"
GOOD = f"{HEAD}    @hookimpl\n    def remaphore_message(self, message): return None\n"


UNSHOWABLE = """
from remaphore import PluginError
class Unshowable(PluginError):
    def __init__(self): pass
    def __str__(self): raise RuntimeError
    @property
    def hint(self): raise SystemExit(3)
"""


def method(mark, signature, body="return None"):
    """Return the source of a plugin with one method."""
    return f"{HEAD}    @{mark}\n    {signature}: {body}\n"


@pytest.fixture
def install(tmp_path, monkeypatch):
    return installer(tmp_path, monkeypatch)


FATAL = {
    "an import error": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    "a syntax error": ("def", "SyntaxError: invalid syntax"),
    "an error without a text": ("raise AssertionError", "AssertionError"),
    "sys.exit": ("import sys; sys.exit(7)", "SystemExit: 7"),
    "a cancellation": ("import asyncio; raise asyncio.CancelledError('me')", "CancelledError: me"),
    "no such class": ("", "has no attribute 'Plugin'"),
    "a constructor that raises": (HEAD + "    def __init__(self): raise OSError('no disk')", "OSError: no disk"),
    "a constructor with arguments": (HEAD + "    def __init__(self, x): pass", "TypeError"),
    "an unknown hook": (method("hookimpl", "def remaphore_mesage(self, message)"), "unknown hook 'remaphore_mesage'"),
    "an unknown argument": (method("hookimpl", "def remaphore_message(self, nosuch)"), "nosuch"),
    "a wrapper": (
        method("hookimpl(wrapper=True)", "def remaphore_message(self, message)", "return (yield)"),
        "wrapper",
    ),
    "an old wrapper": (
        method("hookimpl(hookwrapper=True)", "def remaphore_message(self, message)", "yield"),
        "wrapper",
    ),
    "a generator": (method("hookimpl", "def remaphore_message(self, message)", "yield"), "generator"),
    "an order of its own": (method("hookimpl(trylast=True)", "def remaphore_message(self, message)"), "order"),
    "a plain hook that is async": (
        method("hookimpl", "async def remaphore_admitted(self, message)"),
        "remaphore_admitted must be a plain def",
    ),
    "hooks without the mark": (
        HEAD + "    def remaphore_message(self, message): return None\n",
        "implements no hook: none of its functions is marked with @remaphore.hookimpl",
    ),
}


@pytest.mark.parametrize(("source", "cause"), FATAL.values(), ids=FATAL)
def test_a_plugin_that_cannot_be_loaded_is_fatal_with_name_origin_and_cause_on_one_line(install, source, cause):
    install("odd", source)
    with pytest.raises(PluginError) as caught:
        load(["log", "odd"])
    shown = str(caught.value)
    assert shown.startswith("plugin 'odd' from remaphore-odd 1.5 cannot be loaded: ")
    assert cause in shown
    assert "\n" not in shown


def test_a_broken_plugin_that_is_not_enabled_does_not_matter(install):
    install("odd", "raise RuntimeError")
    install("good", GOOD)
    assert [name for name, _ in load(["good"]).list_name_plugin()] == ["good"]


def test_two_distributions_with_one_name_are_fatal_and_both_are_named(install):
    install("twin", GOOD, distribution="remaphore-one")
    install("twin", GOOD, distribution="remaphore-two")
    with pytest.raises(PluginError) as caught:
        load(["twin"])
    assert "two plugins are named 'twin'" in str(caught.value)
    assert "remaphore-one 1.5" in str(caught.value)
    assert "remaphore-two 1.5" in str(caught.value)


def test_two_plugins_with_one_name_do_not_matter_if_neither_is_enabled(install):
    install("twin", GOOD, distribution="remaphore-one")
    install("twin", GOOD, distribution="remaphore-two")
    assert load(["log"]).get_plugin("log")


def test_a_distribution_with_the_name_of_a_bundled_plugin_is_fatal_and_does_not_replace_it(install):
    install("log", GOOD, distribution="evil")
    with pytest.raises(PluginError, match=r"two plugins are named 'log'.*evil 1\.5"):
        load(["log"])


def test_an_error_that_cannot_be_shown_names_the_plugin_all_the_same(install):
    install("odd", f"{UNSHOWABLE}raise Unshowable")
    with pytest.raises(PluginError, match=r"plugin 'odd' from .* cannot be loaded: Unshowable \(cannot be shown: "):
        load(["odd"])


def test_settings_that_reject_a_table_with_an_error_that_cannot_be_shown_are_fatal_with_the_name(install):
    settings = "    @dataclass(frozen=True)\n    class Settings:\n        def __post_init__(self): raise Unshowable\n"
    install("odd", f"from dataclasses import dataclass\n{UNSHOWABLE}{GOOD}{settings}")
    with pytest.raises(PluginError, match=r"make_config\(\): plugins.odd: Unshowable \(cannot be shown: ") as caught:
        configure(load(["odd"]), make_config())
    assert caught.value.hint == "change plugins.odd"


@pytest.mark.parametrize(
    ("raised", "cause"),
    [
        ("ValueError('listen: not a port')", "listen: not a port"),
        ("KeyError('listen')", "KeyError: 'listen'"),
        ("SystemExit(3)", "SystemExit: 3"),
        ("ValueError()", "ValueError"),
        ("Unshowable()", "Unshowable (cannot be shown: RuntimeError)"),
    ],
)
def test_a_plugin_that_rejects_its_settings_is_fatal_with_name_and_cause(install, raised, cause):
    source = method("hookimpl", "def remaphore_configure(self, settings)", f"raise {raised}")
    install("odd", UNSHOWABLE + source)
    with pytest.raises(PluginError) as caught:
        configure(load(["odd"]), make_config())
    assert str(caught.value) == f"plugin 'odd' cannot be configured: {cause}"
