"""Plugins and handlers: whether they can be loaded and run, and whether the verbs that peers may send are handled."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from remaphore.config.secrets import missing_hint
from remaphore.config.settings import DEFAULT_HOOKS, Config
from remaphore.diagnostics.explain import PLACEHOLDER, ask_plan, silent_plugins
from remaphore.diagnostics.findings import Code, Finding, Level, from_error
from remaphore.diagnostics.replies import PERMISSIONS
from remaphore.errors import PluginError
from remaphore.hooks.manager import configure, empty, load, read_settings
from remaphore.hooks.plan import Action, Step
from remaphore.protocol.message import Message
from remaphore.protocol.peers import ANY_VERB, KINDS_WITH_NAMES
from remaphore.receiving.default_reply import BUILT_IN

if TYPE_CHECKING:
    import pluggy

Options = Mapping[str, Mapping[str, object]]

_LEVELS = {Action.UNSAFE: Level.ERROR, Action.FAIL: Level.ERROR, Action.SKIP: Level.WARNING}
_CODES = {
    Action.UNSAFE: Code.HANDLER_UNSAFE,
    Action.FAIL: Code.HANDLER_CANNOT_START,
    Action.SKIP: Code.HANDLER_SKIPPED,
}


def check_plugins(config: Config, names: Sequence[str], *, options: Options | None = None) -> Iterator[Finding]:
    """Load and configure each of the plugins *names*, as the daemon does, and check the tables of all others.

    options: of `DaemonUser`. Each is checked separately, so that the error of one does not hide that of another.
    """
    usable = []
    for name in dict.fromkeys((*names, *config.plugins)):
        own = replace(config, plugins={name: config.plugins[name]} if name in config.plugins else {})
        hint = f"remove {name} from plugins.enable" if name in names else f"delete the table [plugins.{name}]"
        try:
            if name not in names:
                read_settings(empty(), own)  # raises if the plugin of this table is not installed
            plugin = load([name])
            if name in names:
                configure(plugin, own, options=options)
                usable.append(name)
            else:
                read_settings(plugin, own)
        except PluginError as error:
            yield from_error(Code.PLUGIN_UNUSABLE, f"plugin {name}", error, default_hint=hint)
    if usable:
        yield Finding(Level.OK, Code.PLUGINS_OK, "plugins", f"can be loaded: {', '.join(usable)}")


def check_handlers(config: Config, names: Sequence[str], *, options: Options | None = None) -> Iterator[Finding]:
    """Ask the plugins *names* what they would do for each verb that has a directory, or that a peer may send.

    options: of `DaemonUser`. A missing directory of `config.hooks` is a finding, so the caller leaves out default
    directories that do not exist.
    """
    try:
        plugins = load(names)
        configure(plugins, config, options=options)
    except PluginError:
        return  # `check_plugins` has reported it
    yield from check_directories(config)
    runs = 0
    for verb in sorted(verbs_of(config)):
        steps = plan(plugins, verb)
        runs += sum(step.action is Action.RUN for step in steps)
        yield from check_steps(verb, steps)
    yield from check_unhandled(config, plugins)
    where = ", ".join(map(str, config.hooks)) or "hooks"
    yield Finding(Level.OK, Code.HANDLERS_OK, where, f"handlers that would run: {runs}")


def check_directories(config: Config) -> Iterator[Finding]:
    """Yield the directories of `config.hooks` that do not exist or cannot be read."""
    for directory in config.hooks:
        where = str(directory)
        try:
            os.scandir(where).close()
        except FileNotFoundError:
            hint = missing_hint(where, create=f"mkdir -p {shlex.quote(where)}")
            yield Finding(Level.WARNING, Code.HOOKS_MISSING, where, "no such directory", hint)
        except OSError as error:
            hint = "make it readable for the daemon's user, or remove it from hooks"
            yield Finding(Level.ERROR, Code.HANDLER_UNSAFE, where, f"cannot be read: {error.strerror}", hint)


def verbs_of(config: Config) -> Iterator[str]:
    """Yield the name of each verb that has a directory for handlers, once for each hook directory that has it."""
    for directory in config.hooks:
        with contextlib.suppress(OSError):  # reported by `check_handlers`
            yield from (entry.name for entry in os.scandir(directory) if entry.is_dir())


def plan(plugins: pluggy.PluginManager, verb: str) -> list[Step]:
    """Return what *plugins* would do with a message of *verb*. Raise PluginError if a plugin cannot state it."""
    message = Message(
        sender="", destination="**", verb=verb, uuid=b"\0", time_ns=0, wants_reply=True, payload=PLACEHOLDER
    )
    return ask_plan(plugins, message)


def check_steps(verb: str, steps: Sequence[Step]) -> Iterator[Finding]:
    """Yield the *steps* of a verb with a directory that would not run, and whether none of them would."""
    for step in steps:
        place = verb if step.name == verb else f"{verb}: {step.name}"
        if step.action is Action.SKIP and not step.hint:
            yield Finding(Level.NOTE, Code.HANDLER_MASKED, place, step.reason)
        elif step.action is not Action.RUN:
            yield Finding(_LEVELS[step.action], _CODES[step.action], place, step.reason, step.hint)
    itself = any(step.name == verb for step in steps)  # the directory is skipped, and the reason is its name
    if all(step.action is Action.SKIP for step in steps) and not itself:
        what = "its directory contains no handler that would run"
        hint = "put an executable into its directory, or rename the directory if no verb can have this name"
        yield Finding(Level.WARNING, Code.VERB_DIRECTORY_IDLE, verb, what, hint)


def check_unhandled(config: Config, plugins: pluggy.PluginManager) -> Iterator[Finding]:
    """Yield the verbs that a peer may send and that have no directory and no plugin."""
    silent = silent_plugins(plugins)
    sendable = {verb for peer in config.peers for verb in peer.verbs} - {ANY_VERB, *BUILT_IN}
    for verb in sorted(sendable - set(verbs_of(config))):
        if verb.partition(":")[0] in KINDS_WITH_NAMES:
            continue  # permits a lock; no message has such a verb
        if not plan(plugins, verb):
            what = "peers may send this verb, but it has no handler: requests are answered with 127"
            hint = f"put an executable into {(config.hooks or DEFAULT_HOOKS)[-1] / verb}, if one is wanted"
            if silent:
                what = f"{what}, unless one of these plugins replies: {', '.join(silent)}"
                hint = f"if none of them does, {hint}"
            if verb == PERMISSIONS:
                hint = f'write enable = ["{PERMISSIONS}"] under [plugins], and restart the daemon'
            yield Finding(Level.NOTE, Code.VERB_UNHANDLED, verb, what, hint)
