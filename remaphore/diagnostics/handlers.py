"""Plugins and handlers: whether they can be loaded and run, and whether somebody acts on what peers may send."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from remaphore.config.settings import DEFAULT_HOOKS, Config
from remaphore.diagnostics.explain import PLACEHOLDER, ask_plan
from remaphore.diagnostics.findings import Code, Finding, Level, from_error
from remaphore.diagnostics.replies import PERMISSIONS, PING
from remaphore.errors import PluginError
from remaphore.hooks.manager import configure, load, read_settings
from remaphore.hooks.plan import Action, Step
from remaphore.protocol.message import Message
from remaphore.protocol.peers import ANY_VERB

if TYPE_CHECKING:
    import pluggy

_LEVELS = {Action.UNSAFE: Level.ERROR, Action.SKIP: Level.WARNING}
_CODES = {Action.UNSAFE: Code.HANDLER_UNSAFE, Action.SKIP: Code.HANDLER_SKIPPED}


def check_plugins(config: Config, names: Sequence[str]) -> Iterator[Finding]:
    """Load and configure each of the plugins *names*, as the daemon does, but each by itself; check every table."""
    sound = []
    for name in dict.fromkeys((*names, *config.plugins)):
        own = replace(config, plugins={name: config.plugins[name]} if name in config.plugins else {})
        try:
            if name in names:
                configure(load([name]), own)
            else:
                read_settings(load([name]), own)
                continue
        except PluginError as error:
            yield from_error(Code.PLUGIN_UNUSABLE, f"plugin {name}", error, hint=f"take {name} out of plugins.enable")
        else:
            sound.append(name)
    if sound:
        yield Finding(Level.OK, Code.PLUGINS_OK, "plugins", f"can be loaded: {', '.join(sound)}")


def check_handlers(config: Config, names: Sequence[str]) -> Iterator[Finding]:
    """Ask the plugins *names* what they would do for each verb that has a directory, or that a peer may send.

    A directory of `config.hooks` that is not there is told, so those that are looked at by default are not among them.
    """
    try:
        plugins = load(names)
        configure(plugins, config)
    except PluginError:
        return  # `check_plugins` has said so
    for folder in config.hooks:
        if not folder.is_dir():
            hint = f"mkdir -p {shlex.quote(str(folder))}"
            yield Finding(Level.WARNING, Code.HOOKS_MISSING, str(folder), "no such directory", hint)
    runs = 0
    for verb in sorted(verbs_of(config)):
        steps = plan(plugins, verb)
        runs += sum(step.action is Action.RUN for step in steps)
        yield from _judge(verb, steps)
    yield from _idle(config, plugins)
    yield Finding(
        Level.OK, Code.HANDLERS_OK, ", ".join(map(str, config.hooks)) or "hooks", f"handlers that would run: {runs}"
    )


def verbs_of(config: Config) -> Iterator[str]:
    """Return the names of the directories for handlers, one that is in several hook directories as often."""
    for folder in config.hooks:
        if folder.is_dir():
            yield from (entry.name for entry in folder.iterdir() if entry.is_dir())


def plan(plugins: pluggy.PluginManager, verb: str) -> list[Step]:
    """Return what *plugins* would do with a message of *verb*. Raises PluginError if one cannot say."""
    message = Message(
        sender="", destination="**", verb=verb, uuid=b"\0", time_ns=0, wants_reply=True, payload=PLACEHOLDER
    )
    return ask_plan(plugins, message)


def _judge(verb: str, steps: Sequence[Step]) -> Iterator[Finding]:
    for step in steps:
        if step.action is Action.SKIP and not step.hint:
            yield Finding(Level.NOTE, Code.HANDLER_MASKED, f"{verb}: {step.name}", step.reason)
        elif step.action is not Action.RUN:
            place = f"{verb}: {step.name}"
            yield Finding(_LEVELS[step.action], _CODES[step.action], place, step.reason, step.hint)
    if all(step.action is Action.SKIP for step in steps):
        hint = "put an executable into its directory, or rename the directory if no verb can be called so"
        yield Finding(
            Level.WARNING, Code.VERB_WITHOUT_HANDLER, verb, "it has a directory, and nothing in it runs", hint
        )


def _idle(config: Config, plugins: pluggy.PluginManager) -> Iterator[Finding]:
    # `remaphore ping` takes a 127 for an answer like another.
    sendable = {verb for peer in config.peers for verb in peer.verbs} - {ANY_VERB, PING}
    for verb in sorted(sendable - set(verbs_of(config))):
        if not plan(plugins, verb):
            what = "a peer may send it, and nothing here acts on it: a request is answered with 127"
            hint = f"put an executable into {(config.hooks or DEFAULT_HOOKS)[-1] / verb}, if one is wanted"
            if verb == PERMISSIONS:
                hint = f'write enable = ["{PERMISSIONS}"] under [plugins], and restart the daemon'
            yield Finding(Level.NOTE, Code.VERB_UNHANDLED, verb, what, hint)
