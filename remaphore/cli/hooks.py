"""`remaphore hooks`: what would run for a verb, in order, and what is passed over, and why."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from remaphore.cli import console
from remaphore.cli.options import Hooks
from remaphore.cli.run import HOOKS
from remaphore.config.settings import Config
from remaphore.hooks.dispatch import emit_plain
from remaphore.hooks.manager import configure, load
from remaphore.hooks.plan import Action, Step
from remaphore.protocol.message import Message

if TYPE_CHECKING:
    import pluggy

# It stands where the payload of a message would.
PLACEHOLDER = b"<payload>"


def run(options: Hooks) -> int:
    """List; return 0, or 1 if a verb is unsafe and would be refused."""
    config = console.load_config(options.config)
    config = replace(config, hooks=tuple(map(Path, options.hooks)) or config.hooks or HOOKS)
    plugins = load(("exec-script",))
    configure(plugins, config, config.plugins)
    verbs = [options.verb] if options.verb else sorted(_verbs(config))
    found = {verb: list(_plan(plugins, verb)) for verb in verbs}
    sys.stdout.write(_to_json(found) if options.json else "".join(_to_text(verb, found[verb]) for verb in verbs))
    return 1 if any(step.action is Action.UNSAFE for steps in found.values() for step in steps) else 0


def _verbs(config: Config) -> Iterator[str]:
    for folder in config.hooks:
        if folder.is_dir():
            yield from (entry.name for entry in folder.iterdir() if entry.is_dir())


def _plan(plugins: pluggy.PluginManager, verb: str) -> Iterable[Step]:
    message = Message(
        sender="", destination="**", verb=verb, uuid=b"\0", time_ns=0, wants_reply=True, payload=PLACEHOLDER
    )
    for outcome in emit_plain(plugins.hook.remaphore_plan, message=message):
        if outcome.error is not None:
            raise outcome.error
        if isinstance(outcome.result, list):
            yield from outcome.result


def _to_json(found: dict[str, list[Step]]) -> str:
    rows = [{"verb": verb, **asdict(step)} for verb, steps in found.items() for step in steps]
    return "".join(json.dumps(row) + "\n" for row in rows)


def _to_text(verb: str, steps: list[Step]) -> str:
    lines = [f"{verb}:"]
    for step in steps:
        what = shlex.join(step.argv) if step.action is Action.RUN else f"{step.name}: {step.reason}"
        lines.append(f"  {step.action:<6} {what}" + (f"; {step.mend}" if step.mend else ""))
    return "\n".join(lines if steps else [f"{verb}:", "  nothing: a request is answered with 127"]) + "\n"
