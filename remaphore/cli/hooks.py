"""`remaphore hooks`: what would run for a verb, in order, and what is passed over, and why."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from remaphore.cli import console
from remaphore.cli.options.daemon import Hooks
from remaphore.config.settings import DEFAULT_HOOKS, Config
from remaphore.diagnostics.handlers import plan, verbs_of
from remaphore.hooks.manager import configure, load
from remaphore.hooks.plan import Action, Step
from remaphore.logs import escape

if TYPE_CHECKING:
    import pluggy

NOTHING = "  nothing: a request is answered with 127"


def run(options: Hooks) -> int:
    """List; return 0, or 1 if a verb is unsafe and would be rejected."""
    config, plugins = prepare(options.config, options.hooks)
    verbs = [options.verb] if options.verb else sorted(set(verbs_of(config)))
    found = {verb: plan(plugins, verb) for verb in verbs}
    sys.stdout.write(_to_json(found) if options.json else "".join(_to_text(verb, found[verb]) for verb in verbs))
    return 1 if any(step.action is Action.UNSAFE for steps in found.values() for step in steps) else 0


def prepare(path: str | None, hooks: Sequence[str]) -> tuple[Config, pluggy.PluginManager]:
    """Return the configuration at *path*, with the handler directories that the daemon would use, and exec-script.

    Those are *hooks* of the command line, else the file's, else the system's.
    """
    config = console.load_config(path)
    config = replace(config, hooks=tuple(map(Path, hooks)) or config.hooks or DEFAULT_HOOKS)
    plugins = load(("exec-script",))
    configure(plugins, config)
    return config, plugins


def to_line(step: Step) -> str:
    """Return *step* as a line for people. A payload may be part of it, so nothing of it reaches a terminal raw."""
    what = shlex.join(step.argv) if step.action is Action.RUN else f"{step.name}: {step.reason}"
    line = escape(f"  {step.action:<6} {what}" + (f"; {step.hint}" if step.hint else ""))
    return line.encode(errors="backslashreplace").decode()


def _to_json(found: dict[str, list[Step]]) -> str:
    rows = [{"verb": verb, **asdict(step)} for verb, steps in found.items() for step in steps]
    return "".join(json.dumps(row) + "\n" for row in rows)


def _to_text(verb: str, steps: list[Step]) -> str:
    return "\n".join([f"{verb}:", *(map(to_line, steps) if steps else [NOTHING])]) + "\n"
