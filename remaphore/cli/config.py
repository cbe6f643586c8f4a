"""`remaphore config`: the effective configuration, and TOML from the original's."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

from remaphore.cli import console
from remaphore.cli.options import Options
from remaphore.cli.options.nodes import ConfigConvert, ConfigShow
from remaphore.config.convert import convert
from remaphore.config.settings import DEFAULT_HOOKS
from remaphore.config.show import Setting, settings
from remaphore.logs import escape
from remaphore.receiving.ledger.state import default_root


def run(options: Options) -> int:
    """Do what *options* say; return 0."""
    return _convert(options) if isinstance(options, ConfigConvert) else _show(options)


def _show(options: Options) -> int:
    assert isinstance(options, ConfigShow)
    config = console.load_config(options.config)
    found = settings(config, state_dir=config.state_dir or default_root(os.environ), hooks=DEFAULT_HOOKS)
    sys.stdout.writelines(map(_to_json if options.json else _to_text, found))
    sys.stdout.flush()
    return 0


def _to_json(setting: Setting) -> str:
    return json.dumps(setting._asdict(), default=str) + "\n"


def _to_text(setting: Setting) -> str:
    value = json.dumps(setting.value, ensure_ascii=False, default=str)
    line = f"{setting.key} = {value}  # {setting.origin}"
    return escape(line).encode(errors="backslashreplace").decode() + "\n"


def _convert(options: ConfigConvert) -> int:
    output = Path(options.output or Path(options.file).with_suffix(".toml"))
    made = convert(options.file, output)
    for warning in made.warnings:
        console.say(f"warning: {warning}")
    console.say(f"made: {', '.join(map(str, (made.config, *made.key_files)))}")
    console.say(f"next: remaphore check -c {shlex.quote(str(output))}")
    console.say(f"then delete {options.file}, which holds the private keys still")
    return 0
