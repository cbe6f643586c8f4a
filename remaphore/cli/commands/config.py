"""`remaphore config`: show the effective configuration, or convert a legacy one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remaphore.cli import output

if TYPE_CHECKING:
    from remaphore.cli.arguments import Parser

SUMMARY = "show the effective configuration, or convert a legacy one"
EXAMPLE = """\
remaphore config show
remaphore config convert /etc/remaphore/remaphore.conf"""
EXIT_CODES = {0: "shown or converted"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigShow:
    """Options of config show."""

    config: str | None = None
    json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigConvert:
    """Options of config convert. file: the legacy configuration; output: empty for the same name with .toml."""

    file: str
    output: str = ""


def add_arguments(parser: Parser) -> None:
    """Add the actions and their arguments to *parser*."""
    from remaphore.cli.arguments import add_config, add_json

    parser.description = "Show the effective configuration, or convert a legacy one."
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    shown = actions.add_parser("show", help="show every setting and where its value comes from")
    shown.description = (
        "Show every setting and where its value comes from: a file with the line or the key path, or the default."
        " Secrets are not shown."
    )
    shown.example = "remaphore config show\nremaphore config show | grep '^servers'"
    add_config(shown)
    add_json(shown, "print one JSON object per line: key, value, origin")
    shown.set_defaults(options=ConfigShow)

    converted = actions.add_parser("convert", help="convert a legacy configuration to TOML")
    converted.description = (
        "Convert a configuration of the Go implementation to TOML, and the private keys in it to key files. FILE.conf"
        " is not changed."
    )
    converted.example = "remaphore config convert /etc/remaphore/remaphore.conf"
    converted.add_argument("file", metavar="FILE.conf", help="configuration of the Go implementation")
    converted.add_argument(
        "--output", metavar="FILE.toml", default="", help="file to create (default: FILE.toml next to FILE.conf)"
    )
    converted.set_defaults(options=ConfigConvert)


def run(options: ConfigShow | ConfigConvert) -> int:
    """Show or convert; return 0."""
    if isinstance(options, ConfigConvert):
        convert(options)
    else:
        show(options)
    return 0


def show(options: ConfigShow) -> None:
    """Print the effective configuration."""
    import json
    import os

    from remaphore.cli.configuration import load_config
    from remaphore.config.settings import DEFAULT_HOOKS
    from remaphore.config.show import settings
    from remaphore.receiving.ledger.state import default_root

    config = load_config(options.config)
    found = settings(config, state_dir=config.state_dir or default_root(os.environ), hooks=DEFAULT_HOOKS)
    if options.json:
        output.write_json(*(setting._asdict() for setting in found))
        return
    for setting in found:
        value = json.dumps(setting.value, ensure_ascii=False, default=str)
        output.write(output.printable(f"{setting.key} = {value}  # {setting.origin}") + "\n")


def convert(options: ConfigConvert) -> None:
    """Convert, and report what was created."""
    import shlex
    from pathlib import Path

    from remaphore.cli.configuration import report
    from remaphore.config import convert as conversion

    target = Path(options.output or Path(options.file).with_suffix(".toml"))
    made = conversion.convert(options.file, target)
    report(made.warnings)
    output.notice(f"created: {', '.join(map(str, (made.config, *made.key_files)))}")
    output.notice(f"next: remaphore check -c {shlex.quote(str(target))}")
    output.notice(f"then delete {options.file}, which still contains the private keys")
