"""Finding plugins, and loading those that a command needs.

A plugin is an entry point of the group `remaphore.plugins`; the bundled ones are found the same way as a third party's.
What is not asked for is not imported. What is asked for and cannot be loaded is fatal, named with its distribution.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

import pluggy

from remaphore.errors import PluginError, RemaphoreError
from remaphore.hooks import specs
from remaphore.hooks.dispatch import call
from remaphore.hooks.markers import PROJECT
from remaphore.hooks.settings import build, check_declaration

if TYPE_CHECKING:
    from remaphore.config.settings import Config

GROUP = "remaphore.plugins"
# Called in the receive loop, or before there is one: an `async def` could not be awaited there.
PLAIN = frozenset(f"remaphore_{event}" for event in ("configure", "reloaded", "admitted", "dropped", "plan"))


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
    """Import and register the plugins *names*, in this order, and check what they implement. Raises PluginError.

    What is wrong with a plugin that nobody asked for, or that two of those have one name, does not matter here.
    """
    manager = empty()
    points = list(candidates if candidates is not None else entry_points(group=GROUP))
    for name in dict.fromkeys(names):
        same_name = [point for point in points if point.name == name]
        if not same_name:
            known = ", ".join(sorted({point.name for point in points})) or "none"
            raise PluginError(
                f"plugin {name!r} is not installed (installed: {known}); pip install it, or do not enable it"
            )
        _register(manager, find(same_name)[name])
    return manager


def empty() -> pluggy.PluginManager:
    """Return a manager that knows the hooks, and no plugin yet."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(specs)
    return manager


def register(manager: pluggy.PluginManager, plugin: object, *, name: str) -> None:
    """Add *plugin*, an object, a module, or a class to be made an object of; check what it implements.

    Raises TypeError or pluggy's PluginValidationError for what is no plugin, and whatever making the object raises.
    """
    manager.register(plugin() if inspect.isclass(plugin) else plugin, name=name)
    manager.check_pending()
    if not implemented(manager, name):
        raise TypeError("it implements no hook; mark its functions with @remaphore.hookimpl")
    _check(manager, name)
    check_declaration(manager.get_plugin(name))


def implemented(manager: pluggy.PluginManager, name: str) -> list[str]:
    """Return the hooks that the plugin *name* implements, in the order of the specifications."""
    own = {caller.name for caller in manager.get_hookcallers(manager.get_plugin(name)) or ()}
    return [hook for hook in vars(specs) if hook in own]


def configure(
    manager: pluggy.PluginManager, config: Config, *, options: Mapping[str, Mapping[str, object]] | None = None
) -> None:
    """Check the tables of all plugins, then hand each its settings, and what the command line has for it in *options*.

    Raise PluginError for the first table or plugin that cannot be used.
    """
    settings = read_settings(manager, config)
    hook = manager.hook.remaphore_configure
    for impl in hook.get_hookimpls():
        name = impl.plugin_name
        event = {"config": config, "settings": settings[name], "options": (options or {}).get(name, {})}
        error = call(hook.name, impl, event).error
        if error is not None:
            hint = error.hint if isinstance(error, RemaphoreError) else ""
            raise PluginError(f"plugin {name!r} cannot be configured: {cause(error)}", hint=hint) from error


def read_settings(manager: pluggy.PluginManager, config: Config) -> dict[str, object | None]:
    """Return the settings of each plugin of *manager* by its name, made of its table in *config*. Raise PluginError.

    A table for a plugin that is installed, and that this command does not load, is left alone.
    """
    plugins = dict(manager.list_name_plugin())
    others = config.plugins.keys() - plugins.keys()
    installed = {point.name for point in entry_points(group=GROUP)} if others else set()
    for name in sorted(others - installed):
        hint = f"install it with pip, or delete [plugins.{name}] of {config.source}"
        raise PluginError(f"plugin {name!r} is not installed (installed: {', '.join(sorted(installed))})", hint=hint)
    return {
        name: build(plugin, config.plugins.get(name, {}), name=name, source=config.source)
        for name, plugin in plugins.items()
    }


def origin(point: EntryPoint) -> str:
    """Say where an entry point comes from: its distribution and version, else the object it names."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def cause(error: BaseException) -> str:
    """Return *error* as one line. What is not said on purpose, by a ValueError or one of our own, names its type."""
    text = " ".join(str(error).split())
    if text and isinstance(error, (ValueError, RemaphoreError)):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _register(manager: pluggy.PluginManager, point: EntryPoint) -> None:
    try:
        register(manager, point.load(), name=point.name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(f"plugin {point.name!r} from {origin(point)} cannot be loaded: {cause(error)}") from error


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
