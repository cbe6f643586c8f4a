"""`remaphore hooks`: list what the daemon would run for a verb, in order, and what it would skip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remaphore.cli import output

if TYPE_CHECKING:
    import pluggy

    from remaphore.cli.arguments import Parser
    from remaphore.config.settings import Config
    from remaphore.hooks.plan import Step

SUMMARY = "list what the daemon would run for a verb, and what it skips"
EXAMPLE = """\
remaphore hooks
remaphore hooks deploy"""
EXIT_CODES = {
    0: "every handler would be started",
    1: "a verb is unsafe and would be rejected, a handler cannot be started, or a directory cannot be read",
}

_NOTHING = "a request is answered with exit code 127"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Options of hooks. verb: only this one; empty for all that have a directory."""

    config: str | None = None
    hooks: tuple[str, ...] = ()
    verb: str = ""
    json: bool = False


def add_arguments(parser: Parser) -> None:
    """Add the arguments to *parser*."""
    from remaphore.cli.arguments import add_daemon, add_json

    parser.description = (
        "List the handlers that the daemon would run for a verb, in order and with their arguments, and those that it"
        " would skip, with the reason."
    )
    add_daemon(parser)
    add_json(parser)
    parser.add_argument(
        "verb", metavar="VERB", nargs="?", default="", help="list only this verb (default: all that have a directory)"
    )
    parser.set_defaults(options=Hooks)


def run(options: Hooks) -> int:
    """List; return 0, or 1 if a verb is unsafe and would be rejected, or a handler cannot be started."""
    from dataclasses import asdict

    from remaphore.config.settings import DEFAULT_HOOKS
    from remaphore.diagnostics.explain import silent_plugins
    from remaphore.diagnostics.findings import Code, Level
    from remaphore.diagnostics.handlers import check_directories, plan, verbs_of
    from remaphore.hooks.plan import Action

    config, plugins = load_handlers(options.config, options.hooks)
    problems = [
        problem
        for problem in check_directories(config)
        if problem.code is not Code.HOOKS_MISSING or config.hooks != DEFAULT_HOOKS
    ]
    for problem in problems:
        output.notice(f"{problem.level}: {problem.where}: {problem.what}")
        output.notice(f"hint: {problem.hint}", whole=True)
    verbs = [options.verb] if options.verb else sorted(set(verbs_of(config)))
    found = {verb: plan(plugins, verb) for verb in verbs}
    silent = silent_plugins(plugins)
    if options.json:
        output.write_json(*({"verb": verb, **asdict(step)} for verb, steps in found.items() for step in steps))
    else:
        output.write("".join(f"{output.printable(verb)}:\n{format_steps(found[verb], verb, silent)}" for verb in verbs))
    bad = any(step.action in (Action.UNSAFE, Action.FAIL) for steps in found.values() for step in steps)
    return 1 if bad or any(problem.level is Level.ERROR for problem in problems) else 0


def load_handlers(path: str | None, hooks: tuple[str, ...]) -> tuple[Config, pluggy.PluginManager]:
    """Return the configuration *path* as the daemon would use it, and the plugins that it would load.

    What the daemon would log about handlers is not logged: the steps that the plugins return have the same.
    """
    import os

    from remaphore.cli.commands.run import PLUGINS
    from remaphore.cli.configuration import load_daemon_config
    from remaphore.diagnostics.daemon_user import find_daemon_user
    from remaphore.hooks.manager import configure, load

    config = load_daemon_config(path, hooks)
    user = find_daemon_user(config, os.environ)
    if user is not None:
        output.notice(f"judging for user {user.name}, as which the daemon runs: {user.source}")
    output.configure_logs(level="CRITICAL")
    plugins = load((*PLUGINS, *config.enabled_plugins))
    configure(plugins, config, options=user.options if user else None)
    return config, plugins


def format_steps(steps: Iterable[Step], verb: str, silent: Sequence[str] = ()) -> str:
    """Return the *steps* for *verb* as lines for people. They may contain a payload, and are printable.

    silent: the plugins that act on messages and do not state on which.
    """
    import shlex

    from remaphore.errors import with_hint
    from remaphore.hooks.plan import Action
    from remaphore.receiving.default_reply import BUILT_IN

    lines = ""
    for step in steps:
        what = f"{step.name}: {step.reason}"
        if step.action is Action.RUN:
            what = shlex.join(step.argv) + (f" ({step.reason})" if step.reason else "")
        line = with_hint(f"  {step.action:<6} {what}", step.hint)
        lines += output.wrap(output.printable(line), indent=9, label=step.action)
    if lines:
        return lines
    what = f"the daemon itself answers a request, with its {BUILT_IN[verb]}" if verb in BUILT_IN else _NOTHING
    unless = f", unless one of these plugins replies: {', '.join(silent)}" if silent else ""
    return output.wrap(output.printable(f"  nothing: {what}{unless}"), indent=9)
