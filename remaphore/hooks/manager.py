"""Finding plugins, loading those that a command needs, and configuring them.

A plugin is an entry point of the group `remaphore.plugins`; bundled plugins are found the same way as others. A plugin
that is not needed is not imported. One that is needed and cannot be loaded is fatal; the error names its distribution.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

import pluggy

from remaphore.errors import PluginError, RemaphoreError, describe, hint_of
from remaphore.hooks import specs
from remaphore.hooks.dispatch import call
from remaphore.hooks.markers import PROJECT
from remaphore.hooks.settings import build, check_declaration

if TYPE_CHECKING:
    from remaphore.config.settings import Config

GROUP = "remaphore.plugins"


def find(candidates: Iterable[EntryPoint] | None = None) -> dict[str, EntryPoint]:
    """Return the installed plugins by name, without importing any. Raise PluginError if two have the same name."""
    found: dict[str, EntryPoint] = {}
    for point in candidates if candidates is not None else entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other is not point and other.value != point.value:
            raise PluginError(
                f"two plugins are named {point.name!r}: {origin(other)} and {origin(point)}",
                hint="uninstall one of the two distributions",
            )
    return found


def load(names: Sequence[str], candidates: Iterable[EntryPoint] | None = None) -> pluggy.PluginManager:
    """Import and register the plugins *names*, in this order, and check what they implement. Raise PluginError.

    Plugins that are not in *names* do not matter: they may be broken, or share a name.
    """
    manager = empty()
    points = list(candidates if candidates is not None else entry_points(group=GROUP))
    for name in dict.fromkeys(names):
        same_name = [point for point in points if point.name == name]
        if not same_name:
            raise _not_installed(name, {point.name for point in points}, hint="or remove it from plugins.enable")
        point = find(same_name)[name]
        try:
            register(manager, point.load(), name=name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise PluginError(f"plugin {name!r} from {origin(point)} cannot be loaded: {cause(error)}") from error
    return manager


def empty() -> pluggy.PluginManager:
    """Return a manager with the hooks, and without any plugin."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(specs)
    return manager


def register(manager: pluggy.PluginManager, plugin: object, *, name: str) -> None:
    """Add *plugin*, an object, a module, or a class that is instantiated here; check what it implements.

    Raise TypeError or pluggy's PluginValidationError if it is not a plugin, and any exception of its constructor.
    """
    manager.register(plugin() if inspect.isclass(plugin) else plugin, name=name)
    manager.check_pending()
    if not implemented(manager, name):
        raise TypeError("it implements no hook: none of its functions is marked with @remaphore.hookimpl")
    for caller in manager.get_hookcallers(manager.get_plugin(name)) or ():
        for impl in caller.get_hookimpls():
            if impl.plugin_name == name:
                _check_impl(caller.name, impl)
    check_declaration(manager.get_plugin(name))


def implemented(manager: pluggy.PluginManager, name: str) -> list[str]:
    """Return the hooks that the plugin *name* implements, in the order of the specifications."""
    own = {caller.name for caller in manager.get_hookcallers(manager.get_plugin(name)) or ()}
    return [hook for hook in specs.HOOKS if hook in own]


def configure(
    manager: pluggy.PluginManager, config: Config, *, options: Mapping[str, Mapping[str, object]] | None = None
) -> None:
    """Check the tables of all plugins, then pass each its settings, and its options of the command line from *options*.

    Raise PluginError for the first table or plugin that cannot be used.
    """
    settings = read_settings(manager, config)
    hook = manager.hook.remaphore_configure
    for impl in hook.get_hookimpls():
        name = impl.plugin_name
        event = {"config": config, "settings": settings[name], "options": (options or {}).get(name, {})}
        error = call(hook.name, impl, event).error
        if error is not None:
            hint = hint_of(error)
            raise PluginError(f"plugin {name!r} cannot be configured: {cause(error)}", hint=hint) from error


def read_settings(manager: pluggy.PluginManager, config: Config) -> dict[str, object | None]:
    """Return the settings of each plugin of *manager* by its name, made of its table in *config*. Raise PluginError.

    A table for a plugin that is installed, and that this command does not load, is left alone.
    """
    plugins = dict(manager.list_name_plugin())
    others = config.plugins.keys() - plugins.keys()
    installed = {point.name for point in entry_points(group=GROUP)} if others else set()
    for name in sorted(others - installed):
        raise _not_installed(name, installed, hint=f"or delete [plugins.{name}] of {config.source}")
    return {
        name: build(plugin, config.plugins.get(name, {}), name=name, source=config.source)
        for name, plugin in plugins.items()
    }


def origin(point: EntryPoint) -> str:
    """Return where an entry point comes from: its distribution and version, or else the object that it names."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def cause(error: BaseException) -> str:
    """Return *error* as one line, with its type unless it is a ValueError or one of ours, whose text is made for it."""
    text = " ".join(describe(error, str).split())
    if text and isinstance(error, (ValueError, RemaphoreError)):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _not_installed(name: str, installed: Collection[str], *, hint: str) -> PluginError:
    known = ", ".join(sorted(installed)) or "none"
    return PluginError(f"plugin {name!r} is not installed (installed: {known})", hint=f"install it with pip, {hint}")


def _check_impl(hook: str, impl: pluggy.HookImpl) -> None:
    if impl.wrapper or impl.hookwrapper or inspect.isgeneratorfunction(impl.function):
        raise TypeError(f"{hook} is a wrapper or a generator, but a hook returns its result")
    if impl.tryfirst or impl.trylast:
        raise TypeError(f"{hook} has tryfirst or trylast, but the order is that in which plugins are enabled")
    if hook in specs.PLAIN and inspect.iscoroutinefunction(impl.function):
        raise TypeError(f"{hook} must be a plain def")
