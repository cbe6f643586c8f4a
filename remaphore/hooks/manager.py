"""Finding plugins, loading those that a command needs, and configuring them.

A plugin is an entry point of the group `remaphore.plugins`; bundled plugins are found the same way as others. A plugin
that is not needed is not imported. One that is needed and cannot be loaded is fatal; the error names its distribution.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import TYPE_CHECKING, NamedTuple

import pluggy

from remaphore.errors import PluginError, cause, hint_of
from remaphore.hooks import specs
from remaphore.hooks.dispatch import call
from remaphore.hooks.markers import PROJECT
from remaphore.hooks.settings import build, check_declaration
from remaphore.text import closest

if TYPE_CHECKING:
    from remaphore.config.settings import Config

GROUP = "remaphore.plugins"


class Installed(NamedTuple):
    """The entry points of our group, and what is wrong with each `entry_points.txt` that may have some."""

    points: list[EntryPoint]
    broken: list[str]


def find_installed() -> Installed:
    """Return the plugins of all distributions, without importing any.

    Not `importlib.metadata.entry_points`, which raises if any file of any distribution is broken. Such a file of a
    package that has nothing to do with us must not stop a command: if it cannot be one of ours, it is not even parsed.
    """
    points: list[EntryPoint] = []
    broken: list[str] = []
    seen: set[str] = set()
    for distribution in distributions():
        try:
            text = distribution.read_text("entry_points.txt") or ""
            # The first distribution of a name on sys.path is the one that is imported.
            if GROUP not in text or (name := _name_of(distribution)) in seen:
                continue
            seen.add(name)
            points += distribution.entry_points.select(group=GROUP)
        except Exception as error:  # noqa: BLE001 - what the parser of another library raises for a broken file
            broken.append(f"{_place_of(distribution)}: entry_points.txt cannot be read: {cause(error)}")
    return Installed(points, broken)


def find(candidates: Iterable[EntryPoint] | None = None) -> dict[str, EntryPoint]:
    """Return the installed plugins by name, without importing any. Raise PluginError if two have the same name."""
    found: dict[str, EntryPoint] = {}
    for point in candidates if candidates is not None else find_installed().points:
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
    points, broken = find_installed() if candidates is None else Installed(list(candidates), [])
    for name in dict.fromkeys(names):
        same_name = [point for point in points if point.name == name]
        if not same_name:
            raise _not_installed(
                name, {point.name for point in points}, hint="or remove it from plugins.enable", broken=broken
            )
        point = find(same_name)[name]
        try:
            with contextlib.redirect_stdout(sys.stderr):  # stdout is for the results of the command
                plugin = point.load()
            register(manager, plugin, name=name)
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
    points, broken = find_installed() if others else Installed([], [])
    installed = {point.name for point in points}
    for name in sorted(others - installed):
        raise _not_installed(name, installed, hint=f"or delete [plugins.{name}] of {config.source}", broken=broken)
    return {
        name: build(plugin, config.plugins.get(name, {}), name=name, source=config.source)
        for name, plugin in plugins.items()
    }


def origin(point: EntryPoint) -> str:
    """Return where an entry point comes from: its distribution and version, or else the object that it names."""
    if point.dist is None:
        return point.value
    metadata = point.dist.metadata
    if "Name" in metadata and "Version" in metadata:
        return f"{metadata['Name']} {metadata['Version']}"
    return _place_of(point.dist)  # it was installed in part


def _not_installed(name: str, installed: Collection[str], *, hint: str, broken: Sequence[str]) -> PluginError:
    known = ", ".join(sorted(installed)) or "none"
    likely = closest(name, installed)
    hint = f"{f'did you mean {likely}? If not, ' if likely else ''}install it with pip, {hint}"
    what = f"plugin {name!r} is not installed (installed: {known})"
    if broken:
        return PluginError(f"{what}; {'; '.join(broken)}", hint="reinstall the package whose file cannot be read")
    return PluginError(what, hint=hint)


def _name_of(distribution: Distribution) -> str:
    metadata = distribution.metadata
    return str(metadata["Name"]).lower() if "Name" in metadata else _place_of(distribution)


def _place_of(distribution: Distribution) -> str:
    """Return the directory of a distribution's metadata, such as `half-1.0.dist-info`."""
    return str(getattr(distribution, "_path", "a distribution"))


def _check_impl(hook: str, impl: pluggy.HookImpl) -> None:
    if impl.wrapper or impl.hookwrapper or inspect.isgeneratorfunction(impl.function):
        raise TypeError(f"{hook} is a wrapper or a generator, but a hook returns its result")
    if impl.tryfirst or impl.trylast:
        raise TypeError(f"{hook} has tryfirst or trylast, but the order is that in which plugins are enabled")
    if hook in specs.PLAIN and inspect.iscoroutinefunction(impl.function):
        raise TypeError(f"{hook} must be a plain def")
