"""Finding plugins, and loading those that a command needs.

A plugin is an entry point of the group `remaphore.plugins`; the bundled ones are found the same way as a third party's.
What is not asked for is not imported. What is asked for and cannot be loaded is fatal, named with its distribution.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

import pluggy

from remaphore.errors import PluginError
from remaphore.hooks import specs
from remaphore.hooks.dispatch import call
from remaphore.hooks.markers import PROJECT

if TYPE_CHECKING:
    from remaphore.config.settings import Config

GROUP = "remaphore.plugins"
# Called in the receive loop, or before there is one: an `async def` could not be awaited there.
PLAIN = frozenset(f"remaphore_{event}" for event in ("configure", "reloaded", "admitted", "rejected", "plan"))


def find(candidates: Iterable[EntryPoint] | None = None) -> dict[str, EntryPoint]:
    """Return the installed plugins by name, without importing any. Two with one name are an error that names both."""
    found: dict[str, EntryPoint] = {}
    for point in candidates if candidates is not None else entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other is not point and other.value != point.value:
            raise PluginError(
                f"two plugins are called {point.name!r}: {origin(other)} and {origin(point)}; uninstall one"
            )
    return found


def load(names: Sequence[str], candidates: Iterable[EntryPoint] | None = None) -> pluggy.PluginManager:
    """Import and register the plugins *names*, in this order, and check what they implement. Raises PluginError."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(specs)
    installed = find(candidates)
    for name in dict.fromkeys(names):
        if name not in installed:
            known = ", ".join(sorted(installed)) or "none"
            raise PluginError(
                f"plugin {name!r} is not installed (installed: {known}); pip install it, or do not enable it"
            )
        _register(manager, installed[name])
    return manager


def configure(manager: pluggy.PluginManager, config: Config, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Hand each plugin its own table of *settings*. The first one that raises ends the command, as PluginError."""
    hook = manager.hook.remaphore_configure
    for impl in hook.get_hookimpls():
        outcome = call(hook.name, impl, {"config": config, "settings": settings.get(impl.plugin_name, {})})
        if outcome.error is not None:
            raise PluginError(f"plugin {impl.plugin_name!r} cannot be configured: {outcome.error}") from outcome.error


def origin(point: EntryPoint) -> str:
    """Say where an entry point comes from: its distribution and version, else the object it names."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def _register(manager: pluggy.PluginManager, point: EntryPoint) -> None:
    try:
        plugin = point.load()
        manager.register(plugin() if inspect.isclass(plugin) else plugin, name=point.name)
        manager.check_pending()
        _check(manager, point.name)
    except (Exception, SystemExit) as error:
        raise PluginError(f"plugin {point.name!r} from {origin(point)} cannot be loaded: {error}") from error


def _check(manager: pluggy.PluginManager, name: str) -> None:
    for caller in manager.get_hookcallers(manager.get_plugin(name)) or ():
        for impl in caller.get_hookimpls():
            if impl.plugin_name == name:
                _check_impl(caller.name, impl)


def _check_impl(hook: str, impl: pluggy.HookImpl) -> None:
    if impl.wrapper or impl.hookwrapper or inspect.isgeneratorfunction(impl.function):
        raise TypeError(f"{hook} is a wrapper or a generator; hooks here return their result")
    if impl.tryfirst or impl.trylast:
        raise TypeError(f"{hook} asks for tryfirst or trylast; the order is that of the enabled plugins")
    if hook in PLAIN and inspect.iscoroutinefunction(impl.function):
        raise TypeError(f"{hook} must be a plain def")
